/* load_conn.c - one connection of the load generator.
 *
 * Sockets are registered once, edge-triggered for both directions, so a step
 * always goes on until the socket blocks; there is no epoll_ctl per message. */
#include "load_conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
  PATTERN_SPREAD = 4096,  /* round trips start at different places of the pattern */
  SOURCE_ADDRESSES = 16,  /* one source address has some 28,000 ports towards one target */
  READ_CHUNK = 64 * 1024, /* four records */
};

/* The name that the server's certificate must carry. */
static const char server_name[] = "localhost";

static int print_openssl_errors(const char *what) {
  fprintf(stderr, "load: %s\n", what);
  ERR_print_errors_fp(stderr);
  return 0;
}

static int remember_session(SSL *ssl, SSL_SESSION *session) {
  conn *conn = SSL_get_app_data(ssl);
  SSL_SESSION **kept = &conn->sessions[conn->revoked];
  SSL_SESSION_free(*kept);
  *kept = session;
  return 1; /* the reference is ours now */
}

static int load_files(SSL_CTX *ctx, const load_options *options) {
  if (SSL_CTX_load_verify_locations(ctx, options->ca, NULL) != 1) {
    return print_openssl_errors("--ca cannot be used");
  }
  if (options->cert == NULL) {
    return 1;
  }
  if (SSL_CTX_use_certificate_chain_file(ctx, options->cert) != 1 ||
      SSL_CTX_use_PrivateKey_file(ctx, options->key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
    return print_openssl_errors("--cert and --key cannot be used");
  }
  return 1;
}

static SSL_CTX *make_context(const load_options *options) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
  if (ctx == NULL) {
    print_openssl_errors("no TLS context");
    return NULL;
  }
  int lowest = options->tls_version != 0 ? options->tls_version : TLS1_2_VERSION;
  if (SSL_CTX_set_min_proto_version(ctx, lowest) != 1 ||
      SSL_CTX_set_max_proto_version(ctx, options->tls_version) != 1 || !load_files(ctx, options)) {
    SSL_CTX_free(ctx);
    return NULL;
  }
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
  SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(ctx, 1);
  if (options->resume) {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, remember_session);
  } else {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  }
  return ctx;
}

int conn_shared_init(conn_shared *shared, const load_options *options, int epoll) {
  *shared = (conn_shared){.options = options, .epoll = epoll};
  size_t length = options->bytes + PATTERN_SPREAD;
  shared->pattern = malloc(length);
  if (shared->pattern == NULL || RAND_bytes(shared->pattern, (int)length) != 1) {
    fputs("load: no memory for the pattern\n", stderr);
    return 0;
  }
  shared->ctx = make_context(options);
  return shared->ctx != NULL;
}

void conn_shared_cleanup(conn_shared *shared) {
  SSL_CTX_free(shared->ctx);
  free(shared->pattern);
}

static failure classify_errno(int code) {
  switch (code) {
    case ECONNRESET:
    case EPIPE:
      return (failure){.kind = FAIL_RESET};
    case EADDRNOTAVAIL:
    case EADDRINUSE:
    case EMFILE:
    case ENFILE:
      return (failure){.kind = FAIL_NO_PORT};
    case ETIMEDOUT:
      return (failure){.kind = FAIL_TIMEOUT};
    default:
      return (failure){.kind = FAIL_CONNECT};
  }
}

static failure classify_tls(void) {
  int reason = ERR_GET_REASON(ERR_peek_error());
  if (reason > SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + UINT8_MAX) {
    return (failure){.kind = FAIL_ALERT, .alert = (uint8_t)(reason - SSL_AD_REASON_OFFSET)};
  }
  if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
    return (failure){.kind = FAIL_CLOSED};
  }
  return (failure){.kind = FAIL_TLS};
}

/* Why an SSL_… call did not succeed: CONN_BLOCKED, or CONN_FAILED with |why|. */
static conn_step explain(const SSL *ssl, int result, failure *why) {
  switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
      return CONN_BLOCKED;
    case SSL_ERROR_ZERO_RETURN:
      *why = (failure){.kind = FAIL_CLOSED};
      return CONN_FAILED;
    case SSL_ERROR_SYSCALL:
      *why = errno == 0 ? (failure){.kind = FAIL_CLOSED} : classify_errno(errno);
      return CONN_FAILED;
    default:
      *why = classify_tls();
      return CONN_FAILED;
  }
}

static int use_client(SSL *ssl, const client *client) {
  return client == NULL || (SSL_use_certificate(ssl, client->cert) == 1 && SSL_use_PrivateKey(ssl, client->key) == 1);
}

static int start_tls(conn *conn) {
  SSL_SESSION *session = conn->sessions[conn->revoked];
  SSL *ssl = SSL_new(conn->shared->ctx);
  if (ssl == NULL) {
    return 0;
  }
  if (SSL_set_fd(ssl, conn->fd) != 1 || SSL_set_tlsext_host_name(ssl, server_name) != 1 ||
      SSL_set1_host(ssl, server_name) != 1 || !use_client(ssl, conn->client) ||
      (session != NULL && SSL_set_session(ssl, session) != 1)) {
    SSL_free(ssl);
    return 0;
  }
  SSL_set_app_data(ssl, conn);
  SSL_set_connect_state(ssl);
  conn->ssl = ssl;
  return 1;
}

/* On loopback the source address rotates, so that ports last for any number of connections. */
static int bind_source(int fd, conn_shared *shared) {
  uint32_t target = ntohl(shared->options->target.sin_addr.s_addr);
  if (target >> 24 != 127) {
    return 1;
  }
  struct sockaddr_in source = {.sin_family = AF_INET};
  source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + shared->opened++ % SOURCE_ADDRESSES);
  int on = 1;
  return setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) == 0 &&
         bind(fd, (const struct sockaddr *)&source, sizeof source) == 0;
}

static int start_connect(conn *conn) {
  conn_shared *shared = conn->shared;
  const struct sockaddr_in *target = &shared->options->target;
  int on = 1;
  if (!bind_source(conn->fd, shared) || setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
    return 0;
  }
  if (connect(conn->fd, (const struct sockaddr *)target, sizeof *target) != 0 && errno != EINPROGRESS) {
    return 0;
  }
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u32 = conn->index};
  return epoll_ctl(shared->epoll, EPOLL_CTL_ADD, conn->fd, &event) == 0;
}

int conn_open(conn *conn, uint64_t started_ns, failure *why) {
  conn->started_ns = started_ns;
  conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (conn->fd < 0) {
    *why = classify_errno(errno);
    return 0;
  }
  conn->state = CONN_CONNECTING;
  if (!start_connect(conn)) {
    *why = classify_errno(errno);
    conn_close(conn);
    return 0;
  }
  if (!start_tls(conn)) {
    *why = (failure){.kind = FAIL_TLS};
    conn_close(conn);
    return 0;
  }
  return 1;
}

static void start_round(conn *conn) {
  uint32_t offset = (conn->index * 257U + conn->rounds++ * 31U) % PATTERN_SPREAD;
  conn->payload = conn->shared->pattern + offset;
  conn->sent = 0;
  conn->received = 0;
  conn->state = CONN_EXCHANGE;
}

void conn_exchange(conn *conn, uint64_t started_ns) {
  conn->started_ns = started_ns;
  start_round(conn);
}

static conn_step finish_connect(conn *conn, failure *why) {
  int code = 0;
  socklen_t length = sizeof code;
  if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &code, &length) != 0) {
    code = errno;
  }
  if (code != 0) {
    *why = classify_errno(code);
    return CONN_FAILED;
  }
  conn->state = CONN_HANDSHAKE;
  return CONN_SERVED;
}

static conn_step do_handshake(conn *conn, failure *why) {
  int result = SSL_do_handshake(conn->ssl);
  if (result != 1) {
    return explain(conn->ssl, result, why);
  }
  start_round(conn);
  return CONN_SERVED;
}

static conn_step send_rest(conn *conn, failure *why) {
  size_t total = conn->shared->options->bytes;
  while (conn->sent < total) {
    size_t written = 0;
    int result = SSL_write_ex(conn->ssl, conn->payload + conn->sent, total - conn->sent, &written);
    if (result != 1) {
      return explain(conn->ssl, result, why);
    }
    conn->sent += written;
  }
  return CONN_SERVED;
}

/* Reads until the socket blocks or the round is complete. An octet beyond what was sent is a failure too. */
static conn_step receive_rest(conn *conn, failure *why) {
  uint8_t chunk[READ_CHUNK];
  for (;;) {
    size_t length = 0;
    int result = SSL_read_ex(conn->ssl, chunk, sizeof chunk, &length);
    if (result != 1) {
      return explain(conn->ssl, result, why);
    }
    if (length > conn->sent - conn->received || memcmp(chunk, conn->payload + conn->received, length) != 0) {
      *why = (failure){.kind = FAIL_BYTES};
      return CONN_FAILED;
    }
    conn->received += length;
    if (conn->received == conn->shared->options->bytes) {
      conn->state = CONN_QUIET;
      return CONN_SERVED;
    }
  }
}

static conn_step do_exchange(conn *conn, failure *why) {
  conn_step step = send_rest(conn, why);
  if (step == CONN_FAILED && why->kind == FAIL_RESET) {
    /* In TLS 1.3 a refused client may have been reset before it wrote, with
     * the alert that says why still unread in the socket. */
    failure alert = *why;
    ERR_clear_error();
    if (receive_rest(conn, &alert) == CONN_FAILED && alert.kind == FAIL_ALERT) {
      *why = alert;
    }
  }
  return step == CONN_FAILED ? step : receive_rest(conn, why);
}

conn_step conn_advance(conn *conn, failure *why) {
  conn_step step = CONN_SERVED;
  ERR_clear_error();
  errno = 0;
  if (conn->state == CONN_CONNECTING) {
    step = finish_connect(conn, why);
  }
  if (step == CONN_SERVED && conn->state == CONN_HANDSHAKE) {
    step = do_handshake(conn, why);
  }
  if (step == CONN_SERVED && conn->state == CONN_EXCHANGE) {
    return do_exchange(conn, why);
  }
  if (step == CONN_SERVED && conn->state == CONN_QUIET) {
    return receive_rest(conn, why); /* tickets, or the end: any data is an octet too many */
  }
  return step;
}

void conn_close(conn *conn) {
  if (conn->state == CONN_CLOSED) {
    return;
  }
  if (conn->ssl != NULL && (conn->state == CONN_QUIET || conn->state == CONN_EXCHANGE)) {
    ERR_clear_error();
    SSL_shutdown(conn->ssl); /* a courtesy: whether it went out changes nothing here */
  }
  SSL_free(conn->ssl);
  conn->ssl = NULL;
  close(conn->fd);
  conn->fd = -1;
  conn->state = CONN_CLOSED;
}

void conn_cleanup(conn *conn) {
  conn_close(conn);
  for (int which = 0; which < 2; which++) {
    SSL_SESSION_free(conn->sessions[which]);
    conn->sessions[which] = NULL;
  }
}
