/* load_conn.h - one connection of the load generator. */
#ifndef LOAD_CONN_H
#define LOAD_CONN_H

#include <openssl/ssl.h>
#include <stddef.h>
#include <stdint.h>

#include "load_clients.h"
#include "load_options.h"
#include "load_report.h"

/* What all connections share; |options| is the caller's and must live as long. */
typedef struct {
  const load_options *options;
  SSL_CTX *ctx;
  uint8_t *pattern; /* random, |options->bytes| + PATTERN_SPREAD octets */
  int epoll;
  uint32_t opened; /* spreads connections over source addresses */
} conn_shared;

typedef enum {
  CONN_CLOSED,
  CONN_CONNECTING,
  CONN_HANDSHAKE,
  CONN_EXCHANGE, /* a round trip is under way */
  CONN_QUIET,    /* established, nothing under way */
} conn_state;

typedef struct {
  conn_shared *shared;
  uint32_t index; /* the epoll data of its socket */
  conn_state state;
  int fd;
  SSL *ssl;
  const client *client; /* what the next handshake presents; NULL: --cert, or nothing */
  int revoked;          /* |client| must be refused */
  int stays;            /* counted among those that were to stay */
  SSL_SESSION *sessions[2]; /* the newest, of a good client and of a revoked one; kept when the connection closes */
  uint64_t started_ns;      /* of the connect or the round trip; in an open loop when it was due */
  const uint8_t *payload;
  uint32_t rounds;
  size_t sent;
  size_t received;
} conn;

typedef enum { CONN_BLOCKED, CONN_SERVED, CONN_FAILED } conn_step;

/* conn_shared_init makes the TLS context and the pattern; 1, or 0 with a message on stderr.
 * conn_shared_cleanup releases what there is, after all connections are closed. */
int conn_shared_init(conn_shared *shared, const load_options *options, int epoll);
void conn_shared_cleanup(conn_shared *shared);

/* conn_open starts to connect a closed connection, as |conn->client|. Returns 1: events will follow; or 0 with
 * |why|, closed again. */
int conn_open(conn *conn, uint64_t started_ns, failure *why);

/* conn_exchange starts a round trip on a quiet connection. */
void conn_exchange(conn *conn, uint64_t started_ns);

/* conn_advance goes as far as the socket lets it: through connect, handshake
 * and one round trip. Returns CONN_SERVED once when the round trip is verified
 * (the connection is quiet then), CONN_FAILED with |why|, or CONN_BLOCKED. */
conn_step conn_advance(conn *conn, failure *why);

/* conn_close sends close_notify where it can and closes; keeps the session. Closed already is fine. */
void conn_close(conn *conn);

/* conn_cleanup closes and drops the sessions. */
void conn_cleanup(conn *conn);

#endif
