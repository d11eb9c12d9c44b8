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

typedef enum { MOVED, BLOCKED, FINISHED, LOST } outcome;

gw_link *gw_link_new(gw_conn *conn, int upstream, uint64_t id, const uint8_t *preface, size_t preface_length) {
  gw_link *link = calloc(1, sizeof *link);
  if (link == NULL) {
    return NULL;
  }
  gw_flow *in = &link->flows[GW_IN];
  if (preface_length > 0) {
    in->pending = malloc(preface_length);
    if (in->pending == NULL) {
      free(link);
      return NULL;
    }
    memcpy(in->pending, preface, preface_length);
    in->length = preface_length;
  }
  for (int i = 0; i < 2; i++) {
    link->sides[i].link = link;
    link->flows[i].source_wants = EPOLLIN;
    link->flows[i].sink_wants = EPOLLOUT;
  }
  link->conn = conn;
  link->upstream = upstream;
  link->id = id;
  link->end = GW_END_NONE;
  return link;
}

/* The buffer goes as soon as it is empty, so that an idle link has none. */
static void drop_pending(gw_flow *flow) {
  free(flow->pending);
  flow->pending = NULL;
  flow->at = flow->length = 0;
}

void gw_link_free(gw_link *link) {
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

void gw_link_prepare(gw_link *link) {
  const int on = 1;
  /* Fails on Unix sockets, which do not need it. */
  (void)setsockopt(link->upstream, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  link->connecting = !is_connected(link->upstream);
}

int gw_link_connected(gw_link *link) {
  int error = 0;
  socklen_t length = sizeof error;
  if (getsockopt(link->upstream, SOL_SOCKET, SO_ERROR, &error, &length) != 0) {
    error = errno;
  }
  if (error == 0 && !is_connected(link->upstream)) {
    error = errno;
  }
  if (error != 0) {
    gw_link_cause(link, GW_END_BROKER_REFUSED, error, NULL);
    return 0;
  }
  link->connecting = 0;
  return 1;
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

static void end_source(gw_flow *flow) {
  if (flow->state == GW_FLOW_OPEN) {
    flow->state = GW_FLOW_ENDING;
  }
}

/* After this the SSL object may only be freed. */
static void client_lost(gw_link *link) {
  link->conn->established = 0;
  give_up(&link->flows[GW_OUT]);
  end_source(&link->flows[GW_IN]);
}

void gw_link_gone(gw_link *link, int side, int error) {
  gw_link_cause(link, side == GW_CLIENT ? GW_END_CLIENT_LOST : GW_END_BROKER_LOST, error, NULL);
  if (side == GW_CLIENT) {
    client_lost(link);
  } else {
    give_up(&link->flows[GW_IN]);
  }
}

/* Without memory for what a sink did not take, bytes are lost, and so is the connection. */
static void out_of_memory(gw_link *link, int flow) {
  gw_link_gone(link, 1 - flow, ENOMEM);
  give_up(&link->flows[GW_IN]);
  give_up(&link->flows[GW_OUT]);
}

static void tls_failed(gw_link *link, int kind, int error) {
  unsigned long code = gw_openssl.ERR_peek_error();
  if ((kind == GW_SSL_ERROR_SSL && code == GW_SSL_UNEXPECTED_EOF) || (kind == GW_SSL_ERROR_SYSCALL && error == 0)) {
    gw_link_cause(link, GW_END_CLIENT_CLOSED, 0, "no close_notify");
  } else if (kind == GW_SSL_ERROR_SSL) {
    const char *reason = gw_openssl.ERR_reason_error_string(code);
    gw_link_cause(link, GW_END_CLIENT_LOST, 0, reason != NULL ? reason : "TLS error");
  } else {
    gw_link_cause(link, GW_END_CLIENT_LOST, error, NULL);
  }
  gw_openssl.ERR_clear_error();
  client_lost(link);
}

/* The thread's queue of errors is empty before each call, since whoever fails
 * empties it: what SSL_get_error would take for an error of this connection
 * must not be one of another's.
 *
 * after_tls says what a call that returned |result| came to; |wants| gets what it waits for. */
static outcome after_tls(gw_link *link, int result, uint32_t *wants) {
  int error = errno;
  int kind = gw_openssl.SSL_get_error(link->conn->ssl, result);
  switch (kind) {
    case GW_SSL_ERROR_WANT_READ:
      *wants = EPOLLIN;
      return BLOCKED;
    case GW_SSL_ERROR_WANT_WRITE:
      *wants = EPOLLOUT;
      return BLOCKED;
    case GW_SSL_ERROR_ZERO_RETURN:
      return FINISHED;
    default:
      tls_failed(link, kind, error);
      return LOST;
  }
}

static outcome read_client(gw_link *link, uint8_t *into, size_t room, size_t *got) {
  gw_flow *flow = &link->flows[GW_IN];
  flow->source_wants = EPOLLIN;
  errno = 0;
  int result = gw_openssl.SSL_read(link->conn->ssl, into, (int)room);
  *got = result > 0 ? (size_t)result : 0;
  return result > 0 ? MOVED : after_tls(link, result, &flow->source_wants);
}

/* Where a record was full there is likely another: several go to the broker in
 * one send. After a smaller one, trying again would cost a read for nothing. */
static outcome read_client_records(gw_link *link, uint8_t *into, size_t *got) {
  size_t record;
  outcome result;
  *got = 0;
  do {
    result = read_client(link, into + *got, GW_SCRATCH_SIZE - *got, &record);
    *got += record;
  } while (record == RECORD_MAX && GW_SCRATCH_SIZE - *got >= RECORD_MAX);
  return result;
}

static outcome read_broker(gw_link *link, uint8_t *into, size_t *got) {
  ssize_t result;
  do {
    result = recv(link->upstream, into, GW_SCRATCH_SIZE, MSG_DONTWAIT);
  } while (result < 0 && errno == EINTR);
  *got = result > 0 ? (size_t)result : 0;
  if (result >= 0) {
    return result > 0 ? MOVED : FINISHED;
  }
  if (errno == EAGAIN) {
    return BLOCKED;
  }
  gw_link_gone(link, GW_BROKER, errno);
  return LOST;
}

static outcome write_client(gw_link *link, uint8_t *bytes, size_t length, size_t *taken) {
  gw_flow *flow = &link->flows[GW_OUT];
  *taken = 0;
  while (*taken < length) {
    flow->sink_wants = EPOLLOUT;
    errno = 0;
    int result = gw_openssl.SSL_write(link->conn->ssl, bytes + *taken, (int)(length - *taken));
    if (result > 0) {
      *taken += (size_t)result;
      continue;
    }
    outcome came_to = after_tls(link, result, &flow->sink_wants);
    if (came_to == FINISHED) {
      /* After the client's close_notify SSL_get_error takes any failed write for ZERO_RETURN. */
      gw_link_gone(link, GW_CLIENT, EPIPE);
    }
    return came_to == BLOCKED ? BLOCKED : LOST;
  }
  return MOVED;
}

static outcome write_broker(gw_link *link, const uint8_t *bytes, size_t length, size_t *taken) {
  ssize_t result = send(link->upstream, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  *taken = result > 0 ? (size_t)result : 0;
  if (result >= 0) {
    return *taken == length ? MOVED : BLOCKED;
  }
  if (errno == EAGAIN || errno == EINTR) {
    return BLOCKED;
  }
  gw_link_gone(link, GW_BROKER, errno);
  return LOST;
}

static outcome write_sink(gw_link *link, int flow, uint8_t *bytes, size_t length, size_t *taken) {
  outcome result =
      flow == GW_IN ? write_broker(link, bytes, length, taken) : write_client(link, bytes, length, taken);
  link->moved |= *taken > 0;
  return result;
}

/* fill reads once; the flow has ended afterwards where the source has. */
static size_t fill(gw_link *link, int flow, uint8_t *scratch) {
  size_t got;
  outcome result = flow == GW_IN ? read_client_records(link, scratch, &got) : read_broker(link, scratch, &got);
  if (result == FINISHED || result == LOST) {
    gw_link_cause(link, flow == GW_IN ? GW_END_CLIENT_CLOSED : GW_END_BROKER_CLOSED, 0, NULL);
    end_source(&link->flows[flow]);
    *(flow == GW_IN ? &link->conn->drained : &link->drained) = 1;
  }
  link->flows[flow].bytes += got;
  return got;
}

/* deliver hands |bytes| to the sink and keeps what it does not take. */
static void deliver(gw_link *link, int number, uint8_t *bytes, size_t length) {
  gw_flow *flow = &link->flows[number];
  size_t taken;
  if (write_sink(link, number, bytes, length, &taken) != BLOCKED) {
    return;
  }
  flow->pending = malloc(length - taken);
  if (flow->pending == NULL) {
    out_of_memory(link, number);
    return;
  }
  memcpy(flow->pending, bytes + taken, length - taken);
  flow->at = 0;
  flow->length = length - taken;
}

/* flush returns 1 when nothing is pending any more. A retry of SSL_write starts
 * with the byte that it stopped at, and with no fewer bytes, as OpenSSL asks for. */
static int flush(gw_link *link, int number) {
  gw_flow *flow = &link->flows[number];
  size_t taken;
  if (flow->pending == NULL) {
    return 1;
  }
  outcome result = write_sink(link, number, flow->pending + flow->at, flow->length - flow->at, &taken);
  if (result == MOVED) {
    drop_pending(flow);
  } else if (result == BLOCKED) {
    flow->at += taken;
  }
  return result == MOVED;
}

static void tell_broker(gw_link *link) {
  /* Fails only where the broker has gone, and then it needs no telling. */
  (void)shutdown(link->upstream, SHUT_WR);
  link->flows[GW_IN].state = GW_FLOW_DONE;
}

static void tell_client(gw_link *link) {
  gw_flow *flow = &link->flows[GW_OUT];
  flow->sink_wants = EPOLLOUT;
  errno = 0;
  int result = gw_openssl.SSL_shutdown(link->conn->ssl);
  if (result >= 0 || after_tls(link, result, &flow->sink_wants) == FINISHED) {
    flow->state = GW_FLOW_DONE;
  }
}

uint32_t gw_link_wants(const gw_link *link, int flow, int side) {
  const gw_flow *one = &link->flows[flow];
  if (link->connecting) {
    return side == GW_BROKER && flow == GW_IN ? EPOLLOUT : 0;
  }
  if (side == flow) {
    return one->state == GW_FLOW_OPEN && one->pending == NULL ? one->source_wants : 0;
  }
  return one->pending != NULL || one->state == GW_FLOW_ENDING ? one->sink_wants : 0;
}

void gw_link_pump(gw_link *link, int number, uint8_t *scratch) {
  gw_flow *flow = &link->flows[number];
  if (!flush(link, number)) {
    return;
  }
  if (flow->state == GW_FLOW_OPEN) {
    size_t length = fill(link, number, scratch);
    if (length > 0 && flow->state != GW_FLOW_DONE) {
      deliver(link, number, scratch, length);
    }
  }
  if (flow->state == GW_FLOW_ENDING && flow->pending == NULL) {
    if (number == GW_IN) {
      tell_broker(link);
    } else {
      tell_client(link);
    }
  }
}

int gw_link_done(const gw_link *link) {
  return link->flows[GW_IN].state == GW_FLOW_DONE && link->flows[GW_OUT].state == GW_FLOW_DONE;
}

void gw_link_farewell(gw_link *link) {
  if (link->conn->established) {
    (void)gw_openssl.SSL_shutdown(link->conn->ssl);
    gw_openssl.ERR_clear_error();
    link->conn->established = 0; /* so that gw_conn_free does not do it again */
  }
}

/* Closing a socket with unread bytes resets the connection, which may destroy
 * what was just sent; so what is there is read first, once. */
static void close_upstream(gw_link *link, uint8_t *scratch) {
  if (!link->drained) {
    (void)shutdown(link->upstream, SHUT_WR);
    (void)recv(link->upstream, scratch, GW_SCRATCH_SIZE, MSG_DONTWAIT);
  }
  (void)close(link->upstream);
}

void gw_link_close(gw_link *link, uint8_t *scratch) {
  if (link->end != GW_END_BROKER_REFUSED) {
    gw_conn_close(link->conn);
  }
  close_upstream(link, scratch);
  drop_pending(&link->flows[GW_IN]);
  drop_pending(&link->flows[GW_OUT]);
}

void gw_link_tell(gw_link *link, gw_relay_event *event) {
  gw_conn *conn = link->conn;
  *event = (gw_relay_event){.id = link->id,
                            .end = link->end,
                            .bytes_in = link->flows[GW_IN].bytes,
                            .bytes_out = link->flows[GW_OUT].bytes,
                            .duration_ms = link->ended_ms - link->adopted_ms,
                            .verdict = conn->verification.verdict,
                            .listener = conn->verification.listener};
  gw_conn_peer(conn, &event->peer);
  const char *detail = link->reason != NULL ? link->reason : link->error != 0 ? strerror(link->error) : "";
  (void)snprintf(event->detail, sizeof event->detail, "%s", detail);
  if (link->end == GW_END_BROKER_REFUSED) {
    event->conn = conn;
    link->conn = NULL;
  } else if (link->end == GW_END_REVOKED) {
    event->leaf_der = conn->verification.leaf_der;
    event->leaf_der_length = conn->verification.leaf_der_length;
    conn->verification.leaf_der = NULL;
  }
}
