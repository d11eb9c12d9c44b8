/* tls_ends.h - both ends of a TLS connection in one test: ours on one socket, OpenSSL's client on the other.
 *
 * One thread steps both ends in turn over non-blocking sockets, so that nothing
 * waits and nothing depends on time. */
#ifndef GW_TLS_ENDS_H
#define GW_TLS_ENDS_H

#include <openssl/err.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "../conn.h"
#include "../counters.h"
#include "pki.h"
#include "system_openssl.h"

/* One gateway: its certificates, rules and context. */
typedef struct {
  identity root, middle, server;
  uint64_t counters[GW_COUNT_TOTAL];
  gw_world *world;
  gw_listener *listener;
  SSL_CTX *context;
} gateway;

/* One client's end, and what it was told. */
typedef struct {
  SSL_CTX *context;
  SSL *ssl;
  int fd;
  int alert;      /* the last that it received, or -1 */
  SSL_SESSION *session; /* the last ticket that it received, owned */
  gw_conn *conn;  /* the gateway's end, until it is freed */
  gw_error error; /* of the gateway's end */
} client;

enum { NO_ALERT = -1, MAX_STEPS = 50 };

static inline void gateway_open(gateway *door, gw_rules rules, int mode) {
  CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
  memset(door, 0, sizeof *door);
  door->root = identity_make("root", "01", NULL, 1);
  door->middle = identity_make("middle", "02", &door->root, 1);
  door->server = identity_make("server", "03", &door->root, 0);
  door->world = gw_world_new(door->counters);
  CHECK(door->world != NULL);
  door->listener = gw_listener_new(door->world, &rules);
  CHECK(door->listener != NULL);
  CHECK(register_ca(door->listener, &door->root, -1) == 0);
  CHECK(register_ca(door->listener, &door->middle, 0) == 1);
  door->context = SSL_CTX_new(TLS_server_method());
  CHECK(door->context != NULL);
  X509_STORE *store = SSL_CTX_get_cert_store(door->context);
  CHECK(X509_STORE_add_cert(store, door->root.certificate) == 1);
  CHECK(X509_STORE_add_cert(store, door->middle.certificate) == 1);
  CHECK(SSL_CTX_use_certificate(door->context, door->server.certificate) == 1);
  CHECK(SSL_CTX_use_PrivateKey(door->context, door->server.key) == 1);
  CHECK(SSL_CTX_set_session_id_context(door->context, (const unsigned char *)"test", 4) == 1);
  gw_listener_arm(door->context, mode);
}

static inline void gateway_close(gateway *door) {
  SSL_CTX_free(door->context);
  gw_listener_free(door->listener);
  gw_world_free(door->world);
  identity_free(&door->server);
  identity_free(&door->middle);
  identity_free(&door->root);
}

/* lists_now puts fresh lists of both CAs in force. */
static inline void lists_now(gateway *door, const char *const *of_root, const char *const *of_middle) {
  int64_t now = time(NULL);
  PUBLISH(door->world, table_make(&door->root, of_root, now - 60, now + 3600),
          table_make(&door->middle, of_middle, now - 60, now + 3600));
}

static inline void note_alert(const SSL *ssl, int where, int value) {
  if ((where & SSL_CB_ALERT) && (where & SSL_CB_READ)) {
    client *end = SSL_get_app_data(ssl);
    end->alert = value & 0xff;
  }
}

/* keep_ticket keeps a copy: freeing its connection may mark the original as not resumable. */
static inline int keep_ticket(SSL *ssl, SSL_SESSION *session) {
  client *end = SSL_get_app_data(ssl);
  SSL_SESSION_free(end->session);
  end->session = SSL_SESSION_dup(session);
  CHECK(end->session != NULL);
  return 0;
}

/* client_begin makes a client on |fd| (non-blocking, the client's from now on) that shows the certificate of
 * |who| (NULL for none) and speaks |version| alone; |resumed| is a session of another, or NULL. */
static inline void client_begin(client *end, int fd, int version, const identity *who, SSL_SESSION *resumed) {
  memset(end, 0, sizeof *end);
  end->alert = NO_ALERT;
  end->fd = fd;
  end->context = SSL_CTX_new(TLS_client_method());
  CHECK(end->context != NULL);
  CHECK(SSL_CTX_set_min_proto_version(end->context, version) == 1);
  CHECK(SSL_CTX_set_max_proto_version(end->context, version) == 1);
  if (who != NULL) {
    CHECK(SSL_CTX_use_certificate(end->context, who->certificate) == 1);
    CHECK(SSL_CTX_use_PrivateKey(end->context, who->key) == 1);
  }
  SSL_CTX_set_session_cache_mode(end->context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(end->context, keep_ticket);
  end->ssl = SSL_new(end->context);
  CHECK(end->ssl != NULL && SSL_set_fd(end->ssl, end->fd) == 1 && SSL_set_app_data(end->ssl, end) == 1);
  if (resumed != NULL) {
    SSL_SESSION *copy = SSL_SESSION_dup(resumed); /* see keep_ticket */
    CHECK(copy != NULL && SSL_set_session(end->ssl, copy) == 1);
    SSL_SESSION_free(copy);
  }
  SSL_set_info_callback(end->ssl, note_alert);
  SSL_set_connect_state(end->ssl);
}

/* client_open connects such a client to |door|, without a network. */
static inline void client_open(client *end, gateway *door, int version, const identity *who, SSL_SESSION *resumed) {
  int fds[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
  client_begin(end, fds[0], version, who, resumed);
  end->conn = gw_conn_new(door->listener, door->context, fds[1], &end->error);
  CHECK(end->conn != NULL);
}

/* client_listen reads what has come, so that tickets and alerts are noticed. Returns what SSL_read returned. */
static inline int client_listen(client *end) {
  char octet;
  ERR_clear_error();
  int result = SSL_read(end->ssl, &octet, 1);
  ERR_clear_error();
  return result;
}

/* client_steps goes as far as the client's socket lets it; its failure shows at our end and in |alert|. */
static inline void client_steps(client *end) {
  ERR_clear_error();
  if (!SSL_is_init_finished(end->ssl)) {
    (void)SSL_do_handshake(end->ssl);
  }
  ERR_clear_error();
}

/* shake steps both ends until ours is done or has failed, and returns which. */
static inline int shake(client *end) {
  int step = GW_HANDSHAKE_WANT_READ;
  for (int i = 0; i < MAX_STEPS && (step == GW_HANDSHAKE_WANT_READ || step == GW_HANDSHAKE_WANT_WRITE); i++) {
    client_steps(end);
    step = gw_conn_handshake(end->conn, &end->error);
  }
  (void)client_listen(end);
  return step;
}

static inline gw_verdict verdict_of(const client *end) { return end->conn->verification.verdict; }

/* client_close closes both ends, ours first, and returns the alert that the client has received. */
static inline int client_close(client *end) {
  gw_conn_free(end->conn);
  if (end->ssl != NULL) {
    (void)client_listen(end);
  }
  SSL_SESSION_free(end->session);
  SSL_free(end->ssl);
  SSL_CTX_free(end->context);
  CHECK(close(end->fd) == 0);
  return end->alert;
}

/* ticket_of lets |who| in once and returns the session that it was given, owned by the caller. */
static inline SSL_SESSION *ticket_of(gateway *door, int version, const identity *who) {
  client end;
  client_open(&end, door, version, who, NULL);
  CHECK(shake(&end) == GW_HANDSHAKE_DONE && end.session != NULL);
  SSL_SESSION *session = end.session;
  end.session = NULL;
  (void)client_close(&end);
  return session;
}

#endif
