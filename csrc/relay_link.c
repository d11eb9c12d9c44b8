/* Theory of operation.
 *
 * A link has two flows. A flow reads from its source only when nothing is
 * pending for its sink, and what the sink does not take at once becomes the one
 * pending buffer: so the memory of a flow is bounded, an idle flow has none, and
 * a sink that is slow slows its source down through TCP.
 *
 * One pump reads once, up to the scratch buffer's size, and stops: epoll is
 * level-triggered and comes back where there is more. That is fair among
 * connections, and a small message costs one read and one write.
 *
 * TLS holds nothing back between two pumps. A read has always room for a whole
 * record, so SSL_read leaves no plaintext inside; and without read-ahead (off by
 * default; pyOpenSSL offers no way to turn it on) OpenSSL never takes bytes of a
 * next record out of the kernel. So whenever there is something to read, epoll
 * knows. Rejected: asking SSL_pending and a list of connections to visit without
 * an event, which by the above would stay empty for ever.
 *
 * The end of a source travels behind its last byte: it is read only when nothing
 * is pending, becomes ENDING, and DONE when the sink has been told (close_notify
 * or FIN). The other flow goes on, as TCP and TLS 1.3 allow ("This does not have
 * any effect on its read side of the connection", RFC 8446, section 6.1).
 *
 * A side that is lost takes no more: the flow to it is DONE, and what was pending
 * is dropped. What it had sent is still delivered: a client's DISCONNECT followed
 * by a reset must not look like a crash to the broker, nor must the reason code
 * of a broker that hangs up be kept from the client. OpenSSL allows no further
 * call after a fatal error, so a client that is lost cannot be read to its end;
 * a broker can.
 *
 * Rejected: a ring buffer a flow, which costs memory for each idle connection
 * and a copy for each message that the sink takes at once, which is nearly all. */
#include "relay_link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "openssl_table.h"

/* "The length MUST NOT exceed 2^14 bytes" (RFC 8446, section 5.1). */
enum { RECORD_MAX = 16384 };
_Static_assert((int)GW_SCRATCH_SIZE >= (int)RECORD_MAX, "a read has room for a whole record");

/* hold keeps a copy of |bytes| for the sink. Returns 1, or 0 without memory. */
static int hold(gw_flow *flow, const uint8_t *bytes, size_t length) {
  flow->pending = malloc(length);
  if (flow->pending == NULL) return 0;
  memcpy(flow->pending, bytes, length);
  flow->at = 0;
  flow->length = length;
  return 1;
}

/* The buffer goes as soon as it is empty, so that an idle link has none. */
static void drop_pending(gw_flow *flow) {
  free(flow->pending);
  flow->pending = NULL;
}

gw_link *gw_link_new(gw_conn *conn, int upstream, uint64_t id, const uint8_t *preface, size_t preface_length) {
  gw_link *link = calloc(1, sizeof *link);
  if (link == NULL || (preface_length > 0 && !hold(&link->flows[GW_IN], preface, preface_length))) {
    free(link);
    return NULL;
  }
  for (int i = 0; i < 2; i++) {
    link->sides[i].link = link;
    link->sides[i].armed = (uint32_t)GW_STALE;
    link->flows[i].source_wants = EPOLLIN;
    link->flows[i].sink_wants = EPOLLOUT;
  }
  link->conn = conn;
  link->upstream = upstream;
  link->id = id;
  link->end = GW_END_NONE;
  return link;
}

void gw_link_free(gw_link *link) {
  if (link == NULL) return;
  drop_pending(&link->flows[GW_IN]);
  drop_pending(&link->flows[GW_OUT]);
  gw_conn_free(link->conn);
  free(link);
}

static int is_connected(int fd) {
  struct sockaddr_storage address;
  socklen_t length = sizeof address;
  return getpeername(fd, (struct sockaddr *)&address, &length) == 0;
}

int gw_link_prepare(gw_link *link) {
  const int on = 1;
  /* Fails on Unix sockets, which do not need it. */
  (void)setsockopt(link->upstream, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return is_connected(link->upstream);
}

void gw_link_cause(gw_link *link, int end, int error, const char *reason) {
  if (link->end == GW_END_NONE) {
    link->end = end;
    link->error = error;
    link->reason = reason;
  }
}

static void give_up(gw_flow *flow) {
  drop_pending(flow);
  flow->state = GW_FLOW_DONE;
}

void gw_link_gone(gw_link *link, int side, int error) {
  gw_link_cause(link, side == GW_CLIENT ? GW_END_CLIENT_LOST : GW_END_BROKER_LOST, error, NULL);
  give_up(&link->flows[1 - side]);
  if (side == GW_CLIENT) {
    link->conn->established = 0; /* the SSL object may only be freed now */
    if (link->flows[GW_IN].state == GW_FLOW_OPEN) link->flows[GW_IN].state = GW_FLOW_ENDING;
  }
}

void gw_link_connected(gw_link *link) {
  int error = 0;
  socklen_t length = sizeof error;
  if (getsockopt(link->upstream, SOL_SOCKET, SO_ERROR, &error, &length) != 0 ||
      (error == 0 && !is_connected(link->upstream))) {
    error = errno;
  }
  if (error != 0) {
    gw_link_cause(link, GW_END_BROKER_REFUSED, error, NULL);
    give_up(&link->flows[GW_IN]);
    give_up(&link->flows[GW_OUT]);
  }
}

/* source_ended notes that a read has found the end of the source, or that the source is lost. */
static void source_ended(gw_link *link, int flow) {
  gw_link_cause(link, flow == GW_IN ? GW_END_CLIENT_CLOSED : GW_END_BROKER_CLOSED, 0, NULL);
  link->flows[flow].state = GW_FLOW_ENDING;
  *(flow == GW_IN ? &link->conn->drained : &link->drained) = 1;
}

/* The client. */

/* tls_waits looks into a call that returned |result|, which is no success. Returns 1 when it is to be made again at
 * |wants|, 0 when that is useless: the client has finished or is lost.
 *
 * The thread's queue of errors is empty before each call, since whoever fails
 * empties it: what SSL_get_error would take for an error of this connection
 * must not be one of another's. */
static int tls_waits(gw_link *link, int result, uint32_t *wants) {
  int error = errno;
  int kind = gw_openssl.SSL_get_error(link->conn->ssl, result);
  if (kind == GW_SSL_ERROR_WANT_READ || kind == GW_SSL_ERROR_WANT_WRITE) {
    *wants = kind == GW_SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT;
    return 1;
  }
  if (kind == GW_SSL_ERROR_ZERO_RETURN) return 0;
  unsigned long code = gw_openssl.ERR_peek_error();
  if ((kind == GW_SSL_ERROR_SSL && code == GW_SSL_UNEXPECTED_EOF) || (kind == GW_SSL_ERROR_SYSCALL && error == 0)) {
    gw_link_cause(link, GW_END_CLIENT_CLOSED, 0, "no close_notify");
  } else if (kind == GW_SSL_ERROR_SSL) {
    const char *reason = gw_openssl.ERR_reason_error_string(code);
    gw_link_cause(link, GW_END_CLIENT_LOST, 0, reason != NULL ? reason : "TLS error");
  }
  gw_openssl.ERR_clear_error();
  gw_link_gone(link, GW_CLIENT, error);
  return 0;
}

/* Where a record was full there is likely another: several go to the broker in
 * one send. After a smaller one, trying again would cost a read for nothing. */
static size_t read_client(gw_link *link, uint8_t *into) {
  gw_flow *flow = &link->flows[GW_IN];
  size_t got = 0;
  int result;
  flow->source_wants = EPOLLIN;
  do {
    errno = 0;
    result = gw_openssl.SSL_read(link->conn->ssl, into + got, (int)(GW_SCRATCH_SIZE - got));
    got += result > 0 ? (size_t)result : 0;
  } while (result == RECORD_MAX && GW_SCRATCH_SIZE - got >= RECORD_MAX);
  if (result <= 0 && !tls_waits(link, result, &flow->source_wants)) source_ended(link, GW_IN);
  return got;
}

static size_t write_client(gw_link *link, uint8_t *bytes, size_t length) {
  gw_flow *flow = &link->flows[GW_OUT];
  size_t taken = 0;
  int result = 1;
  flow->sink_wants = EPOLLOUT;
  while (taken < length && result > 0) {
    errno = 0;
    result = gw_openssl.SSL_write(link->conn->ssl, bytes + taken, (int)(length - taken));
    taken += result > 0 ? (size_t)result : 0;
  }
  if (result <= 0 && !tls_waits(link, result, &flow->sink_wants)) {
    /* After the client's close_notify SSL_get_error takes any failed write for ZERO_RETURN. */
    gw_link_gone(link, GW_CLIENT, EPIPE);
  }
  return taken;
}

/* tell_client returns the state of the flow then: DONE, unless TLS has to wait. */
static gw_flow_state tell_client(gw_link *link) {
  uint32_t *wants = &link->flows[GW_OUT].sink_wants;
  *wants = EPOLLOUT;
  errno = 0;
  int result = gw_openssl.SSL_shutdown(link->conn->ssl);
  return result < 0 && tls_waits(link, result, wants) ? GW_FLOW_ENDING : GW_FLOW_DONE;
}

/* The broker. */

static size_t read_broker(gw_link *link, uint8_t *into) {
  ssize_t result;
  do {
    result = recv(link->upstream, into, GW_SCRATCH_SIZE, MSG_DONTWAIT);
  } while (result < 0 && errno == EINTR);
  if (result < 0 && errno != EAGAIN) {
    gw_link_gone(link, GW_BROKER, errno);
    result = 0;
  }
  if (result == 0) source_ended(link, GW_OUT);
  return result > 0 ? (size_t)result : 0;
}

static size_t write_broker(gw_link *link, const uint8_t *bytes, size_t length) {
  ssize_t result = send(link->upstream, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (result < 0 && errno != EAGAIN && errno != EINTR) gw_link_gone(link, GW_BROKER, errno);
  return result > 0 ? (size_t)result : 0;
}

static gw_flow_state tell_broker(gw_link *link) {
  /* Fails only where the broker has gone, and then it needs no telling. */
  (void)shutdown(link->upstream, SHUT_WR);
  return GW_FLOW_DONE;
}

/* The flows. */

/* deliver hands |bytes|, new or the pending ones, to the sink and keeps what it does not take. A retry of SSL_write
 * starts with the byte that it stopped at, and with no fewer bytes, as OpenSSL asks for. */
static void deliver(gw_link *link, int number, uint8_t *bytes, size_t length) {
  gw_flow *flow = &link->flows[number];
  size_t taken = number == GW_IN ? write_broker(link, bytes, length) : write_client(link, bytes, length);
  link->moved |= taken > 0;
  if (flow->state == GW_FLOW_DONE) return; /* the sink is lost */
  if (taken == length) {
    drop_pending(flow);
  } else if (flow->pending != NULL) {
    flow->at += taken;
  } else if (!hold(flow, bytes + taken, length - taken)) {
    /* Bytes are lost, and so is the connection. */
    gw_link_gone(link, 1 - number, ENOMEM);
    give_up(&link->flows[1 - number]);
  }
}

uint32_t gw_link_wants(const gw_link *link, int flow, int side) {
  const gw_flow *one = &link->flows[flow];
  if (link->phase == GW_CONNECTING) return side == GW_BROKER && flow == GW_IN ? EPOLLOUT : 0;
  if (side == flow) return one->state == GW_FLOW_OPEN && one->pending == NULL ? one->source_wants : 0;
  return one->pending != NULL || one->state == GW_FLOW_ENDING ? one->sink_wants : 0;
}

void gw_link_pump(gw_link *link, int number, uint8_t *scratch) {
  gw_flow *flow = &link->flows[number];
  if (flow->pending != NULL) deliver(link, number, flow->pending + flow->at, flow->length - flow->at);
  if (flow->state == GW_FLOW_OPEN && flow->pending == NULL) {
    size_t length = number == GW_IN ? read_client(link, scratch) : read_broker(link, scratch);
    flow->bytes += length;
    if (length > 0 && flow->state != GW_FLOW_DONE) deliver(link, number, scratch, length);
  }
  if (flow->state == GW_FLOW_ENDING && flow->pending == NULL) {
    flow->state = number == GW_IN ? tell_broker(link) : tell_client(link);
  }
}

void gw_link_close(gw_link *link, uint8_t *scratch) {
  if (link->end != GW_END_BROKER_REFUSED) gw_conn_close(link->conn);
  /* Closing a socket with unread bytes resets the connection, which may destroy
   * what was just sent; so what is there is read first, once. */
  if (!link->drained) {
    (void)shutdown(link->upstream, SHUT_WR);
    (void)recv(link->upstream, scratch, GW_SCRATCH_SIZE, MSG_DONTWAIT);
  }
  (void)close(link->upstream);
  drop_pending(&link->flows[GW_IN]);
  drop_pending(&link->flows[GW_OUT]);
}

void gw_link_tell(gw_link *link, gw_relay_event *event) {
  *event = (gw_relay_event){.id = link->id,
                            .end = link->end,
                            .bytes_in = link->flows[GW_IN].bytes,
                            .bytes_out = link->flows[GW_OUT].bytes,
                            .duration_ms = link->ended_ms - link->adopted_ms,
                            .conn = link->conn,
                            .listener = link->conn->verification.listener};
  const char *detail = link->reason != NULL ? link->reason : link->error != 0 ? strerror(link->error) : "";
  (void)snprintf(event->detail, sizeof event->detail, "%s", detail);
  link->conn = NULL;
}
