/* relay_loop.h - what the relay's thread shares with those who call the relay. */
#ifndef GW_RELAY_LOOP_H
#define GW_RELAY_LOOP_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include "admission.h"
#include "clock.h"
#include "front.h"
#include "node.h"
#include "relay.h"
#include "relay_link.h"

/* A time that does not come. */
#define GW_NEVER INT64_MAX

/* An arrival that waits for its reader. */
typedef struct {
  gw_node node;
  gw_arrival arrival;
} gw_caller;

/* The links of a phase, which all may be in it for the same length of time: so who came first is due first. */
typedef struct {
  gw_node links;        /* in the order in which they came */
  int64_t longest_us;   /* -1: for ever */
  int end, error;       /* what a link ends for then: GW_END_..., and an errno or 0 */
} gw_phase_links;

enum { GW_WISH_RECHECK = 1, GW_WISH_SILENCE = 2, GW_WISH_STOP = 4 };

struct gw_relay {
  gw_world *world;
  uint64_t *counters;
  gw_relay_options options;
  int epoll, wake, events_ready; /* wake and events_ready are eventfds */
  pthread_t thread;
  int started;                   /* the thread runs, or has yet to be joined */
  size_t live;                   /* atomic */
  int wishes;                    /* atomic: of GW_WISH_..., a bit each, those that the thread has yet to see to */
  int silent;                    /* atomic: no front listens any more */

  pthread_mutex_t lock;          /* guards these */
  gw_node adopted;               /* links to begin */
  gw_node opened;                /* fronts to serve */
  gw_node callers;               /* arrivals, oldest first */
  gw_node events;                /* links that are over, oldest first */
  size_t events_count;
  int stopped;                   /* nobody is taken any more */

  gw_node fronts;                /* the thread's own from here on: those that it serves */
  gw_phase_links phases[GW_PHASES];
  int asks;                      /* of how many clients this look may tell that responders are to be asked */
  uint8_t scratch[GW_SCRATCH_SIZE];
};

/* gw_relay_run is the thread; |argument| is the gw_relay. Returns NULL when asked to stop, with all links ended. */
void *gw_relay_run(void *argument);

/* gw_link_of returns the link that |node| is the node of. */
static inline gw_link *gw_link_of(gw_node *node) { return (gw_link *)((char *)node - offsetof(gw_link, node)); }

/* gw_front_of returns the front that |node| is the node of. */
static inline gw_front *gw_front_of(gw_node *node) { return (gw_front *)((char *)node - offsetof(gw_front, node)); }

/* An eventfd's counter cannot overflow here, and one that is not zero is signalled already. */
static inline void gw_signal_fd(int fd) {
  const uint64_t one = 1;
  ssize_t written = write(fd, &one, sizeof one);
  (void)written;
}

static inline void gw_clear_fd(int fd) {
  uint64_t count;
  ssize_t got = read(fd, &count, sizeof count);
  (void)got;
}

#endif
