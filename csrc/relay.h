/* relay.h - the thread that serves clients: it shakes hands with them and moves bytes between them and the broker.
 *
 * One POSIX thread per worker, with epoll, without Python and without the GIL:
 * Python stopped in a debugger must not stop traffic. From gw_relay_adopt on the
 * thread owns both sockets and the SSL object, and frees them. Python is told of
 * those only that somebody has to look at: arrivals and events. */
#ifndef GW_RELAY_H
#define GW_RELAY_H

#include <stddef.h>
#include <stdint.h>

#include "admission.h"
#include "conn.h"
#include "error.h"

typedef struct gw_relay gw_relay;
typedef struct gw_front gw_front; /* front.h */

/* Why a connection ended. */
enum {
  GW_END_CLIENT_CLOSED,   /* both directions finished, the client first: close_notify, or a FIN alone, which
                             devices often send (detail "no close_notify"); what it had sent was delivered */
  GW_END_BROKER_CLOSED,   /* both directions finished, the broker first */
  GW_END_CLIENT_LOST,     /* reset or TLS error on the client's side; what was received until then was delivered */
  GW_END_BROKER_LOST,     /* reset on the broker's side; what it had sent was delivered */
  GW_END_BROKER_REFUSED,  /* the connection to the broker could not be made in time: |conn| is the reader's again */
  GW_END_REVOKED,         /* its certificate is revoked now; close_notify was sent */
  GW_END_LINGERED,        /* one side finished, and then no byte moved for linger_ms */
  GW_END_STOPPED          /* the relay was stopped or drained */
};

typedef struct {
  uint64_t id;           /* as given to gw_relay_adopt */
  int end;               /* GW_END_... */
  uint64_t bytes_in;     /* plain bytes received from the client, without the preface */
  uint64_t bytes_out;    /* plain bytes received from the broker */
  int64_t duration_ms;   /* in the relay */
  gw_listener *listener; /* where it came in; borrowed */
  char detail[96];       /* errno or OpenSSL's reason, or empty */
  gw_conn *conn;         /* the reader's to free: it is closed and can be asked who the client was; after
                            GW_END_BROKER_REFUSED nothing was read from it, and it can be adopted anew */
} gw_relay_event;

typedef struct {
  int64_t linger_ms;     /* half-closed and silent for so long: closed */
  int64_t connect_ms;    /* the broker's socket may take so long to connect */
  size_t events_max;     /* events kept while nobody reads them; the oldest go first */
  int quiet;             /* only ends that are for the gateway to explain make an event: revoked, broker refused */
} gw_relay_options;

/* gw_relay_new starts the thread. |world| is borrowed and must outlive it; so must the listeners of adopted connections.
 * Signals that the caller blocks meanwhile are not for the thread: those are Python's, and SIGPIPE nobody's, since
 * SSL_write uses write(2). NULL with |error|. */
gw_relay *gw_relay_new(gw_world *world, const gw_relay_options *options, gw_error *error);

/* gw_relay_adopt hands |conn| (established) and |upstream| (a non-blocking
 * stream socket, connected or still connecting) over. |preface| (copied, may be
 * empty, at most GW_PREFACE_MAX bytes) goes to the broker before the client's
 * first byte. Returns 1, and the thread owns both; or 0 with |error|, and the
 * caller still does: no memory, preface too long, relay stopped. Thread-safe.
 * Whatever the listener's rules say of live connections, the thread looks this
 * one up once more before anything is relayed, so that no swap of tables between
 * handshake and hand-over is missed. |conn|'s context must not have read-ahead on. */
enum { GW_PREFACE_MAX = 65536 };
int gw_relay_adopt(gw_relay *relay, gw_conn *conn, int upstream, uint64_t id, const uint8_t *preface,
                   size_t preface_length, gw_error *error);

/* gw_relay_serve makes the thread take clients in at |front|, and shake hands with them, within |limits| (copied, with
 * pages borrowed). |front| is borrowed: nobody else may use it, except for what is said to be thread-safe, until
 * the relay has been stopped. Returns 1, or 0 with |error|. */
int gw_relay_serve(gw_relay *relay, gw_front *front, const gw_limits *limits, gw_error *error);

/* gw_relay_stop_listening makes the thread close all listening sockets of its fronts; handshakes in progress go on.
 * Returns at once; gw_relay_silent returns 1 once it has been done: nobody comes in any more. */
void gw_relay_stop_listening(gw_relay *relay);
int gw_relay_silent(gw_relay *relay);

/* What somebody has to look at before a client is relayed, if it is. */
typedef struct {
  gw_conn *conn;         /* whose handshake has ended; the reader's, to be adopted or freed; NULL: no client at all */
  gw_listener *listener; /* where it came in; borrowed */
  int result;            /* GW_HANDSHAKE_DONE, _FAILED, _TIMED_OUT, _NOT_BEGUN; GW_DOOR_FULL, GW_DOOR_STUCK */
  int clear;             /* gw_conn_is_clear */
  int code;              /* of GW_DOOR_STUCK: the errno of accept(2) */
  gw_error error;        /* of GW_HANDSHAKE_FAILED */
  X509 *leaf;            /* of GW_DOOR_ASK: a client's certificate, a reference that the reader frees; else NULL */
} gw_arrival;

enum {
  /* The listener has all the connections it may have: from now on clients are turned away. */
  GW_DOOR_FULL = GW_HANDSHAKE_NOT_BEGUN + 1,
  /* accept(2) failed for a reason that is not a client's: there is a pause before the next. */
  GW_DOOR_STUCK,
  /* Responders are to be asked about a client that is connected. Some are told at each gw_relay_recheck. */
  GW_DOOR_ASK
};

/* gw_relay_next_arrival takes the oldest: 1, or 0 when none is left. As gw_relay_next_event, which is read after it. */
int gw_relay_next_arrival(gw_relay *relay, gw_arrival *arrival);

/* gw_relay_recheck makes the thread look every live connection up in the tables
 * in force, and end those that are revoked where the listener's rules say
 * disconnect_revoked. Returns at once. */
void gw_relay_recheck(gw_relay *relay);

/* gw_relay_live returns the number of connections that the thread has or is about to take. */
size_t gw_relay_live(gw_relay *relay);

/* gw_relay_event_fd returns a descriptor that is readable while arrivals or events wait
 * (an eventfd, owned by the relay). gw_relay_next_event takes the oldest event: 1, or
 * 0 when none is left. Who finds neither arrivals nor events left clears the descriptor. One reader. */
int gw_relay_event_fd(gw_relay *relay);
int gw_relay_next_event(gw_relay *relay, gw_relay_event *event);

/* gw_relay_stop ends all connections with close_notify, stops the thread and
 * waits for it. Events can still be read. A second call does nothing.
 * gw_relay_free stops if need be and releases everything (NULL is fine). Both: one caller at a time. */
void gw_relay_stop(gw_relay *relay);
void gw_relay_free(gw_relay *relay);

#endif
