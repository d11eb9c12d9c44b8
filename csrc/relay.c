#include "relay.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "counters.h"
#include "front.h"
#include "relay_link.h"
#include "relay_loop.h"

/* allocate makes all of a relay but the thread; or NULL. What could not be opened is below 0. */
static gw_relay *allocate(gw_world *world, const gw_relay_options *options) {
  gw_relay *relay = calloc(1, sizeof *relay);
  if (relay == NULL) return NULL;
  relay->world = world;
  relay->counters = gw_world_counters(world);
  relay->phases[GW_CONDEMNED] = (gw_phase_links){.end = GW_END_REVOKED};
  relay->phases[GW_LINGERING] = (gw_phase_links){.longest_us = options->linger_ms * 1000, .end = GW_END_LINGERED};
  relay->phases[GW_CONNECTING] =
      (gw_phase_links){.longest_us = options->connect_ms * 1000, .end = GW_END_BROKER_REFUSED, .error = ETIMEDOUT};
  relay->phases[GW_OPEN].longest_us = relay->phases[GW_OVER].longest_us = -1;
  relay->options = *options;
  relay->epoll = epoll_create1(EPOLL_CLOEXEC);
  relay->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  relay->events_ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  relay->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
  gw_list_init(&relay->adopted);
  gw_list_init(&relay->opened);
  gw_list_init(&relay->callers);
  gw_list_init(&relay->events);
  gw_list_init(&relay->fronts);
  for (int phase = 0; phase < GW_PHASES; phase++) gw_list_init(&relay->phases[phase].links);
  return relay;
}

gw_relay *gw_relay_new(gw_world *world, const gw_relay_options *options, gw_error *error) {
  gw_relay *relay = allocate(world, options);
  struct epoll_event woken = {.events = EPOLLIN, .data.ptr = NULL};
  if (relay == NULL || relay->epoll < 0 || relay->wake < 0 || relay->events_ready < 0 ||
      epoll_ctl(relay->epoll, EPOLL_CTL_ADD, relay->wake, &woken) != 0 ||
      (errno = pthread_create(&relay->thread, NULL, gw_relay_run, relay)) != 0) {
    (void)gw_fail(error, "the relay thread cannot be started: %m");
    gw_relay_free(relay);
    return NULL;
  }
  relay->started = 1;
  return relay;
}

int gw_relay_adopt(gw_relay *relay, gw_conn *conn, int upstream, uint64_t id, const uint8_t *preface,
                   size_t preface_length, gw_error *error) {
  if (preface_length > GW_PREFACE_MAX) return gw_fail(error, "a preface of %zu bytes is too long", preface_length);
  gw_link *link = gw_link_new(conn, upstream, id, preface, preface_length);
  if (link == NULL) return gw_fail(error, "no memory to relay a connection");
  link->adopted_ms = gw_now_ms();
  (void)pthread_mutex_lock(&relay->lock);
  if (relay->stopped) {
    (void)pthread_mutex_unlock(&relay->lock);
    link->conn = NULL; /* the caller's still */
    gw_link_free(link);
    return gw_fail(error, "the relay has been stopped");
  }
  (void)__atomic_fetch_add(&relay->live, 1, __ATOMIC_RELAXED);
  gw_count(relay->counters, GW_COUNT_LIVE, 1);
  gw_count(relay->counters, GW_COUNT_RELAYED, 1);
  gw_list_append(&relay->adopted, &link->node);
  (void)pthread_mutex_unlock(&relay->lock);
  if (!pthread_equal(relay->thread, pthread_self())) gw_signal_fd(relay->wake);
  return 1;
}

int gw_relay_serve(gw_relay *relay, gw_front *front, const gw_limits *limits, gw_error *error) {
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = front};
  front->watch = GW_WATCH_FRONT;
  gw_admission_init(&front->admission, limits);
  if (epoll_ctl(relay->epoll, EPOLL_CTL_ADD, front->epoll, &event) != 0) {
    return gw_fail(error, "cannot wait for clients: %m");
  }
  (void)pthread_mutex_lock(&relay->lock);
  gw_list_append(&relay->opened, &front->node);
  (void)pthread_mutex_unlock(&relay->lock);
  gw_signal_fd(relay->wake);
  return 1;
}

static void ask(gw_relay *relay, int wish) {
  (void)__atomic_fetch_or(&relay->wishes, wish, __ATOMIC_RELEASE);
  gw_signal_fd(relay->wake);
}

void gw_relay_stop_listening(gw_relay *relay) { ask(relay, GW_WISH_SILENCE); }

int gw_relay_silent(gw_relay *relay) { return __atomic_load_n(&relay->silent, __ATOMIC_ACQUIRE); }

void gw_relay_recheck(gw_relay *relay) { ask(relay, GW_WISH_RECHECK); }

size_t gw_relay_live(gw_relay *relay) { return __atomic_load_n(&relay->live, __ATOMIC_RELAXED); }

int gw_relay_event_fd(gw_relay *relay) { return relay->events_ready; }

/* take_first takes the oldest of |list| for the reader, or NULL. */
static gw_node *take_first(gw_relay *relay, gw_node *list) {
  gw_node *first = NULL;
  (void)pthread_mutex_lock(&relay->lock);
  if (!gw_list_empty(list)) {
    first = list->next;
    gw_list_remove(first);
    relay->events_count -= list == &relay->events;
  } else if (gw_list_empty(&relay->events) && gw_list_empty(&relay->callers)) {
    gw_clear_fd(relay->events_ready);
  }
  (void)pthread_mutex_unlock(&relay->lock);
  return first;
}

int gw_relay_next_arrival(gw_relay *relay, gw_arrival *arrival) {
  gw_caller *caller = (gw_caller *)take_first(relay, &relay->callers);
  if (caller == NULL) return 0;
  *arrival = caller->arrival;
  free(caller);
  gw_count(relay->counters, GW_COUNT_HANDSHAKING, arrival->conn != NULL ? (uint64_t)-1 : 0);
  return 1;
}

int gw_relay_next_event(gw_relay *relay, gw_relay_event *event) {
  gw_node *first = take_first(relay, &relay->events);
  if (first == NULL) return 0;
  gw_link *link = gw_link_of(first);
  gw_link_tell(link, event);
  gw_link_free(link);
  return 1;
}

void gw_relay_stop(gw_relay *relay) {
  if (!relay->started) return;
  ask(relay, GW_WISH_STOP);
  (void)pthread_join(relay->thread, NULL);
  relay->started = 0;
}

void gw_relay_free(gw_relay *relay) {
  if (relay == NULL) return;
  gw_arrival arrival;
  gw_relay_stop(relay);
  while (gw_relay_next_arrival(relay, &arrival)) {
    gw_conn_free(arrival.conn);
    gw_openssl.X509_free(arrival.leaf);
  }
  for (gw_node *node; (node = take_first(relay, &relay->events)) != NULL;) gw_link_free(gw_link_of(node));
  (void)close(relay->events_ready); /* one that could not be had is -1, and refused */
  (void)close(relay->wake);
  (void)close(relay->epoll);
  (void)pthread_mutex_destroy(&relay->lock);
  free(relay);
}
