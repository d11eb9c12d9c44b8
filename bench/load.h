/* load.h - one run of the load generator, as its files share it.
 *
 * One thread, one epoll, non-blocking sockets, the system's OpenSSL. It shares
 * no code with the gateway: what it says of a server is a second opinion.
 *   load.c            start, event loop, end
 *   load_run.c        what is started when, and what came of it
 *   load_open_loop.c  arrivals at a fixed rate
 *   load_conn.c       one connection: connect, handshake, verified round trips
 *   load_clients.c    many client certificates
 *   load_options.c    command line
 *   load_report.c     latencies, failures by kind, the JSON line */
#ifndef LOAD_H
#define LOAD_H

#include <stdint.h>
#include <time.h>

#include "load_clients.h"
#include "load_conn.h"
#include "load_options.h"
#include "load_report.h"

typedef enum { PREPARE, WAIT, RUN, END } phase;

/* Free connections in the order in which they came to be free. */
typedef struct {
  uint32_t *free; /* a ring of |options->connections| indices */
  uint32_t head;
  uint32_t length;
  int timer;             /* expires whenever an arrival is due */
  uint64_t exhausted_ns; /* since when none has been free for longer than a moment; UINT64_MAX: some are */
} open_loop;

typedef struct {
  const load_options *options;
  conn_shared shared;
  client_set clients;
  client_set revoked;
  conn *conns;
  open_loop open;
  phase phase;
  int epoll;
  int signals;
  uint32_t prepared;  /* connections opened in PREPARE */
  uint32_t under_way; /* connects, handshakes and round trips that have not ended */
  uint32_t ready;     /* served in PREPARE; where connections stay, those that still live */
  uint64_t launched;  /* handshakes or round trips of RUN that have begun */
  uint64_t started_ns;
  uint64_t ended_ns;
  uint64_t swept_ns;
  double cpu_at_start;
  double cpu_at_end;
  report prepare_report;
  report report;
} load;

/* Epoll data of what is not a connection; connections count from 0. */
#define STDIN_EVENT UINT32_MAX
#define SIGNAL_EVENT (UINT32_MAX - 1)
#define TIMER_EVENT (UINT32_MAX - 2)

/* load_now is the time of the clock that everything here is measured by. */
static inline uint64_t load_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* ---- load.c ---- */

/* load_take_start starts the run if that has been asked for on stdin. Returns 1, or 0 with a message on error. */
int load_take_start(load *load);

/* ---- load_run.c ---- */

/* load_prepare opens what has to be there before the run, as far as may be at once. Returns 1 when it is all there
 * (or has failed), 0 while some is under way. */
int load_prepare(load *load);

/* load_begin enters a phase, and starts the clocks of time and CPU anew. */
void load_begin(load *load, phase next);

/* load_start begins the run, or ends it where there is nothing but connections to hold. Returns 1, or 0 with errno. */
int load_start(load *load);

/* load_end ends the run. */
void load_end(load *load);

/* load_launch starts the handshake or round trip |number|, counted from 0, on a connection that is free for it; its
 * latency counts from |started_ns|. Returns 1, or 0 with its failure counted. */
int load_launch(load *load, conn *conn, uint64_t number, uint64_t started_ns);

/* load_drive takes a connection as far as it goes, and counts what comes of it. */
void load_drive(load *load, conn *conn);

/* load_sweep ends what has taken too long, and starts again what rests after a failure. */
void load_sweep(load *load, uint64_t now_ns);

/* load_is_over says whether the run has come to its end by itself. */
int load_is_over(const load *load, uint64_t now_ns);

/* ---- load_open_loop.c ---- */

/* open_loop_init prepares; 1, or 0 with a message on stderr. open_loop_cleanup is due either way. */
int open_loop_init(open_loop *open, uint32_t connections);
void open_loop_cleanup(open_loop *open);

/* open_loop_start starts the clock of the arrivals; 1, or 0 with errno. */
int open_loop_start(load *load);

/* open_loop_free says that a connection may take an arrival. */
void open_loop_free(load *load, const conn *conn);

/* open_loop_launch starts all arrivals that are due, while there are free connections. Nothing in a closed loop. */
void open_loop_launch(load *load);

/* open_loop_expire gives arrivals up that have waited for a connection longer than a handshake may take. */
void open_loop_expire(load *load, uint64_t now_ns);

/* open_loop_tick takes note that the timer expired. */
void open_loop_tick(load *load);

#endif
