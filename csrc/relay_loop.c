/* Theory of operation.
 *
 * One thread owns every link (relay_link.h), the epoll set and the lists in
 * relay_loop.h. Other threads meet it in one place, the lock: they leave
 * connections, a wish to recheck or to stop there and signal an eventfd; it leaves
 * events there. The lock is held to change pointers, never for a system call that
 * could block.
 *
 * Interest follows from the state of the two flows (gw_link_wants) and is told
 * to epoll only when it changes. While bytes flow freely it never does: a message
 * costs one epoll_wait, one read and one write, and no epoll_ctl.
 *
 * The client's socket is level-triggered, since OpenSSL does not tell whether it
 * has read all there is. The broker's is edge-triggered while it is read: a recv
 * that brings less than it has room for has read to the edge, and the kernel need
 * not poll the socket a second time for each message, as it has to with a level.
 * Where more may be left, or the end has been announced, a new epoll_ctl makes it look again.
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
 * of the last byte that moved, those whose broker does not answer yet in the order
 * of adoption; the first of each decides how long epoll_wait may sleep. Without
 * any it sleeps for ever: an idle relay does not wake up.
 *
 * Within one batch of events a link may end while a later event points to it. So
 * ending closes the sockets at once, but keeps the link until the batch is over.
 * Then the link turns into its own event: no event is lost for want of memory,
 * since it was allocated when the link was adopted. Whoever reads the events is
 * woken once for many of them, unless they matter at once.
 *
 * A revocation may end thousands of links at once, and closing one costs some
 * 50 us. So a recheck only says farewell: from then on no byte of a condemned link
 * is relayed and its client knows; the closing is done a slice at a time, between
 * the events of the others.
 *
 * Rejected: edges for the client too, which would need a read that fails after
 * each message; io_uring, which SSL_read cannot
 * use; timers per connection, when all wait for the same length of time. */
#include "relay_loop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "counters.h"

/* Events that one epoll_wait takes. */
enum { BATCH = 256 };

/* Arrivals that one step of a front may bring. */
enum { ARRIVALS = 4 };

/* Condemned links that are closed between two calls of epoll_wait. */
enum { SLICE = 32 };

/* Ordinary ends wait for so many or so long before their reader is woken. */
enum { TELL_AT_ONCE = 64, TELL_WITHIN_MS = 100 };

static gw_link *link_of_waiting(gw_node *node) { return (gw_link *)((char *)node - offsetof(gw_link, waiting)); }

/* Links that may not wait for ever. */

static void wait_in(gw_node *list, gw_link *link) {
  if (link->waiting.next != NULL) {
    gw_list_remove(&link->waiting);
  }
  link->since_ms = gw_now_ms();
  gw_list_append(list, &link->waiting);
}

static void wait_no_more(gw_link *link) {
  if (link->waiting.next != NULL) {
    gw_list_remove(&link->waiting);
  }
}

/* In how many milliseconds the first of |list| will have waited |longest|; -1 if it is empty. */
static int64_t time_left(const gw_node *list, int64_t longest) {
  if (gw_list_empty(list)) {
    return -1;
  }
  int64_t left = link_of_waiting(list->next)->since_ms + longest - gw_now_ms();
  return left > 0 ? left : 0;
}

/* Ending. */

static void unpoll(gw_relay *relay, gw_link *link, int side) {
  if (link->sides[side].polled) {
    (void)epoll_ctl(relay->epoll, EPOLL_CTL_DEL, side == GW_CLIENT ? link->conn->fd : link->upstream, NULL);
    link->sides[side].polled = 0;
  }
}

/* end_link closes |link| for the cause that it has. The kernel drops closed sockets from the epoll set. */
static void end_link(gw_relay *relay, gw_link *link) {
  if (link->end == GW_END_BROKER_REFUSED) {
    unpoll(relay, link, GW_CLIENT); /* it goes back to the worker, open */
  } else if (link->end == GW_END_REVOKED) {
    gw_verification *known = &link->conn->verification;
    if (known->leaf_der == NULL) {
      known->leaf_der = gw_conn_leaf(link->conn, &known->leaf_der_length);
    }
    gw_count(relay->counters, GW_COUNT_DISCONNECTED, 1);
  }
  gw_link_close(link, relay->scratch);
  link->over = 1;
  link->ended_ms = gw_now_ms();
  wait_no_more(link);
  gw_list_remove(&link->node);
  gw_list_append(&relay->ended, &link->node);
  gw_count(relay->counters, GW_COUNT_LIVE, (uint64_t)-1);
  (void)__atomic_fetch_sub(&relay->live, 1, __ATOMIC_RELAXED);
}

/* condemn says farewell to |link|, which is revoked, and leaves the rest to end_condemned. */
static void condemn(gw_relay *relay, gw_link *link) {
  link->end = GW_END_REVOKED;
  link->reason = NULL;
  link->error = 0;
  gw_link_farewell(link);
  wait_no_more(link);
  gw_list_remove(&link->node);
  gw_list_append(&relay->condemned, &link->node);
}

static void end_condemned(gw_relay *relay, int most) {
  for (int i = 0; i < most && !gw_list_empty(&relay->condemned); i++) {
    end_link(relay, gw_link_of(relay->condemned.next));
  }
}

/* end_for ends |link| for |end|, whatever began to go wrong with it before. */
static void end_for(gw_relay *relay, gw_link *link, int end, int error) {
  link->end = end;
  link->reason = NULL;
  link->error = error;
  end_link(relay, link);
}

/* Interest. */

static int half_closed(const gw_link *link) {
  return link->flows[GW_IN].state != GW_FLOW_OPEN || link->flows[GW_OUT].state != GW_FLOW_OPEN ||
         link->sides[GW_CLIENT].finishing || link->sides[GW_BROKER].finishing;
}

static void mind_lingering(gw_relay *relay, gw_link *link) {
  if (half_closed(link) && (link->moved || link->waiting.next == NULL)) {
    wait_in(&relay->lingering, link);
  }
}

/* arm tells epoll what is wanted of |side| now. Returns 1, or 0 with errno. */
static int arm(gw_relay *relay, gw_link *link, int number) {
  gw_side *side = &link->sides[number];
  uint32_t wanted = gw_link_wants(link, GW_IN, number) | gw_link_wants(link, GW_OUT, number);
  if ((wanted & EPOLLIN) == 0 && link->flows[number].state == GW_FLOW_OPEN && !side->finishing) {
    wanted |= EPOLLRDHUP;
  }
  if (number == GW_BROKER && (wanted & EPOLLIN) != 0) {
    wanted |= EPOLLRDHUP | EPOLLET;
  }
  if (side->polled ? wanted == side->armed && !side->again : side->finishing && wanted == 0) {
    return 1;
  }
  struct epoll_event event = {.events = wanted, .data.ptr = side};
  if (epoll_ctl(relay->epoll, side->polled ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
                number == GW_CLIENT ? link->conn->fd : link->upstream, &event) != 0) {
    return 0;
  }
  side->polled = 1;
  side->armed = wanted;
  side->again = 0;
  return 1;
}

/* settle draws the consequences of what was done to |link|. */
static void settle(gw_relay *relay, gw_link *link) {
  if (gw_link_done(link)) {
    end_link(relay, link);
    return;
  }
  for (int side = 0; side < 2; side++) {
    if (!arm(relay, link, side)) {
      gw_link_cause(link, side == GW_CLIENT ? GW_END_CLIENT_LOST : GW_END_BROKER_LOST, errno, NULL);
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
  uint64_t before = link->flows[flow].bytes;
  gw_link_pump(link, flow, relay->scratch);
  uint64_t read = link->flows[flow].bytes - before;
  link->sides[GW_BROKER].again |= flow == GW_OUT && read == GW_SCRATCH_SIZE;
  if (read > 0) {
    gw_count(relay->counters, flow == GW_IN ? GW_COUNT_BYTES_IN : GW_COUNT_BYTES_OUT, read);
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
  if (link->over) {
    return; /* ended by an earlier event of this batch */
  }
  if (link->end == GW_END_REVOKED) {
    end_link(relay, link); /* condemned: its turn comes early */
    return;
  }
  if (link->connecting && number == GW_BROKER) {
    if (!gw_link_connected(link)) {
      end_link(relay, link);
      return;
    }
    wait_no_more(link);
    /* The client's first bytes have often arrived already. */
    pump(relay, link, GW_IN);
    settle(relay, link);
    return;
  }
  /* A socket that hangs or failed lets any attempt get further, to its end or its error. */
  uint32_t ready = (events & (EPOLLHUP | EPOLLERR)) != 0 ? events | EPOLLIN | EPOLLOUT : events;
  /* The end of what it sends has no edge of its own where it came before the last bytes were read. */
  side->again = number == GW_BROKER && (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
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

/* revoked_now looks |link| up; its verification has the verdict if so. */
static int revoked_now(gw_link *link, const gw_snapshot *snapshot, int64_t now) {
  gw_verification *known = &link->conn->verification;
  gw_verdict verdict;
  if (known->chain == NULL) {
    return 0;
  }
  (void)gw_chain_judge(known->listener, snapshot, known->chain, now, &verdict);
  if (verdict.verdict != GW_VERDICT_REVOKED) {
    return 0;
  }
  known->verdict = verdict;
  return 1;
}

static void begin(gw_relay *relay, gw_link *link, const gw_snapshot *snapshot) {
  gw_link_prepare(link);
  if (revoked_now(link, snapshot, (int64_t)time(NULL))) {
    end_for(relay, link, GW_END_REVOKED, 0);
    return;
  }
  if (link->connecting) {
    wait_in(&relay->connecting, link);
  } else {
    pump(relay, link, GW_IN);
  }
  settle(relay, link);
}

static void begin_all(gw_relay *relay, gw_node *adopted) {
  if (gw_list_empty(adopted)) {
    return;
  }
  gw_snapshot *snapshot = gw_world_snapshot(relay->world);
  while (!gw_list_empty(adopted)) {
    gw_link *link = gw_link_of(adopted->next);
    gw_list_remove(&link->node);
    gw_list_append(&relay->links, &link->node);
    begin(relay, link, snapshot);
  }
  gw_snapshot_free(snapshot);
}

static void recheck_all(gw_relay *relay) {
  gw_snapshot *snapshot = gw_world_snapshot(relay->world);
  int64_t now = (int64_t)time(NULL);
  for (gw_node *node = relay->links.next, *next; node != &relay->links; node = next) {
    gw_link *link = gw_link_of(node);
    next = node->next;
    if (gw_listener_rules(link->conn->verification.listener)->disconnect_revoked &&
        revoked_now(link, snapshot, now)) {
      condemn(relay, link);
    }
  }
  gw_snapshot_free(snapshot);
}

static void end_all(gw_relay *relay) {
  end_condemned(relay, INT_MAX);
  while (!gw_list_empty(&relay->links)) {
    end_for(relay, gw_link_of(relay->links.next), GW_END_STOPPED, 0);
  }
}

/* end_overdue ends those of |list| that have waited |longest| milliseconds. */
static void end_overdue(gw_relay *relay, gw_node *list, int64_t longest, int end, int error) {
  while (time_left(list, longest) == 0) {
    end_for(relay, link_of_waiting(list->next), end, error);
  }
}

static int64_t sooner(int64_t a, int64_t b) { return b < 0 || (a >= 0 && a < b) ? a : b; }

/* Fronts. */

/* leave lets |caller| wait for the reader, who is woken. */
static void leave(gw_relay *relay, const gw_arrival *arrival) {
  gw_caller *caller = malloc(sizeof *caller);
  if (caller == NULL) {
    gw_conn_free(arrival->conn); /* nobody can be told */
    gw_count(relay->counters, GW_COUNT_HANDSHAKING, arrival->conn != NULL ? (uint64_t)-1 : 0);
    return;
  }
  caller->arrival = *arrival;
  (void)pthread_mutex_lock(&relay->lock);
  gw_list_append(&relay->callers, &caller->node);
  (void)pthread_mutex_unlock(&relay->lock);
  gw_signal_fd(relay->events_ready);
}

static int64_t handshaking(const gw_relay *relay) {
  return relay->counters == NULL ? 0 : (int64_t)__atomic_load_n(&relay->counters[GW_COUNT_HANDSHAKING], __ATOMIC_RELAXED);
}

/* step lets |door|'s front take one, within its limits. */
static void step(gw_relay *relay, gw_door *door, int64_t now_us) {
  gw_arrival arrivals[ARRIVALS];
  gw_arrival notice = {.listener = gw_front_listener(door->front)};
  int was_full = door->admission.full;
  gw_grant grant = gw_admission_grant(&door->admission, now_us, handshaking(relay));
  gw_intake intake = {.quota = grant.quota, .turn_away = grant.turn_away};
  int ended = gw_front_step(door->front, &intake, arrivals, ARRIVALS);
  gw_admission_came(&door->admission, intake.accepted);
  for (int i = 0; i < ended; i++) {
    leave(relay, &arrivals[i]);
  }
  if (door->admission.full && !was_full) {
    notice.result = GW_DOOR_FULL;
    leave(relay, &notice);
  }
  if (intake.code != 0) {
    gw_admission_exhausted(&door->admission, now_us);
    notice.result = GW_DOOR_STUCK;
    notice.code = intake.code;
    leave(relay, &notice);
  }
  int64_t patience_ms = gw_front_patience(door->front);
  int64_t wait_us = sooner(grant.pause_us, patience_ms < 0 ? -1 : patience_ms * 1000);
  door->due = intake.busy || intake.code != 0; /* in the latter case there is another grant to be had: a pause */
  door->step_at_us = wait_us < 0 ? -1 : now_us + wait_us;
}

/* step_all lets those take a step that have something to do, or whose time has come. */
static void step_all(gw_relay *relay) {
  if (gw_list_empty(&relay->doors)) {
    return;
  }
  int64_t now_us = gw_now_us();
  for (gw_node *node = relay->doors.next; node != &relay->doors; node = node->next) {
    gw_door *door = gw_door_of(node);
    if (door->due || (door->step_at_us >= 0 && door->step_at_us <= now_us)) {
      step(relay, door, now_us);
    }
  }
}

/* open_all begins to serve |opened|. */
static void open_all(gw_relay *relay, gw_node *opened) {
  for (gw_node *node = opened->next; node != opened; node = node->next) {
    gw_door *door = gw_door_of(node);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = door};
    if (epoll_ctl(relay->epoll, EPOLL_CTL_ADD, gw_front_fd(door->front), &event) != 0) {
      gw_arrival notice = {.listener = gw_front_listener(door->front), .result = GW_DOOR_STUCK, .code = errno};
      leave(relay, &notice);
    }
    door->due = 1;
  }
  gw_list_move(&relay->doors, opened);
}

static void stop_listening(gw_relay *relay) {
  for (gw_node *node = relay->doors.next; node != &relay->doors; node = node->next) {
    gw_front_stop_listening(gw_door_of(node)->front);
  }
}
/* In how many milliseconds, no less, |when_us| will be; -1 for never. */
static int64_t until(int64_t when_us) {
  int64_t left = when_us - gw_now_us();
  return when_us < 0 ? -1 : left > 0 ? (left + 999) / 1000 : 0;
}

/* How long epoll_wait may sleep, in milliseconds; -1 for ever. */
static int patience(const gw_relay *relay) {
  int64_t left = sooner(time_left(&relay->lingering, relay->linger_ms), time_left(&relay->connecting, relay->connect_ms));
  if (relay->untold > 0) {
    int64_t untold = relay->tell_by_ms - gw_now_ms();
    left = sooner(left, untold > 0 ? untold : 0);
  }
  for (gw_node *node = relay->doors.next; node != &relay->doors; node = node->next) {
    const gw_door *door = gw_door_of(node);
    left = door->due ? 0 : sooner(left, until(door->step_at_us));
  }
  return gw_list_empty(&relay->condemned) ? (int)(left < INT_MAX ? left : INT_MAX) : 0;
}

/* The thread. */

/* publish turns the links that ended into events that can be read, and wakes their reader in time. */
static void publish(gw_relay *relay, int urgent) {
  gw_node dropped;
  gw_list_init(&dropped);
  if (relay->untold == 0) {
    relay->tell_by_ms = gw_now_ms() + TELL_WITHIN_MS;
  }
  (void)pthread_mutex_lock(&relay->lock);
  while (!gw_list_empty(&relay->ended)) {
    gw_link *link = gw_link_of(relay->ended.next);
    int ordinary = link->end != GW_END_REVOKED && link->end != GW_END_BROKER_REFUSED;
    gw_list_remove(&link->node);
    if (ordinary && relay->quiet) {
      gw_list_append(&dropped, &link->node);
      continue;
    }
    gw_list_append(&relay->events, &link->node);
    urgent |= !ordinary;
    relay->untold++;
    if (++relay->events_count > relay->events_max) {
      gw_node *oldest = relay->events.next;
      gw_list_remove(oldest);
      gw_list_append(&dropped, oldest);
      relay->events_count--;
    }
  }
  (void)pthread_mutex_unlock(&relay->lock);
  if (urgent || relay->untold >= TELL_AT_ONCE || gw_now_ms() >= relay->tell_by_ms) {
    gw_signal_fd(relay->events_ready);
    relay->untold = 0;
  }
  while (!gw_list_empty(&dropped)) {
    gw_link *link = gw_link_of(dropped.next);
    gw_list_remove(&link->node);
    gw_link_free(link);
  }
}

/* obey does what other threads and the fronts asked for. Returns 1 when that is to stop. */
static int obey(gw_relay *relay) {
  gw_node adopted, opened;
  gw_list_init(&adopted);
  gw_list_init(&opened);
  (void)pthread_mutex_lock(&relay->lock);
  gw_list_move(&adopted, &relay->adopted);
  gw_list_move(&opened, &relay->opened);
  int recheck = relay->recheck, silence = relay->stop_listening, stop = relay->stop;
  relay->recheck = relay->stop_listening = 0;
  (void)pthread_mutex_unlock(&relay->lock);
  open_all(relay, &opened);
  if (silence) {
    stop_listening(relay);
  }
  if (stop) {
    gw_list_move(&relay->links, &adopted);
    end_all(relay);
    return 1;
  }
  begin_all(relay, &adopted);
  if (recheck) {
    recheck_all(relay);
  }
  return 0;
}

static void notice(gw_relay *relay, const struct epoll_event *event) {
  if (event->data.ptr == NULL) {
    gw_clear_fd(relay->wake);
  } else if (*(const uint8_t *)event->data.ptr == GW_WATCH_DOOR) {
    ((gw_door *)event->data.ptr)->due = 1;
  } else {
    on_event(relay, event->data.ptr, event->events);
  }
}

void *gw_relay_run(void *argument) {
  gw_relay *relay = argument;
  struct epoll_event batch[BATCH];
  int stopped = 0;
  while (!stopped) {
    int count = epoll_wait(relay->epoll, batch, BATCH, patience(relay));
    if (count < 0 && errno != EINTR) {
      abort(); /* the epoll set is not one any more: something closed it */
    }
    for (int i = 0; i < count; i++) {
      notice(relay, &batch[i]);
    }
    step_all(relay);
    stopped = obey(relay);
    end_condemned(relay, SLICE);
    end_overdue(relay, &relay->lingering, relay->linger_ms, GW_END_LINGERED, 0);
    end_overdue(relay, &relay->connecting, relay->connect_ms, GW_END_BROKER_REFUSED, ETIMEDOUT);
    if (relay->untold > 0 || !gw_list_empty(&relay->ended)) {
      publish(relay, stopped);
    }
  }
  return NULL;
}
