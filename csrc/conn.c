#include "conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "counters.h"

/* How much of what a client still sends is read away before its socket is closed. */
enum { LAST_READS = 16, LAST_READ_SIZE = 4096 };

static uint64_t *counters_of(const gw_conn *conn) {
  return gw_world_counters(gw_listener_world(conn->verification.listener));
}

gw_conn *gw_conn_new(gw_listener *listener, void *ssl_ctx, int fd, gw_error *error) {
  gw_conn *conn = calloc(1, sizeof *conn);
  if (conn == NULL) {
    (void)gw_fail(error, "no memory");
    return NULL;
  }
  conn->ssl = gw_openssl.SSL_new(ssl_ctx);
  if (conn->ssl == NULL || gw_openssl.SSL_set_fd(conn->ssl, fd) != 1) {
    if (conn->ssl != NULL) {
      gw_openssl.SSL_free(conn->ssl);
    }
    free(conn);
    (void)gw_fail(error, "OpenSSL could not make a connection");
    return NULL;
  }
  gw_openssl.SSL_set_accept_state(conn->ssl);
  conn->fd = fd;
  socklen_t length = sizeof conn->peer;
  (void)getpeername(fd, (struct sockaddr *)&conn->peer, &length); /* it stays 0 where the client has gone already */
  conn->verification.listener = listener;
  conn->verification.verdict.entry.reason = -1;
  uint64_t *gauge = gw_listener_rules(listener)->connections;
  if (gauge != NULL) {
    (void)__atomic_fetch_add(gauge, 1, __ATOMIC_RELAXED);
  }
  return conn;
}

/* The client's certificate is kept for the log where the verdict needs explaining. */
static void keep_leaf(gw_conn *conn) {
  gw_verification *verification = &conn->verification;
  int wanted = verification->verdict.verdict != GW_VERDICT_GOOD && verification->verdict.verdict != GW_VERDICT_NONE;
  if (!wanted) {
    free(verification->leaf_der);
    verification->leaf_der = NULL;
    verification->leaf_der_length = 0;
  } else if (verification->leaf_der == NULL) {
    verification->leaf_der = gw_conn_leaf(conn, &verification->leaf_der_length);
  }
}

/* A resumed session brings its certificate with it: OpenSSL verifies nothing, we look it up again. */
static void judge_resumed(gw_conn *conn) {
  gw_verification *verification = &conn->verification;
  if (gw_listener_rules(verification->listener)->check == GW_CHECK_OFF) {
    return;
  }
  X509 *leaf = gw_openssl.SSL_get_peer_certificate(conn->ssl);
  if (leaf == NULL) {
    return;
  }
  verification->chain = gw_chain_from_leaf(verification->listener, leaf);
  gw_openssl.X509_free(leaf);
  if (verification->chain == NULL) {
    verification->verdict = (gw_verdict){
        .verdict = GW_VERDICT_UNTRUSTED, .error_code = GW_X509_V_ERR_OUT_OF_MEM, .entry = {.reason = -1}};
    keep_leaf(conn);
    return;
  }
  (void)gw_conn_judge(conn);
  gw_verdict_count(verification->listener, &verification->verdict);
}

static void explain(gw_conn *conn, int code, int os_error, gw_error *error) {
  unsigned long queued = gw_openssl.ERR_peek_error();
  const char *reason = queued == 0 ? NULL : gw_openssl.ERR_reason_error_string(queued);
  const gw_verdict *verdict = &conn->verification.verdict;
  if (verdict->error_code != 0 && !verdict->let_in) {
    reason = gw_openssl.X509_verify_cert_error_string(verdict->error_code);
  }
  if (reason == NULL) {
    reason = code == GW_SSL_ERROR_SYSCALL && os_error != 0 ? strerror(os_error) : "the peer closed the connection";
  }
  (void)gw_fail(error, "%s", reason);
}

int gw_conn_handshake(gw_conn *conn, gw_error *error) {
  gw_openssl.ERR_clear_error();
  errno = 0;
  gw_verify_begin(&conn->verification);
  int result = gw_openssl.SSL_do_handshake(conn->ssl);
  int os_error = errno;
  gw_verify_end();
  if (result == 1) {
    conn->established = 1;
    gw_count(counters_of(conn), GW_COUNT_HANDSHAKES, 1);
    if (gw_openssl.SSL_session_reused(conn->ssl)) {
      gw_count(counters_of(conn), GW_COUNT_RESUMED, 1);
      judge_resumed(conn);
    }
    return GW_HANDSHAKE_DONE;
  }
  int code = gw_openssl.SSL_get_error(conn->ssl, result);
  if (code == GW_SSL_ERROR_WANT_READ) {
    return GW_HANDSHAKE_WANT_READ;
  }
  if (code == GW_SSL_ERROR_WANT_WRITE) {
    return GW_HANDSHAKE_WANT_WRITE;
  }
  explain(conn, code, os_error, error);
  /* What stays in the thread's queue would be taken for an error of the next call, ours or Python's. */
  gw_openssl.ERR_clear_error();
  const gw_verdict *verdict = &conn->verification.verdict;
  if (verdict->verdict == GW_VERDICT_NONE || verdict->verdict == GW_VERDICT_UNTRUSTED || verdict->let_in) {
    gw_count(counters_of(conn), GW_COUNT_FAILED, 1);
  }
  return GW_HANDSHAKE_FAILED;
}

int gw_conn_judge(gw_conn *conn) {
  gw_verification *verification = &conn->verification;
  if (verification->chain == NULL) {
    return verification->verdict.verdict == GW_VERDICT_NONE;
  }
  const gw_listener *listener = verification->listener;
  gw_snapshot *snapshot = gw_world_snapshot(gw_listener_world(listener));
  (void)gw_chain_judge(listener, snapshot, verification->chain, time(NULL), &verification->verdict);
  gw_snapshot_free(snapshot);
  keep_leaf(conn);
  return verification->verdict.verdict == GW_VERDICT_GOOD ||
         (verification->verdict.let_in && gw_listener_rules(listener)->on_unavailable == GW_UNAVAILABLE_ACCEPT);
}

void gw_conn_get_info(gw_conn *conn, gw_conn_info *info) {
  const gw_verification *verification = &conn->verification;
  *info = (gw_conn_info){
      .verdict = verification->verdict,
      .resumed = gw_openssl.SSL_session_reused(conn->ssl),
      .version = gw_openssl.SSL_get_version(conn->ssl),
      .error_string = gw_openssl.X509_verify_cert_error_string(verification->verdict.error_code),
      .leaf_der = verification->leaf_der,
      .leaf_der_length = verification->leaf_der_length,
  };
}

uint8_t *gw_conn_leaf(gw_conn *conn, size_t *length) {
  X509 *leaf = gw_openssl.SSL_get_peer_certificate(conn->ssl);
  if (leaf == NULL) {
    return NULL;
  }
  uint8_t *der = gw_x509_der(leaf, length);
  gw_openssl.X509_free(leaf);
  return der;
}

void gw_free(void *memory) { free(memory); }

void gw_conn_peer(const gw_conn *conn, gw_peer *peer) { *peer = conn->peer; }

/* Closing a socket with unread data sends a reset, which overtakes the alert or
 * close_notify just sent: the client would see "connection reset" and no reason. */
static void close_softly(int fd, int drained) {
  char last[LAST_READ_SIZE];
  if (!drained && shutdown(fd, SHUT_WR) == 0) {
    for (int i = 0; i < LAST_READS && recv(fd, last, sizeof last, MSG_DONTWAIT) > 0; i++) {
    }
  }
  (void)close(fd);
}

void gw_conn_close(gw_conn *conn) {
  if (conn->ssl == NULL) {
    return;
  }
  if (conn->established) {
    (void)gw_openssl.SSL_shutdown(conn->ssl);
    gw_openssl.ERR_clear_error(); /* or it would be taken for an error of the next connection */
  }
  gw_openssl.SSL_free(conn->ssl);
  conn->ssl = NULL;
  close_softly(conn->fd, conn->drained);
  uint64_t *gauge = gw_listener_rules(conn->verification.listener)->connections;
  if (gauge != NULL) {
    (void)__atomic_fetch_sub(gauge, 1, __ATOMIC_RELAXED);
  }
}

void gw_conn_free(gw_conn *conn) {
  if (conn != NULL) {
    gw_conn_close(conn);
    gw_chain_free(conn->verification.chain);
    free(conn->verification.leaf_der);
    free(conn);
  }
}
