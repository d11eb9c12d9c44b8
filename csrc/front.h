/* front.h - the handshakes of one listener, many at a time.
 *
 * Whoever waits for its epoll set calls gw_front_step, which accepts and advances a batch, hands those
 * over that are simply good, and returns the others whose handshake has ended. One thread at a time:
 * the relay's, from gw_relay_serve on (relay.h). */
#ifndef GW_FRONT_H
#define GW_FRONT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "admission.h"
#include "conn.h"
#include "error.h"
#include "node.h"
#include "relay.h"

enum { GW_MOST_SOCKETS = 64 };

/* A broker that no name has to be resolved for. */
enum { GW_FULL_SHARE = 256 };
typedef struct {
  struct sockaddr_storage address; /* what connect(2) takes */
  socklen_t length;
  uint32_t share;  /* so many of GW_FULL_SHARE clients whose turn it is; may be set at any time */
  uint32_t credit; /* the front's */
} gw_broker;

struct gw_front {
  uint8_t watch;         /* the relay's: what its epoll's data points to (relay_link.h) */
  gw_listener *listener; /* borrowed, as is |ssl_ctx| */
  void *ssl_ctx;
  int64_t timeout_ms;

  /* To be set before gw_relay_serve. Clear clients go to |relay|, with a connection to a broker and its number as id;
   * they are told of only where no broker has a share, that connection cannot be begun at once, or the relay does not
   * take them. */
  gw_relay *relay;       /* borrowed */
  gw_broker *brokers;    /* borrowed; taken in turn */
  size_t broker_count;   /* 0: clear clients are told of like the others */
  int only_accepts;      /* every client is told of as GW_HANDSHAKE_NOT_BEGUN: another header goes before its handshake */

  int shows;             /* atomic, to be set at any time: the next clear client is told of all the same */

  /* Its own. */
  int epoll;            /* readable while gw_front_step has something to do */
  gw_node conns;        /* in progress, in the order of their deadlines */
  int listening[GW_MOST_SOCKETS], sockets; /* owned; epoll's data points here for these, to a gw_conn for others */
  int paused;           /* epoll is not to report them */
  size_t turn;          /* of brokers */

  /* The relay's. */
  gw_node node;
  gw_admission admission;
  int64_t due_us;       /* when it takes a step; 0 where epoll has reported it */
};

/* gw_front_new makes the front of |listener| (borrowed, as the SSL_CTX); a
 * handshake may take |timeout_ms|. NULL with |error|. gw_front_free closes the
 * sockets and connections that it still has (NULL is fine). */
gw_front *gw_front_new(gw_listener *listener, void *ssl_ctx, int64_t timeout_ms, gw_error *error);
void gw_front_free(gw_front *front);

/* gw_front_listen makes clients of |listening| (a listening socket, non-blocking) come in from now on. Returns 1,
 * and the front owns it; or 0 with |error|. gw_front_stop_listening closes all of them. */
int gw_front_listen(gw_front *front, int listening, gw_error *error);
void gw_front_stop_listening(gw_front *front);

/* How many clients come in, and how many have. */
typedef struct {
  int quota;     /* in: as many as may; at 0 they wait in the kernel's queue, and the epoll set says nothing of them */
  int turn_away; /* in: they are closed instead */
  int accepted;  /* out: how many came, turned away or not */
  int code;      /* out: an errno of accept(2) that is not one of a single client's, or 0 */
  int busy;      /* out: 1 when there is probably more to do at once, or |quota| is used up: ask with another one */
} gw_intake;

/* gw_front_step takes clients in and advances their handshakes, and gives up those that have taken too long.
 * Returns the number of handshakes that have ended and are to be looked at: so many of |most| |arrivals| are filled.
 * They stay counted as GW_COUNT_HANDSHAKING, which is the caller's to end: nobody is forgotten on the way to whoever
 * looks at them, and never more are on it than handshakes may be in progress. */
int gw_front_step(gw_front *front, gw_intake *intake, gw_arrival *arrivals, int most);

/* gw_front_patience returns in how many milliseconds gw_front_step has to be called if nothing happens; -1: never. */
int64_t gw_front_patience(const gw_front *front);

#endif
