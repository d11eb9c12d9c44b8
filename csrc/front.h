/* front.h - the handshakes of one listener, many at a time.
 *
 * Python waits for gw_front_fd and calls gw_front_step, which accepts and advances
 * a batch and returns whose handshake has ended. So a client costs Python what is
 * done for it once it is known, and nothing for the steps until then. One thread at a time. */
#ifndef GW_FRONT_H
#define GW_FRONT_H

#include <stddef.h>
#include <stdint.h>

#include "conn.h"
#include "error.h"

typedef struct gw_front gw_front;

/* A client whose handshake has ended. */
typedef struct {
  gw_conn *conn;  /* the caller's from now on, to be adopted or freed */
  int result;     /* GW_HANDSHAKE_DONE, GW_HANDSHAKE_FAILED or GW_HANDSHAKE_TIMED_OUT */
  int clear;      /* done, and nothing speaks against it: looked up and good, or not asked for */
  gw_error error; /* of GW_HANDSHAKE_FAILED */
} gw_arrival;

/* gw_front_new makes the front of |listener| (borrowed, as the SSL_CTX); a
 * handshake may take |timeout_ms|. NULL with |error|. gw_front_free closes the
 * connections that it still has (NULL is fine). */
gw_front *gw_front_new(gw_listener *listener, void *ssl_ctx, int64_t timeout_ms, gw_error *error);
void gw_front_free(gw_front *front);

/* gw_front_fd returns a descriptor, owned by the front, that is readable while gw_front_step has something to do. */
int gw_front_fd(const gw_front *front);

/* gw_front_count returns the number of handshakes in progress. */
size_t gw_front_count(const gw_front *front);

/* gw_front_listen makes clients of |listening| (a listening socket, non-blocking, the caller's) come in from
 * now on. Returns 1, or 0 with |error|.
 * gw_front_stop_listening ends that for all of them, and has to come before they are closed: epoll would go on
 * reporting a socket that another process has open too, and what is opened next may get the same number. */
int gw_front_listen(gw_front *front, int listening, gw_error *error);
void gw_front_stop_listening(gw_front *front);

/* How many clients come in, and how many have. */
typedef struct {
  int quota;     /* in: as many as may; at 0 they wait in the kernel's queue, and gw_front_fd says nothing of them */
  int turn_away; /* in: they are closed instead */
  int accepted;  /* out: how many came, turned away or not */
  int code;      /* out: an errno of accept(2) that is not one of a single client's, or 0 */
  int busy;      /* out: 1 when there is probably more to do at once, or |quota| is used up: ask with another one */
} gw_intake;

/* gw_front_step takes clients in and advances their handshakes, and gives up those that have taken too long.
 * Returns the number of handshakes that have ended: so many of |most| |arrivals| are filled. */
int gw_front_step(gw_front *front, gw_intake *intake, gw_arrival *arrivals, int most);

/* gw_front_patience returns in how many milliseconds gw_front_step has to be called if nothing happens. */
int64_t gw_front_patience(const gw_front *front);

#endif
