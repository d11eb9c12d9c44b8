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
 * A revocation may end thousands of links at once, and closing one costs some
 * 50 us. So a recheck only says farewell: from then on no byte of a condemned link
 * is relayed and its client knows; the closing is done a slice at a time, between
 * the events of the others.
 *
 * Rejected: edge-triggered epoll, which needs a read that fails after each
 * message and a list of what is still readable; io_uring, which SSL_read cannot
 * use; timers per connection, when all wait for the same length of time. */
#include "relay_loop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

#include "counters.h"

/* Events that one epoll_wait takes. */
enum { BATCH = 256 };

/* Condemned links that are closed between two calls of epoll_wait. */
enum { SLICE = 32 };

static gw_link *link_of_lingering(gw_node *node) {
  return (gw_link *)((char *)node - offsetof(gw_link, lingering));
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
  link->event.duration_ms = gw_now_ms() - link->adopted_ms;
  if (link->lingering.next != NULL) {
    gw_list_remove(&link->lingering);
  }
  gw_list_remove(&link->node);
  gw_list_append(&relay->ended, &link->node);
  gw_count(relay->counters, GW_COUNT_LIVE, (uint64_t)-1);
  (void)__atomic_fetch_sub(&relay->live, 1, __ATOMIC_RELAXED);
}

/* condemn says farewell to |link|, which is revoked, and leaves the rest to end_condemned. */
static void condemn(gw_relay *relay, gw_link *link) {
  link->event.end = GW_END_REVOKED;
  link->event.detail[0] = '\0';
  gw_link_farewell(link);
  if (link->lingering.next != NULL) {
    gw_list_remove(&link->lingering);
  }
  gw_list_remove(&link->node);
  gw_list_append(&relay->condemned, &link->node);
}

static void end_condemned(gw_relay *relay, int most) {
  for (int i = 0; i < most && !gw_list_empty(&relay->condemned); i++) {
    end_link(relay, gw_link_of(relay->condemned.next));
  }
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
    gw_list_remove(&link->lingering);
  }
  link->silent_since = gw_now_ms();
  gw_list_append(&relay->lingering, &link->lingering);
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
  if (link->event.end == GW_END_REVOKED) {
    end_link(relay, link); /* condemned: its turn comes early */
    return;
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
    end_for(relay, gw_link_of(relay->links.next), GW_END_STOPPED);
  }
}

static void end_lingering(gw_relay *relay) {
  int64_t now = gw_list_empty(&relay->lingering) ? 0 : gw_now_ms();
  while (!gw_list_empty(&relay->lingering)) {
    gw_link *link = link_of_lingering(relay->lingering.next);
    if (now - link->silent_since < relay->linger_ms) {
      return;
    }
    end_for(relay, link, GW_END_LINGERED);
  }
}

/* How long epoll_wait may sleep, in milliseconds; -1 for ever. */
static int patience(const gw_relay *relay) {
  if (!gw_list_empty(&relay->condemned)) {
    return 0;
  }
  if (gw_list_empty(&relay->lingering)) {
    return -1;
  }
  int64_t left = link_of_lingering(relay->lingering.next)->silent_since + relay->linger_ms - gw_now_ms();
  const int64_t longest = 3600000;
  return left < 0 ? 0 : (int)(left < longest ? left : longest);
}

/* The thread. */

/* publish turns the links that ended into events that can be read. */
static void publish(gw_relay *relay) {
  gw_node dropped;
  gw_list_init(&dropped);
  if (gw_list_empty(&relay->ended)) {
    return;
  }
  (void)pthread_mutex_lock(&relay->lock);
  if (gw_list_empty(&relay->events)) {
    gw_signal_fd(relay->events_ready);
  }
  while (!gw_list_empty(&relay->ended)) {
    gw_node *node = relay->ended.next;
    gw_list_remove(node);
    gw_list_append(&relay->events, node);
    if (++relay->events_count > relay->events_max) {
      gw_node *oldest = relay->events.next;
      gw_list_remove(oldest);
      gw_list_append(&dropped, oldest);
      relay->events_count--;
    }
  }
  (void)pthread_mutex_unlock(&relay->lock);
  while (!gw_list_empty(&dropped)) {
    gw_link *link = gw_link_of(dropped.next);
    gw_list_remove(&link->node);
    gw_link_free(link);
  }
}

/* obey does what other threads asked for. Returns 1 when that is to stop. */
static int obey(gw_relay *relay) {
  gw_node adopted;
  gw_list_init(&adopted);
  gw_clear_fd(relay->wake);
  (void)pthread_mutex_lock(&relay->lock);
  gw_list_move(&adopted, &relay->adopted);
  int recheck = relay->recheck, stop = relay->stop;
  relay->recheck = 0;
  (void)pthread_mutex_unlock(&relay->lock);
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

void *gw_relay_run(void *argument) {
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
    end_condemned(relay, SLICE);
    end_lingering(relay);
    publish(relay);
  }
  return NULL;
}
