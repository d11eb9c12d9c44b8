/* relay_pair.h - what the tests of the relay share: certificates, a relay, and pairs of a client and a broker.
 *
 * A `pair` has both far ends in the test's hands: the client's TLS and the
 * broker's socket. All waits end after PATIENCE seconds, with a failed CHECK. */
#ifndef GW_RELAY_PAIR_H
#define GW_RELAY_PAIR_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../certificate.h"
#include "../conn.h"
#include "../counters.h"
#include "make_crl.h"
#include "make_table.h"
#include "../relay.h"
#include "system_openssl.h"

enum { PATIENCE = 30, MOST_EVENTS = 1024 };

static const gw_relay_options DEFAULTS = {
    .linger_ms = PATIENCE * 1000, .connect_ms = PATIENCE * 1000, .events_max = MOST_EVENTS};

typedef struct {
  EVP_PKEY *key;
  X509 *ca;
  SSL_CTX *server, *client;
  uint64_t counters[GW_COUNT_TOTAL];
  gw_world *world;
  gw_listener *listener;
  gw_relay *relay;
  gw_conn *told; /* of the last event, to be asked; after GW_END_BROKER_REFUSED the test's, and not here */
} stage;

typedef struct {
  SSL *client;
  int client_fd, broker;
  gw_conn *conn; /* until adopted */
  int upstream;
} pair;

/* --- certificates --- */

/* make_certificate signs one with |serial| by |issuer|, or by itself. All share one key: it costs no time to make. */
static inline X509 *make_certificate(EVP_PKEY *key, long serial, const char *name, X509 *issuer) {
  X509 *made = X509_new();
  CHECK(made != NULL && X509_set_version(made, 2) && ASN1_INTEGER_set(X509_get_serialNumber(made), serial));
  CHECK(X509_gmtime_adj(X509_getm_notBefore(made), -60) != NULL);
  CHECK(X509_gmtime_adj(X509_getm_notAfter(made), 3600) != NULL);
  X509_NAME *subject = X509_get_subject_name(made);
  CHECK(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0));
  CHECK(X509_set_issuer_name(made, issuer != NULL ? X509_get_subject_name(issuer) : subject));
  if (issuer == NULL) {
    X509_EXTENSION *is_ca = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");
    CHECK(is_ca != NULL && X509_add_ext(made, is_ca, -1));
    X509_EXTENSION_free(is_ca);
  }
  CHECK(X509_set_pubkey(made, key) && X509_sign(made, key, EVP_sha256()) > 0);
  return made;
}

static inline void use_certificate(SSL_CTX *ctx, EVP_PKEY *key, X509 *issuer, long serial) {
  X509 *made = make_certificate(key, serial, "end entity", issuer);
  CHECK(SSL_CTX_use_certificate(ctx, made) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1);
  X509_free(made);
}

/* --- the stage --- */

static inline gw_listener *make_listener(stage *on, int check, int disconnect_revoked) {
  gw_rules rules = {.check = check, .on_unavailable = GW_UNAVAILABLE_ACCEPT, .disconnect_revoked = disconnect_revoked};
  gw_listener *made = gw_listener_new(on->world, &rules);
  CHECK(made != NULL);
  CHECK(gw_listener_add_ca(made, on->ca, -1) == 0);
  return made;
}

/* stage_open sets everything up; |version| is the only TLS version spoken. Clients show no certificate and none is
 * looked up, unless |check| says so. */
static inline void stage_open(stage *on, int version, int check, const gw_relay_options *options) {
  memset(on, 0, sizeof *on);
  on->key = EVP_EC_gen("P-256");
  CHECK(on->key != NULL);
  on->ca = make_certificate(on->key, 1, "root", NULL);
  on->server = SSL_CTX_new(TLS_server_method());
  on->client = SSL_CTX_new(TLS_client_method());
  CHECK(on->server != NULL && on->client != NULL);
  SSL_CTX_set_mode(on->server, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                   SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_options(on->server, SSL_OP_NO_RENEGOTIATION);
  use_certificate(on->server, on->key, on->ca, 2);
  CHECK(SSL_CTX_set_min_proto_version(on->client, version) && SSL_CTX_set_max_proto_version(on->client, version));
  on->world = gw_world_new(on->counters);
  CHECK(on->world != NULL);
  on->listener = make_listener(on, check, 1);
  if (check != GW_CHECK_OFF) {
    CHECK(X509_STORE_add_cert(SSL_CTX_get_cert_store(on->server), on->ca) == 1);
    gw_listener_arm(on->server, SSL_VERIFY_PEER);
  }
  gw_error error;
  on->relay = gw_relay_new(on->world, options, &error);
  CHECK(on->relay != NULL);
}

static inline void stage_close(stage *on) {
  gw_relay_stop(on->relay);
  gw_conn_free(on->told);
  CHECK(gw_relay_live(on->relay) == 0 && gw_counted(on->counters, GW_COUNT_LIVE) == 0);
  gw_relay_free(on->relay);
  gw_listener_free(on->listener);
  gw_world_free(on->world);
  SSL_CTX_free(on->server);
  SSL_CTX_free(on->client);
  X509_free(on->ca);
  EVP_PKEY_free(on->key);
}

static inline gw_relay_event next_event(stage *on) {
  gw_relay_event event;
  while (!gw_relay_next_event(on->relay, &event)) {
    struct pollfd waiting = {.fd = gw_relay_event_fd(on->relay), .events = POLLIN};
    CHECK(poll(&waiting, 1, PATIENCE * 1000) == 1);
  }
  gw_conn_free(on->told);
  on->told = event.end == GW_END_BROKER_REFUSED ? NULL : event.conn;
  CHECK(event.conn != NULL && (on->told == NULL || on->told->fd == -1));
  return event;
}

/* --- lists --- */

/* publish_revoked puts a list of the serials from |first| to |last| in force. */
static inline void publish_revoked(stage *on, long first, long last) {
  bytes entries = {0};
  unsigned char *name = NULL, *key = NULL;
  for (long serial = first; serial <= last; serial++) {
    uint8_t octets[] = {(uint8_t)(serial >> 8), (uint8_t)serial};
    entry_add(&entries, octets, 2, "260101000000Z", NULL);
  }
  gw_error error;
  gw_table_meta meta = {.signature = (const uint8_t *)"s", .signature_length = 1, .this_update = time(NULL) - 60,
                        .next_update = time(NULL) + 3600};
  meta.issuer_name_length = (size_t)i2d_X509_NAME(X509_get_subject_name(on->ca), &name);
  meta.issuer_key_length = (size_t)i2d_PUBKEY(on->key, &key);
  meta.issuer_name = name;
  meta.issuer_key = key;
  gw_table *table = table_open(entries.at, entries.length, &meta);
  gw_cover cover = {.issuer = {name, meta.issuer_name_length, key, meta.issuer_key_length}, .reasons = GW_ALL_REASONS,
                    .this_update = meta.this_update, .next_update = meta.next_update, .table = table};
  CHECK(gw_world_publish(on->world, &cover, 1, &error));
  gw_table_free(table);
  OPENSSL_free(name);
  OPENSSL_free(key);
  bytes_free(&entries);
}

/* --- sockets --- */

static inline void set_blocking(int fd, int blocking) {
  int flags = fcntl(fd, F_GETFL);
  CHECK(flags >= 0 && fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK) == 0);
  struct timeval patience = {.tv_sec = PATIENCE};
  CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
  CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0);
}

static inline int loopback_listener(int backlog, struct sockaddr_in *address) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  socklen_t length = sizeof *address;
  *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  CHECK(fd >= 0 && bind(fd, (struct sockaddr *)address, sizeof *address) == 0 && listen(fd, backlog) == 0);
  CHECK(getsockname(fd, (struct sockaddr *)address, &length) == 0);
  return fd;
}

/* tcp_pair makes two connected sockets; |room| is the size of their buffers, 0 for the default. */
static inline void tcp_pair(int fds[2], int room) {
  struct sockaddr_in address;
  int listener = loopback_listener(1, &address);
  fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (room > 0) { /* before connecting, so that the window is small from the start */
    CHECK(setsockopt(fds[0], SOL_SOCKET, SO_RCVBUF, &room, sizeof room) == 0);
    CHECK(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0);
    CHECK(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) == 0);
    CHECK(setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0);
  }
  CHECK(connect(fds[0], (struct sockaddr *)&address, sizeof address) == 0);
  fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  CHECK(fds[1] >= 0);
  close(listener);
}

/* reset makes the kernel send a reset in place of a FIN. */
static inline void reset(int fd) {
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0 && close(fd) == 0);
}

/* --- pairs --- */

/* pair_handshake connects a client to |listener|; |serial| is that of its certificate, 0 for none. */
static inline void pair_handshake(stage *on, pair *with, gw_listener *listener, long serial, int room) {
  int fds[2];
  tcp_pair(fds, room);
  with->client_fd = fds[0];
  set_blocking(fds[0], 0);
  set_blocking(fds[1], 0);
  with->client = SSL_new(on->client);
  CHECK(with->client != NULL && SSL_set_fd(with->client, fds[0]) == 1);
  SSL_set_connect_state(with->client);
  if (serial != 0) {
    X509 *mine = make_certificate(on->key, serial, "device", on->ca);
    CHECK(SSL_use_certificate(with->client, mine) == 1 && SSL_use_PrivateKey(with->client, on->key) == 1);
    X509_free(mine);
  }
  gw_error error;
  with->conn = gw_conn_new(listener, on->server, fds[1], &error);
  CHECK(with->conn != NULL);
  int state = GW_HANDSHAKE_WANT_READ, client = 0;
  while (state != GW_HANDSHAKE_DONE || client != 1) {
    client = SSL_do_handshake(with->client);
    if (state != GW_HANDSHAKE_DONE) {
      state = gw_conn_handshake(with->conn, &error);
      CHECK(state != GW_HANDSHAKE_FAILED);
    }
  }
  set_blocking(with->client_fd, 1);
}

static inline void adopt(stage *on, pair *with, uint64_t id, const char *preface) {
  gw_error error;
  CHECK(gw_relay_adopt(on->relay, with->conn, with->upstream, id, (const uint8_t *)preface, strlen(preface), &error));
  with->conn = NULL;
}

/* pair_broker gives the pair a broker that is connected. */
static inline void pair_broker(pair *with, int room) {
  int fds[2];
  tcp_pair(fds, room);
  with->broker = fds[0];
  with->upstream = fds[1];
  set_blocking(with->broker, 1);
  set_blocking(with->upstream, 0);
}

/* pair_make makes a pair that is not adopted yet. */
static inline void pair_make(stage *on, pair *with, long serial, int room) {
  pair_handshake(on, with, on->listener, serial, room);
  pair_broker(with, room);
}

static inline void pair_open(stage *on, pair *with, uint64_t id) {
  pair_make(on, with, 0, 0);
  adopt(on, with, id, "");
}

static inline void pair_close(pair *with) {
  SSL_free(with->client);
  if (with->client_fd >= 0) {
    close(with->client_fd);
  }
  if (with->broker >= 0) {
    close(with->broker);
  }
}

/* --- saying and hearing --- */

static inline void client_says(pair *with, const void *text, size_t length) {
  CHECK(SSL_write(with->client, text, (int)length) == (int)length);
}

static inline void client_hears(pair *with, const void *text, size_t length) {
  char heard[256];
  CHECK(length <= sizeof heard);
  for (size_t at = 0; at < length;) {
    int got = SSL_read(with->client, heard + at, (int)(length - at));
    CHECK(got > 0);
    at += (size_t)got;
  }
  CHECK(memcmp(heard, text, length) == 0);
}

static inline void client_hears_close_notify(pair *with) {
  char none;
  int got = SSL_read(with->client, &none, 1);
  CHECK(got <= 0 && SSL_get_error(with->client, got) == SSL_ERROR_ZERO_RETURN);
}

static inline void broker_says(pair *with, const void *text, size_t length) {
  CHECK(send(with->broker, text, length, MSG_NOSIGNAL) == (ssize_t)length);
}

static inline void broker_hears(pair *with, const void *text, size_t length) {
  char heard[256];
  CHECK(length <= sizeof heard);
  CHECK(recv(with->broker, heard, length, MSG_WAITALL) == (ssize_t)length);
  CHECK(memcmp(heard, text, length) == 0);
}

static inline void broker_hears_the_end(pair *with) {
  char none;
  CHECK(recv(with->broker, &none, 1, 0) == 0);
}

/* both_ways shows that the pair is relayed. */
static inline void both_ways(pair *with) {
  client_says(with, "ping", 4);
  broker_hears(with, "ping", 4);
  broker_says(with, "pong", 4);
  client_hears(with, "pong", 4);
}

/* is_loopback returns 1 when |peer| is 127.0.0.1 with a port. */
static inline int is_loopback(const gw_peer *peer) {
  struct sockaddr_in address;
  memcpy(&address, peer, sizeof address);
  return address.sin_family == AF_INET && address.sin_addr.s_addr == htonl(INADDR_LOOPBACK) && address.sin_port != 0;
}

#endif
