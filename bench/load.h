/* load.h - the parts of the load generator that its files share.
 *
 * One thread, one epoll, non-blocking sockets, the system's OpenSSL. It shares
 * no code with the gateway: what it says of a server is a second opinion.
 *   load.c          phases, event loop
 *   load_options.c  command line
 *   load_conn.c     one connection: connect, handshake, verified round trips
 *   load_report.c   latencies, failures by kind, the JSON line */
#ifndef LOAD_H
#define LOAD_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum {
  MODE_HANDSHAKES, /* connect, handshake, one round trip, close; again */
  MODE_ECHO,       /* round trips over connections that stay */
  MODE_IDLE,       /* connections that stay and do nothing */
} load_mode;

typedef struct {
  load_mode mode;
  const char *mode_name;
  struct sockaddr_in target;
  const char *ca;   /* PEM file, verifies the server */
  const char *cert; /* PEM file with the client's chain, or NULL */
  const char *key;  /* PEM file, NULL exactly when |cert| is */
  int tls_version;  /* TLS1_2_VERSION, TLS1_3_VERSION, or 0 for what both sides like best */
  int resume;       /* offer the last session of the same connection */
  uint32_t connections;
  uint64_t count;   /* stop after that many, failures included; 0: no bound */
  uint64_t run_ns;  /* stop after that long; 0: no bound */
  uint64_t wait_ns; /* one handshake or round trip fails after that long */
  size_t bytes;     /* in one round trip */
} load_options;

/* ---- load_report.c ---- */

typedef enum {
  FAIL_CONNECT, /* refused or unreachable */
  FAIL_NO_PORT, /* this machine has no source port or descriptor left */
  FAIL_TIMEOUT,
  FAIL_RESET,
  FAIL_CLOSED, /* end of stream, with close_notify or without */
  FAIL_TLS,    /* our side of TLS refused: the server's certificate, the protocol */
  FAIL_BYTES,  /* other bytes came back than were sent */
  FAIL_ALERT,  /* the server sent an alert */
  FAIL_KINDS,
} fail_kind;

typedef struct {
  fail_kind kind;
  uint8_t alert; /* AlertDescription (RFC 8446, section 6), for FAIL_ALERT */
} failure;

/* Buckets of 1/64 of a power of two: a percentile is at most 1.6 % off, at any length of run. */
enum { HISTOGRAM_SUB_BITS = 6, HISTOGRAM_BUCKETS = (64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS };

typedef struct {
  uint64_t done;
  uint64_t resumed;
  uint64_t failed;
  uint64_t by_kind[FAIL_KINDS];
  uint64_t by_alert[256];
  uint64_t latency[HISTOGRAM_BUCKETS];
  uint64_t worst_ns;
} report;

/* report_done counts one that was served |ns| after its start. */
void report_done(report *report, uint64_t ns, int resumed);

/* report_failure counts one that failed. */
void report_failure(report *report, failure why);

/* report_percentile returns the latency in ns that |share| (0 to 1) of those served did not exceed. */
uint64_t report_percentile(const report *report, double share);

/* report_print writes the result as one line of JSON and flushes. Returns 1, or 0 when it cannot be written. */
int report_print(FILE *out, const report *report, const load_options *options, double seconds, double cpu_seconds);

/* report_print_ready writes the line that says that the preparation is over. Returns as report_print. */
int report_print_ready(FILE *out, const report *report, uint32_t ready);

/* ---- load_conn.c ---- */

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
  SSL_SESSION *session; /* the newest, kept when the connection closes */
  uint64_t started_ns;  /* of the connect, or of the round trip */
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

/* conn_open starts to connect a closed connection. Returns 1: events will follow; or 0 with |why|, closed again. */
int conn_open(conn *conn, uint64_t now_ns, failure *why);

/* conn_exchange starts a round trip on a quiet connection. */
void conn_exchange(conn *conn, uint64_t now_ns);

/* conn_advance goes as far as the socket lets it: through connect, handshake
 * and one round trip. Returns CONN_SERVED once when the round trip is verified
 * (the connection is quiet then), CONN_FAILED with |why|, or CONN_BLOCKED. */
conn_step conn_advance(conn *conn, failure *why);

/* conn_close sends close_notify where it can and closes; keeps the session. Closed already is fine. */
void conn_close(conn *conn);

/* conn_cleanup closes and drops the session. */
void conn_cleanup(conn *conn);

#endif
