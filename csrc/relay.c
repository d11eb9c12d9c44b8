/* Theory of operation.
 *
 * One thread owns every link (relay_link.h), the epoll set and the lists below.
 * Other threads meet it in one place, the lock: they leave connections, a wish to
 * recheck or to stop there and signal an eventfd; it leaves events there. The
 * thread never waits for the lock while holding work up: it is held for a few
 * pointers only.
 *
 * Interest follows from the state of the two flows (gw_link_wants) and is told
 * to epoll only when it changes. While bytes flow freely it never does: a message
 * costs one epoll_wait, one read and one write, and no epoll_ctl.
 *
 * No busy loop: for every event, either something is tried, and what epoll
 * reported lets it get further; or nothing is wanted of that side, and epoll is
 * told not to report it again. The second is needed because EPOLLHUP and EPOLLERR
 * come unasked for: such a socket leaves the epoll set until something is wanted
 * of it. Where a side is not read for the time being, EPOLLRDHUP is asked for
 * once, so that a side that hangs up while the other does not take its bytes is
 * seen to have finished.
 *
 * Half-closed links (one side has finished, the other not) are kept in the order
 * of the last byte that moved; the first of them decides how long epoll_wait may
 * sleep. Without any it sleeps for ever: an idle relay does not wake up.
 *
 * Within one batch of events a link may end while a later event points to it. So
 * ending closes the sockets at once, but keeps the link until the batch is over;
 * conn is NULL in between. Then the link turns into its own event: no event is
 * lost for want of memory, since it was allocated when the link was adopted.
 *
 * Rejected: edge-triggered epoll, which needs a read that fails after each
 * message and a list of what is still readable; io_uring, which SSL_read cannot
 * use; timers per connection, when all wait for the same length of time. */
#include "relay.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "counters.h"
#include "relay_link.h"

enum { BATCH = 256, DEFAULT_LINGER_MS = 30000, DEFAULT_EVENTS_MAX = 65536 };

struct gw_relay {
  gw_world *world;
  uint64_t *counters;
  int64_t linger_ms;
  size_t events_max;
  int epoll, wake, events_ready; /* wake and events_ready are eventfds */
  pthread_t thread;
  int started;                   /* the thread runs, or has yet to be joined */
  size_t live;                   /* atomic */

  pthread_mutex_t lock;          /* guards these */
  gw_node adopted;               /* links to begin */
  gw_node events;                /* links that are events now, oldest first */
  size_t events_count;
  int recheck, stop;

  gw_node links;                 /* the thread's own from here on: those that live */
  gw_node lingering;             /* half-closed ones of these, longest silent first */
  gw_node ended;                 /* closed in this batch */
  uint8_t *scratch;
};

static void list_init(gw_node *list) { list->next = list->previous = list; }

static int list_empty(const gw_node *list) { return list->next == list; }

static void list_append(gw_node *list, gw_node *node) {
  node->next = list;
  node->previous = list->previous;
  list->previous->next = node;
  list->previous = node;
}

static void list_remove(gw_node *node) {
  node->next->previous = node->previous;
  node->previous->next = node->next;
  node->next = node->previous = NULL;
}

/* list_move appends all of |from| to |to|. */
static void list_move(gw_node *to, gw_node *from) {
  while (!list_empty(from)) {
    gw_node *node = from->next;
    list_remove(node);
    list_append(to, node);
  }
}

static gw_link *link_of(gw_node *node) { return (gw_link *)((char *)node - offsetof(gw_link, node)); }

static gw_link *link_of_lingering(gw_node *node) {
  return (gw_link *)((char *)node - offsetof(gw_link, lingering));
}

static int64_t now_ms(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* An eventfd's counter cannot overflow here, and one that is not zero is signalled already. */
static void signal_fd(int fd) {
  const uint64_t one = 1;
  ssize_t written = write(fd, &one, sizeof one);
  (void)written;
}

static void clear_fd(int fd) {
  uint64_t count;
  ssize_t got = read(fd, &count, sizeof count);
  (void)got;
}

/* Ending. */

static void unpoll(gw_relay *relay, gw_link *link, int side) {
  if (link->sides[side].polled) {
    /* Not left to close(): a socket that a forked child has open too would stay in the set. */
    (void)epoll_ctl(relay->epoll, EPOLL_CTL_DEL, side == GW_CLIENT ? link->conn->fd : link->upstream, NULL);
    link->sides[side].polled = 0;
  }
}

/* end_link closes |link| for the cause that its event has. */
static void end_link(gw_relay *relay, gw_link *link) {
  if (link->event.end == GW_END_REVOKED) {
    link->event.leaf_der = gw_conn_leaf(link->conn, &link->event.leaf_der_length);
    gw_count(relay->counters, GW_COUNT_DISCONNECTED, 1);
  } else if (link->event.end == GW_END_BROKER_REFUSED) {
    gw_count(relay->counters, GW_COUNT_UPSTREAM_FAILED, 1);
  }
  unpoll(relay, link, GW_CLIENT);
  unpoll(relay, link, GW_BROKER);
  gw_link_close(link, relay->scratch);
  link->event.duration_ms = now_ms() - link->adopted_ms;
  if (link->lingering.next != NULL) {
    list_remove(&link->lingering);
  }
  list_remove(&link->node);
  list_append(&relay->ended, &link->node);
  gw_count(relay->counters, GW_COUNT_LIVE, (uint64_t)-1);
  (void)__atomic_fetch_sub(&relay->live, 1, __ATOMIC_RELAXED);
}

/* end_for ends |link| for |end|, whatever began to go wrong with it before. */
static void end_for(gw_relay *relay, gw_link *link, int end) {
  link->event.end = end;
  link->event.detail[0] = '\0';
  end_link(relay, link);
}

/* Interest. */

static int half_closed(const gw_link *link) {
  return link->flows[GW_IN].state != GW_FLOW_OPEN || link->flows[GW_OUT].state != GW_FLOW_OPEN ||
         link->sides[GW_CLIENT].finishing || link->sides[GW_BROKER].finishing;
}

static void mind_lingering(gw_relay *relay, gw_link *link) {
  int listed = link->lingering.next != NULL;
  if (!half_closed(link) || (listed && !link->moved)) {
    return;
  }
  if (listed) {
    list_remove(&link->lingering);
  }
  link->silent_since = now_ms();
  list_append(&relay->lingering, &link->lingering);
}

/* arm tells epoll what is wanted of |side| now. Returns 1, or 0 with errno. */
static int arm(gw_relay *relay, gw_link *link, int number) {
  gw_side *side = &link->sides[number];
  uint32_t wanted = gw_link_wants(link, GW_IN, number) | gw_link_wants(link, GW_OUT, number);
  if ((wanted & EPOLLIN) == 0 && link->flows[number].state == GW_FLOW_OPEN && !side->finishing) {
    wanted |= EPOLLRDHUP;
  }
  if (side->polled ? wanted == side->armed : side->finishing && wanted == 0) {
    return 1;
  }
  struct epoll_event event = {.events = wanted, .data.ptr = side};
  if (epoll_ctl(relay->epoll, side->polled ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
                number == GW_CLIENT ? link->conn->fd : link->upstream, &event) != 0) {
    return 0;
  }
  side->polled = 1;
  side->armed = wanted;
  return 1;
}

/* settle draws the consequences of what was done to |link|. */
static void settle(gw_relay *relay, gw_link *link) {
  if (gw_link_over(link)) {
    end_link(relay, link);
    return;
  }
  for (int side = 0; side < 2; side++) {
    if (!arm(relay, link, side)) {
      gw_link_cause(link, side == GW_CLIENT ? GW_END_CLIENT_LOST : GW_END_BROKER_LOST, errno);
      end_link(relay, link);
      return;
    }
  }
  mind_lingering(relay, link);
  link->moved = 0;
}

/* Events. */

/* pump moves one flow and counts what was read. */
static void pump(gw_relay *relay, gw_link *link, int flow) {
  uint64_t *bytes = flow == GW_IN ? &link->event.bytes_in : &link->event.bytes_out;
  uint64_t before = *bytes;
  gw_link_pump(link, flow, relay->scratch);
  if (*bytes != before) {
    gw_count(relay->counters, flow == GW_IN ? GW_COUNT_BYTES_IN : GW_COUNT_BYTES_OUT, *bytes - before);
  }
}

/* unasked deals with what epoll reports of a side of which nothing is wanted now. */
static void unasked(gw_relay *relay, gw_link *link, int number, uint32_t events) {
  gw_side *side = &link->sides[number];
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
    unpoll(relay, link, number);
    if (link->flows[number].state != GW_FLOW_OPEN) {
      gw_link_gone(link, number, ECONNRESET);
    }
  }
  if ((events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0) {
    side->finishing = 1;
  }
}

static void on_event(gw_relay *relay, gw_side *side, uint32_t events) {
  gw_link *link = side->link;
  int number = side == &link->sides[GW_CLIENT] ? GW_CLIENT : GW_BROKER;
  if (link->conn == NULL) {
    return; /* ended by an earlier event of this batch */
  }
  if (link->connecting && number == GW_BROKER) {
    if (!gw_link_connected(link)) {
      end_link(relay, link);
      return;
    }
    /* The client's first bytes have often arrived already. */
    pump(relay, link, GW_IN);
    settle(relay, link);
    return;
  }
  /* A socket that hangs or failed lets any attempt get further, to its end or its error. */
  uint32_t ready = (events & (EPOLLHUP | EPOLLERR)) != 0 ? events | EPOLLIN | EPOLLOUT : events;
  int tried = 0;
  for (int flow = 0; flow < 2; flow++) {
    if ((gw_link_wants(link, flow, number) & ready) != 0) {
      pump(relay, link, flow);
      tried = 1;
    }
  }
  if (!tried) {
    unasked(relay, link, number, events);
  }
  settle(relay, link);
}

/* Rechecking and beginning. */

/* revoked_now looks |link| up; |event.verdict| has the verdict if so. */
static int revoked_now(gw_link *link, const gw_snapshot *snapshot, int64_t now) {
  const gw_verification *known = &link->conn->verification;
  gw_verdict verdict;
  if (known->chain == NULL) {
    return 0;
  }
  (void)gw_chain_judge(known->listener, snapshot, known->chain, now, &verdict);
  if (verdict.verdict != GW_VERDICT_REVOKED) {
    return 0;
  }
  link->event.verdict = verdict;
  return 1;
}

static void begin(gw_relay *relay, gw_link *link, const gw_snapshot *snapshot) {
  gw_link_prepare(link);
  if (revoked_now(link, snapshot, (int64_t)time(NULL))) {
    end_for(relay, link, GW_END_REVOKED);
    return;
  }
  if (!link->connecting) {
    pump(relay, link, GW_IN);
  }
  settle(relay, link);
}

static void begin_all(gw_relay *relay, gw_node *adopted) {
  if (list_empty(adopted)) {
    return;
  }
  gw_snapshot *snapshot = gw_world_snapshot(relay->world);
  while (!list_empty(adopted)) {
    gw_link *link = link_of(adopted->next);
    list_remove(&link->node);
    list_append(&relay->links, &link->node);
    begin(relay, link, snapshot);
  }
  gw_snapshot_free(snapshot);
}

static void recheck_all(gw_relay *relay) {
  gw_snapshot *snapshot = gw_world_snapshot(relay->world);
  int64_t now = (int64_t)time(NULL);
  for (gw_node *node = relay->links.next, *next; node != &relay->links; node = next) {
    gw_link *link = link_of(node);
    next = node->next;
    if (gw_listener_rules(link->conn->verification.listener)->disconnect_revoked &&
        revoked_now(link, snapshot, now)) {
      end_for(relay, link, GW_END_REVOKED);
    }
  }
  gw_snapshot_free(snapshot);
}

static void end_all(gw_relay *relay) {
  while (!list_empty(&relay->links)) {
    end_for(relay, link_of(relay->links.next), GW_END_STOPPED);
  }
}

static void end_lingering(gw_relay *relay) {
  int64_t now = list_empty(&relay->lingering) ? 0 : now_ms();
  while (!list_empty(&relay->lingering)) {
    gw_link *link = link_of_lingering(relay->lingering.next);
    if (now - link->silent_since < relay->linger_ms) {
      return;
    }
    end_for(relay, link, GW_END_LINGERED);
  }
}

/* How long epoll_wait may sleep, in milliseconds; -1 for ever. */
static int patience(const gw_relay *relay) {
  if (list_empty(&relay->lingering)) {
    return -1;
  }
  int64_t left = link_of_lingering(relay->lingering.next)->silent_since + relay->linger_ms - now_ms();
  const int64_t longest = 3600000;
  return left < 0 ? 0 : (int)(left < longest ? left : longest);
}

/* The thread. */

/* publish turns the links that ended into events that can be read. */
static void publish(gw_relay *relay) {
  gw_node dropped;
  list_init(&dropped);
  if (list_empty(&relay->ended)) {
    return;
  }
  (void)pthread_mutex_lock(&relay->lock);
  if (list_empty(&relay->events)) {
    signal_fd(relay->events_ready);
  }
  while (!list_empty(&relay->ended)) {
    gw_node *node = relay->ended.next;
    list_remove(node);
    list_append(&relay->events, node);
    if (++relay->events_count > relay->events_max) {
      gw_node *oldest = relay->events.next;
      list_remove(oldest);
      list_append(&dropped, oldest);
      relay->events_count--;
    }
  }
  (void)pthread_mutex_unlock(&relay->lock);
  while (!list_empty(&dropped)) {
    gw_link *link = link_of(dropped.next);
    list_remove(&link->node);
    gw_link_free(link);
  }
}

/* obey does what other threads asked for. Returns 1 when that is to stop. */
static int obey(gw_relay *relay) {
  gw_node adopted;
  list_init(&adopted);
  clear_fd(relay->wake);
  (void)pthread_mutex_lock(&relay->lock);
  list_move(&adopted, &relay->adopted);
  int recheck = relay->recheck, stop = relay->stop;
  relay->recheck = 0;
  (void)pthread_mutex_unlock(&relay->lock);
  if (stop) {
    list_move(&relay->links, &adopted);
    end_all(relay);
    return 1;
  }
  begin_all(relay, &adopted);
  if (recheck) {
    recheck_all(relay);
  }
  return 0;
}

static void *run(void *argument) {
  gw_relay *relay = argument;
  struct epoll_event batch[BATCH];
  int stopped = 0;
  while (!stopped) {
    int count = epoll_wait(relay->epoll, batch, BATCH, patience(relay));
    if (count < 0 && errno != EINTR) {
      abort(); /* the epoll set is not one any more: something closed it */
    }
    int asked = 0;
    for (int i = 0; i < count; i++) {
      if (batch[i].data.ptr == NULL) {
        asked = 1;
      } else {
        on_event(relay, batch[i].data.ptr, batch[i].events);
      }
    }
    stopped = asked && obey(relay);
    end_lingering(relay);
    publish(relay);
  }
  return NULL;
}

/* Signals are for Python's main thread, and SIGPIPE for nobody: SSL_write uses
 * write(2). Those that a fault raises stay, so that debuggers and sanitizers see them. */
static int start_thread(gw_relay *relay) {
  static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
  sigset_t blocked, before;
  (void)sigfillset(&blocked);
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
    (void)sigdelset(&blocked, faults[i]);
  }
  int error = pthread_sigmask(SIG_SETMASK, &blocked, &before);
  if (error != 0) {
    return error;
  }
  error = pthread_create(&relay->thread, NULL, run, relay);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error == 0) {
    relay->started = 1;
    /* For people who look at the process; nothing depends on it. */
    (void)pthread_setname_np(relay->thread, "gw-relay");
  }
  return error;
}

/* The public functions. */

static gw_relay *relay_alloc(gw_world *world, const gw_relay_options *options) {
  gw_relay *relay = calloc(1, sizeof *relay);
  if (relay == NULL) {
    return NULL;
  }
  relay->world = world;
  relay->counters = gw_world_counters(world);
  relay->linger_ms = options->linger_ms > 0 ? options->linger_ms : DEFAULT_LINGER_MS;
  relay->events_max = options->events_max > 0 ? options->events_max : DEFAULT_EVENTS_MAX;
  relay->epoll = epoll_create1(EPOLL_CLOEXEC);
  relay->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  relay->events_ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  relay->scratch = malloc(GW_SCRATCH_SIZE);
  relay->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
  list_init(&relay->adopted);
  list_init(&relay->events);
  list_init(&relay->links);
  list_init(&relay->lingering);
  list_init(&relay->ended);
  return relay;
}

gw_relay *gw_relay_new(gw_world *world, const gw_relay_options *options, gw_error *error) {
  gw_relay *relay = relay_alloc(world, options);
  if (relay == NULL) {
    (void)gw_fail(error, "no memory for the relay");
    return NULL;
  }
  struct epoll_event woken = {.events = EPOLLIN, .data.ptr = NULL};
  int failed = relay->epoll < 0 || relay->wake < 0 || relay->events_ready < 0 || relay->scratch == NULL ||
               epoll_ctl(relay->epoll, EPOLL_CTL_ADD, relay->wake, &woken) != 0;
  int code = errno;
  if (!failed) {
    code = start_thread(relay);
    failed = code != 0;
  }
  if (failed) {
    gw_relay_free(relay);
    errno = code;
    (void)gw_fail(error, "the relay thread cannot be started: %m");
    return NULL;
  }
  return relay;
}

int gw_relay_adopt(gw_relay *relay, gw_conn *conn, int upstream, uint64_t id, const uint8_t *preface,
                   size_t preface_length, gw_error *error) {
  if (preface_length > GW_PREFACE_MAX) {
    return gw_fail(error, "a preface of %zu bytes is too long", preface_length);
  }
  gw_link *link = gw_link_new(conn, upstream, id, preface, preface_length);
  if (link == NULL) {
    return gw_fail(error, "no memory to relay a connection");
  }
  link->adopted_ms = now_ms();
  (void)pthread_mutex_lock(&relay->lock);
  if (relay->stop) {
    (void)pthread_mutex_unlock(&relay->lock);
    gw_link_free(link);
    return gw_fail(error, "the relay has been stopped");
  }
  (void)__atomic_fetch_add(&relay->live, 1, __ATOMIC_RELAXED);
  gw_count(relay->counters, GW_COUNT_LIVE, 1);
  gw_count(relay->counters, GW_COUNT_RELAYED, 1);
  int first = list_empty(&relay->adopted);
  list_append(&relay->adopted, &link->node);
  (void)pthread_mutex_unlock(&relay->lock);
  if (first) {
    signal_fd(relay->wake);
  }
  return 1;
}

void gw_relay_recheck(gw_relay *relay) {
  (void)pthread_mutex_lock(&relay->lock);
  relay->recheck = 1;
  (void)pthread_mutex_unlock(&relay->lock);
  signal_fd(relay->wake);
}

size_t gw_relay_live(gw_relay *relay) { return __atomic_load_n(&relay->live, __ATOMIC_RELAXED); }

int gw_relay_event_fd(gw_relay *relay) { return relay->events_ready; }

int gw_relay_next_event(gw_relay *relay, gw_relay_event *event) {
  gw_link *link = NULL;
  (void)pthread_mutex_lock(&relay->lock);
  if (list_empty(&relay->events)) {
    clear_fd(relay->events_ready);
  } else {
    link = link_of(relay->events.next);
    list_remove(&link->node);
    relay->events_count--;
  }
  (void)pthread_mutex_unlock(&relay->lock);
  if (link == NULL) {
    return 0;
  }
  *event = link->event;
  link->event.leaf_der = NULL; /* the caller's now */
  gw_link_free(link);
  return 1;
}

void gw_relay_stop(gw_relay *relay) {
  if (!relay->started) {
    return;
  }
  (void)pthread_mutex_lock(&relay->lock);
  relay->stop = 1;
  (void)pthread_mutex_unlock(&relay->lock);
  signal_fd(relay->wake);
  (void)pthread_join(relay->thread, NULL);
  relay->started = 0;
}

static void close_if_open(int fd) {
  if (fd >= 0) {
    (void)close(fd);
  }
}

void gw_relay_free(gw_relay *relay) {
  if (relay == NULL) {
    return;
  }
  gw_relay_stop(relay);
  while (!list_empty(&relay->events)) {
    gw_link *link = link_of(relay->events.next);
    list_remove(&link->node);
    gw_link_free(link);
  }
  close_if_open(relay->epoll);
  close_if_open(relay->wake);
  close_if_open(relay->events_ready);
  free(relay->scratch);
  (void)pthread_mutex_destroy(&relay->lock);
  free(relay);
}
