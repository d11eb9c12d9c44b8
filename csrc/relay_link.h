/* relay_link.h - one relayed connection: a client, a broker, and the bytes between them.
 *
 * Knows sockets and TLS, but neither epoll nor threads: relay_loop.c says when to
 * try, this says what came of it. Used by the relay thread only. */
#ifndef GW_RELAY_LINK_H
#define GW_RELAY_LINK_H

#include <stddef.h>
#include <stdint.h>

#include "conn.h"
#include "node.h"
#include "relay.h"

/* The sides of a link and its flows. A flow has the number of the side that it
 * comes from; the other side is where it goes. */
enum { GW_CLIENT, GW_BROKER };
enum { GW_IN = GW_CLIENT, GW_OUT = GW_BROKER };

/* How far a flow has come:
 *
 *   state    its source                     its sink              what the flow may hold
 *   OPEN     may send more                  takes bytes           one pending buffer
 *   ENDING   has finished or is lost        is yet to be told     one pending buffer
 *   DONE     is not read any more           was told, or is lost  nothing
 *
 * A flow only ever goes down this table, and a link is over when both are DONE. */
typedef enum { GW_FLOW_OPEN, GW_FLOW_ENDING, GW_FLOW_DONE } gw_flow_state;

typedef struct {
  gw_flow_state state;
  uint32_t source_wants; /* EPOLLIN, or EPOLLOUT where TLS has to write before it can read */
  uint32_t sink_wants;   /* EPOLLOUT, or EPOLLIN where TLS has to read before it can write */
  uint8_t *pending;      /* what the sink has not taken; malloc'd, NULL when there is nothing */
  size_t at, length;     /* pending[at] to pending[length - 1] are still to go */
  uint64_t bytes;        /* read from the source */
} gw_flow;

typedef struct gw_link gw_link;

/* What epoll's data points to begins with one of these octets. */
enum { GW_WATCH_SIDE, GW_WATCH_FRONT };

/* No set of events. */
enum { GW_STALE = -1 };

/* Belongs to relay_loop.c, like the nodes. */
typedef struct {
  uint8_t watch;     /* GW_WATCH_SIDE */
  uint8_t polled;    /* registered with epoll */
  uint8_t finished;  /* it was seen to have, perhaps before the flow from it could be read to its end */
  uint32_t armed;    /* the events asked for; GW_STALE: epoll has to be asked anew */
  gw_link *link;
} gw_side;

enum { GW_END_NONE = -1 };

/* What a link is at, once it was begun. It may be in a phase for some time, and ends then (relay_loop.h). */
typedef enum {
  GW_CONDEMNED,  /* revoked: told so and not relayed any more, but yet to be closed */
  GW_LINGERING,  /* half-closed; anew with each byte that moves */
  GW_CONNECTING, /* |upstream| is not connected yet: nothing is read from either side */
  GW_OPEN,       /* relayed */
  GW_OVER,       /* it has ended: only the event is left to be told */
  GW_PHASES      /* number of phases; last */
} gw_phase;

struct gw_link {
  gw_node node;        /* in the list of its phase, of adopted links before or of events after */
  gw_phase phase;      /* belongs to relay_loop.c, like |due_us| */
  gw_conn *conn;       /* owned */
  int upstream;        /* owned; closed once the link has ended */
  int drained;         /* the broker has finished, and all that it sent was read */
  int end;             /* GW_END_NONE until the first cause is known */
  int error;           /* of the cause: an errno, or 0 */
  uint8_t moved;       /* a byte has moved since relay_loop.c cleared this */
  const char *reason;  /* of the cause, static storage, or NULL */
  uint64_t id;
  int64_t adopted_ms, ended_ms;
  int64_t due_us;      /* when it has been in its phase for too long */
  gw_side sides[2];
  gw_flow flows[2];
};

/* The scratch buffer that gw_link_pump needs. */
enum { GW_SCRATCH_SIZE = 65536 };

/* gw_link_new makes a link that owns |conn| and |upstream|, with |preface| (copied) pending for the
 * broker. NULL without memory, and both stay the caller's. */
gw_link *gw_link_new(gw_conn *conn, int upstream, uint64_t id, const uint8_t *preface, size_t preface_length);

/* gw_link_free releases |link| (NULL is fine) and |conn|, if it still has one; |upstream| has been closed. */
void gw_link_free(gw_link *link);

/* gw_link_prepare sets the broker's socket's options. Returns 1 when it is connected. */
int gw_link_prepare(gw_link *link);

/* gw_link_connected is to be called when |upstream|, connecting, has become writable or failed.
 * Where it failed both flows are DONE, and the cause is noted. */
void gw_link_connected(gw_link *link);

/* gw_link_wants returns the epoll events of |side|'s socket at which gw_link_pump(flow) has something to try. */
uint32_t gw_link_wants(const gw_link *link, int flow, int side);

/* gw_link_pump moves what can be moved: pending bytes, then at most GW_SCRATCH_SIZE
 * new ones, then the news that the source has finished. Never blocks. */
void gw_link_pump(gw_link *link, int flow, uint8_t *scratch);

/* gw_link_gone notes that |side| takes no more bytes, for the reason that |error| (an errno) gives unless an earlier
 * cause is known; a second call does nothing. */
void gw_link_gone(gw_link *link, int side, int error);

/* gw_link_cause notes why the link ends, unless an earlier cause is known; |error| is an errno, or 0. */
void gw_link_cause(gw_link *link, int end, int error, const char *reason);

/* gw_link_close closes both sides, the client's with close_notify where TLS still stands; where the broker
 * refused, the client's stays as it is. |scratch| is overwritten. */
void gw_link_close(gw_link *link, uint8_t *scratch);

/* gw_link_tell makes the event of a link that is over; its connection is the event's then. */
void gw_link_tell(gw_link *link, gw_relay_event *event);

#endif
