/* conn.h - one client connection from accept to the end.
 *
 * A front has it during the handshake (front.h), the relay from then on; one that somebody has to look
 * at is Python's until that has adopted or freed it. Exactly one thread touches it at a time. */
#ifndef GW_CONN_H
#define GW_CONN_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "node.h"
#include "openssl_table.h"
#include "verify.h"

/* The client's address: a sockaddr_in where sin6_family is AF_INET; 0 where it is not known. */
typedef struct sockaddr_in6 gw_peer;

/* Python is to ask of it and to change nothing but |peer|, where who connected was not the client. */
typedef struct gw_conn {
  SSL *ssl;                     /* owned */
  int fd;                       /* owned; the client's socket, non-blocking; -1 once closed */
  int established;              /* the handshake is over, close_notify makes sense */
  int drained;                  /* the client has said that it sends no more, and all of it was read */
  gw_node node;                 /* in its front's list, until the handshake is over */
  int64_t accepted_ms;          /* the front's: gw_now_ms() at accept */
  uint32_t awaited;             /* the front's: what its epoll reports of |fd|; 0 when not registered */
  gw_peer peer;
  gw_verification verification; /* owns the chain */
} gw_conn;

enum {
  GW_HANDSHAKE_FAILED,
  GW_HANDSHAKE_DONE,
  GW_HANDSHAKE_WANT_READ,
  GW_HANDSHAKE_WANT_WRITE,
  GW_HANDSHAKE_TIMED_OUT, /* of a front alone, like the next */
  GW_HANDSHAKE_NOT_BEGUN
};

/* gw_conn_new makes the server side of a TLS connection on |fd| (connected,
 * non-blocking). On success the connection owns |fd|. NULL with |error|, and |fd| stays the caller's. */
gw_conn *gw_conn_new(gw_listener *listener, void *ssl_ctx, int fd, gw_error *error);

/* gw_conn_handshake goes as far as the socket lets it; see the enum. After DONE
 * a resumed session has been looked up again: the verdict says whether it may
 * pass. After FAILED |error| has OpenSSL's reason; the alert has been sent. */
int gw_conn_handshake(gw_conn *conn, gw_error *error);

/* gw_conn_judge looks the client of an established connection up again in the
 * tables in force. Returns 1 when it may pass; a client that waits may not until
 * a fresh list covers it. */
int gw_conn_judge(gw_conn *conn);

/* gw_conn_is_clear returns 1 when the handshake is done and nothing speaks against the client: it was looked up and is
 * good, or was not asked for; and no responder has to be asked before. */
int gw_conn_is_clear(const gw_conn *conn);

/* gw_conn_farewell sends close_notify if the connection is established and the socket takes it at once, and a FIN: the
 * client knows that it is over. A second call does no harm. The connection may only be closed then. */
void gw_conn_farewell(gw_conn *conn);

/* gw_conn_close says farewell and closes the socket; what TLS knows of the client can be asked on. A second call does
 * nothing. */
void gw_conn_close(gw_conn *conn);

/* gw_conn_free closes and frees everything. NULL is fine. */
void gw_conn_free(gw_conn *conn);

#endif
