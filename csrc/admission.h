/* admission.h - how many clients may come in at one listener of one worker, and when. Knows no sockets and no clock. */
#ifndef GW_ADMISSION_H
#define GW_ADMISSION_H

#include <stddef.h>
#include <stdint.h>

/* What is set. */
typedef struct {
  int64_t handshakes;     /* so many may be in progress in this worker, in all of its listeners; others wait */
  int64_t connections;    /* so many of this listener in all workers; who comes then is turned away */
  int64_t interval_us;    /* one client in so many microseconds, and up to a second's worth at once; 0: no such limit */
  uint64_t *const *pages; /* the counter pages of all workers; borrowed, as is what they point to */
  size_t workers;
  size_t gauge;           /* where in each page this listener's connections are counted */
} gw_limits;

/* Limits and how far they are used up. Times are microseconds of a clock that does not jump. */
typedef struct {
  gw_limits limits;
  int64_t next_us;       /* the rate lets another one in from then on */
  int64_t not_before_us; /* nobody comes in before: the kernel had nothing left */
  int full;              /* |connections| were there when it was last looked */
} gw_admission;

/* gw_admission_init copies |limits|, whose pages have to outlive |admission|. */
void gw_admission_init(gw_admission *admission, const gw_limits *limits);

typedef struct {
  int quota;        /* so many may come in now; at 0 clients wait in the kernel's queue */
  int turn_away;    /* they are closed instead */
  int64_t pause_us; /* to be asked again after so long if nothing happens; -1: never */
} gw_grant;

/* gw_admission_grant says how many may come in at |now_us|, while |handshaking| are at it. */
gw_grant gw_admission_grant(gw_admission *admission, int64_t now_us, int64_t handshaking);

/* gw_admission_came is told that |count| came by the last grant. Who is turned away does not count against the rate. */
void gw_admission_came(gw_admission *admission, int count);

/* gw_admission_exhausted is told at |now_us| that the kernel had no descriptor or memory for a client: a pause. */
void gw_admission_exhausted(gw_admission *admission, int64_t now_us);

#endif
