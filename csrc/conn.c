#include "conn.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "counters.h"

/* How much of what a client still sends is read away before its socket is closed. */
enum { LAST_READ = 65536 };

gw_conn *gw_conn_new(gw_listener *listener, void *ssl_ctx, int fd, gw_error *error) {
  gw_conn *conn = calloc(1, sizeof *conn);
  SSL *ssl = conn == NULL ? NULL : gw_openssl.SSL_new(ssl_ctx);
  if (ssl == NULL || gw_openssl.SSL_set_fd(ssl, fd) != 1) {
    gw_openssl.SSL_free(ssl); /* NULL is fine */
    free(conn);
    (void)gw_fail(error, "no memory, or OpenSSL could not make a connection");
    return NULL;
  }
  gw_openssl.SSL_set_accept_state(ssl);
  conn->ssl = ssl;
  conn->fd = fd;
  socklen_t length = sizeof conn->peer;
  (void)getpeername(fd, (struct sockaddr *)&conn->peer, &length); /* it stays 0 where the client has gone already */
  conn->verification.listener = listener;
  conn->verification.verdict.entry.reason = -1;
  gw_count(gw_listener_rules(listener)->connections, 0, 1);
  return conn;
}

/* A resumed session brings its certificate with it: OpenSSL verifies nothing, we look it up again. */
static void judge_resumed(gw_conn *conn) {
  gw_verification *known = &conn->verification;
  X509 *leaf = gw_openssl.SSL_get_peer_certificate(conn->ssl);
  if (leaf != NULL && gw_listener_rules(known->listener)->check != GW_CHECK_OFF) {
    known->chain = gw_chain_from_leaf(known->listener, leaf);
    if (known->chain == NULL) {
      known->verdict = (gw_verdict){
          .verdict = GW_VERDICT_UNTRUSTED, .error_code = GW_X509_V_ERR_INVALID_EXTENSION, .entry = {.reason = -1}};
    }
    (void)gw_conn_judge(conn); /* which leaves the verdict be where there is no chain */
    gw_verdict_settle(known->listener, &known->verdict);
  }
  gw_openssl.X509_free(leaf); /* NULL is fine */
}

/* Why a handshake has failed: what the lookup said, OpenSSL's reason, or the kernel's. */
static const char *reason_of(const gw_verdict *verdict, int code, int os_error) {
  if (verdict->error_code != 0 && !verdict->let_in) {
    return gw_openssl.X509_verify_cert_error_string(verdict->error_code);
  }
  unsigned long queued = gw_openssl.ERR_peek_error();
  const char *reason = queued == 0 ? NULL : gw_openssl.ERR_reason_error_string(queued);
  if (reason == NULL && code == GW_SSL_ERROR_SYSCALL && os_error != 0) reason = strerror(os_error);
  return reason != NULL ? reason : "the peer closed the connection";
}

int gw_conn_handshake(gw_conn *conn, gw_error *error) {
  const gw_listener *listener = conn->verification.listener;
  gw_openssl.ERR_clear_error();
  errno = 0;
  gw_verify_begin(&conn->verification);
  int result = gw_openssl.SSL_do_handshake(conn->ssl);
  int os_error = errno;
  gw_verify_end();
  if (result == 1) {
    conn->established = 1;
    gw_listener_count(listener, GW_COUNT_HANDSHAKES, 1);
    gw_listener_count(listener, GW_COUNT_TLS12, strcmp(gw_openssl.SSL_get_version(conn->ssl), "TLSv1.2") == 0);
    if (gw_openssl.SSL_session_reused(conn->ssl)) {
      gw_listener_count(listener, GW_COUNT_RESUMED, 1);
      judge_resumed(conn);
    }
    return GW_HANDSHAKE_DONE;
  }
  int code = gw_openssl.SSL_get_error(conn->ssl, result);
  if (code == GW_SSL_ERROR_WANT_READ) return GW_HANDSHAKE_WANT_READ;
  if (code == GW_SSL_ERROR_WANT_WRITE) return GW_HANDSHAKE_WANT_WRITE;
  const gw_verdict *verdict = &conn->verification.verdict;
  (void)gw_fail(error, "%s", reason_of(verdict, code, os_error));
  /* What stays in the thread's queue would be taken for an error of the next call, ours or Python's. */
  gw_openssl.ERR_clear_error();
  if (verdict->verdict == GW_VERDICT_NONE || verdict->verdict == GW_VERDICT_UNTRUSTED || verdict->let_in) {
    gw_listener_count(listener, GW_COUNT_FAILED, 1);
  }
  return GW_HANDSHAKE_FAILED;
}

int gw_conn_judge(gw_conn *conn) {
  gw_verification *known = &conn->verification;
  if (known->chain == NULL) return known->verdict.verdict == GW_VERDICT_NONE;
  gw_snapshot *snapshot = gw_world_snapshot(gw_listener_world(known->listener));
  (void)gw_chain_judge(known->listener, snapshot, known->chain, time(NULL), &known->verdict);
  gw_snapshot_free(snapshot);
  int waits = gw_listener_rules(known->listener)->on_unavailable == GW_UNAVAILABLE_WAIT;
  return known->verdict.verdict == GW_VERDICT_GOOD || (known->verdict.let_in && !waits);
}

int gw_conn_is_clear(const gw_conn *conn) {
  const gw_verdict *verdict = &conn->verification.verdict;
  return conn->established && verdict->verdict <= GW_VERDICT_GOOD && !gw_verdict_open(verdict);
}

void gw_conn_farewell(gw_conn *conn) {
  const int on = 1; /* one segment for close_notify and FIN: a quarter less time, where thousands are told at once */
  (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
  if (conn->established) {
    (void)gw_openssl.SSL_shutdown(conn->ssl);
    gw_openssl.ERR_clear_error(); /* or it would be taken for an error of the next connection */
    conn->established = 0;
  }
  if (!conn->drained) (void)shutdown(conn->fd, SHUT_WR); /* fails only where nobody is left to be told */
}

void gw_conn_close(gw_conn *conn) {
  char last[LAST_READ];
  if (conn->fd < 0) return;
  gw_conn_farewell(conn);
  /* Closing a socket with unread data sends a reset, which overtakes the alert or close_notify just sent: the client
   * would see "connection reset" and no reason. */
  if (!conn->drained) (void)recv(conn->fd, last, sizeof last, MSG_DONTWAIT);
  (void)close(conn->fd);
  conn->fd = -1;
  gw_count(gw_listener_rules(conn->verification.listener)->connections, 0, (uint64_t)-1);
}

void gw_conn_free(gw_conn *conn) {
  if (conn == NULL) return;
  gw_conn_close(conn);
  gw_openssl.SSL_free(conn->ssl);
  gw_chain_free(conn->verification.chain);
  free(conn);
}
