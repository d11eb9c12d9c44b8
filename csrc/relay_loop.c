/* Theory of operation.
 *
 * One thread owns every link (relay_link.h), the epoll set and the lists in
 * relay_loop.h. Other threads leave it connections and fronts behind the lock, and
 * wishes (to recheck, to listen no more, to stop) in a word, and signal an eventfd;
 * it leaves arrivals and events behind the lock. That is held to change pointers,
 * never for a system call that could block.
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
 * A link is in one phase at a time, and in the list of that phase. All links of a
 * phase may be in it for equally long, so that who came first is due first: the
 * first of each list decides how long epoll_wait may sleep, and what becomes of
 * those that are due is the phase's. Half-closed links (one side has finished, the
 * other not) come anew with each byte that moves. With nobody in a phase that ends,
 * it sleeps for ever: an idle relay does not wake up.
 *
 * Within one batch of events a link may end while a later event points to it. So
 * ending closes the sockets at once, but keeps the link until the batch is over.
 * Then the link turns into its own event: no event is lost for want of memory,
 * since it was allocated when the link was adopted. Whoever reads the events is
 * woken once for all of a batch.
 *
 * A revocation may end thousands of links at once, and closing one costs some
 * 50 us. So looking up only says farewell: from then on no byte of a condemned link
 * is relayed and its client knows. Whoever is due, condemned or not, is closed a
 * slice at a time, between the events of the others.
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

/* Links of a phase whose time has come that are closed between two calls of epoll_wait. */
enum { SLICE = 32 };

/* Clients of whom one recheck tells that responders are to be asked: more are told of at the next. */
enum { ASKS = 256 };

/* Times are microseconds of gw_now_us; one that does not come is GW_NEVER. */

static int64_t sooner(int64_t a, int64_t b) { return a < b ? a : b; }

/* When |wait_us| will have passed since |now_us|; below 0 it never will. */
static int64_t after(int64_t now_us, int64_t wait_us) { return wait_us < 0 ? GW_NEVER : now_us + wait_us; }

/* Phases. */

/* first_in returns the link that has been in |phase| for the longest time, or NULL. */
static gw_link *first_in(const gw_relay *relay, int phase) {
  const gw_node *links = &relay->phases[phase].links;
  return gw_list_empty(links) ? NULL : gw_link_of(links->next);
}

static void enter(gw_relay *relay, gw_link *link, gw_phase phase) {
  gw_list_remove(&link->node);
  gw_list_append(&relay->phases[phase].links, &link->node);
  link->phase = phase;
  link->due_us = after(gw_now_us(), relay->phases[phase].longest_us);
}

/* Ending. */

/* watch makes epoll report |events| of one side, or nothing at all of it where |how| is EPOLL_CTL_DEL. Returns 1, or 0
 * with errno. */
static int watch(gw_relay *relay, gw_link *link, int number, int how, uint32_t events) {
  gw_side *side = &link->sides[number];
  struct epoll_event event = {.events = events, .data.ptr = side};
  side->polled = how != EPOLL_CTL_DEL;
  side->armed = events;
  return epoll_ctl(relay->epoll, how, number == GW_CLIENT ? link->conn->fd : link->upstream, &event) == 0;
}

/* end_link closes |link| for the cause that it has. The kernel drops closed sockets from the epoll set. */
static void end_link(gw_relay *relay, gw_link *link) {
  /* Whom the broker refused goes back to the worker, open. */
  if (link->end == GW_END_BROKER_REFUSED) (void)watch(relay, link, GW_CLIENT, EPOLL_CTL_DEL, 0);
  if (link->end == GW_END_REVOKED) gw_count(relay->counters, GW_COUNT_DISCONNECTED, 1);
  gw_link_close(link, relay->scratch);
  link->ended_ms = gw_now_ms();
  enter(relay, link, GW_OVER);
  gw_count(relay->counters, GW_COUNT_LIVE, (uint64_t)-1);
  (void)__atomic_fetch_sub(&relay->live, 1, __ATOMIC_RELAXED);
}

/* end_for ends |link| for |end|, whatever began to go wrong with it before. */
static void end_for(gw_relay *relay, gw_link *link, int end, int error) {
  link->end = GW_END_NONE;
  gw_link_cause(link, end, error, NULL);
  end_link(relay, link);
}

/* end_due ends those that have been in their phase for too long. */
static void end_due(gw_relay *relay, int64_t now_us) {
  for (int phase = 0; phase < GW_OPEN; phase++) {
    const gw_phase_links *in = &relay->phases[phase];
    gw_link *link;
    for (int i = 0; i < SLICE && (link = first_in(relay, phase)) != NULL && link->due_us <= now_us; i++) {
      end_for(relay, link, in->end, in->error);
    }
  }
}

static void end_all(gw_relay *relay) {
  for (int phase = 0; phase < GW_OVER; phase++) {
    for (gw_link *link; (link = first_in(relay, phase)) != NULL;) {
      end_for(relay, link, phase == GW_CONDEMNED ? GW_END_REVOKED : GW_END_STOPPED, 0);
    }
  }
}

/* Interest. */

/* arm tells epoll what is wanted of |side| now. Returns 1, or 0 and the side is lost. */
static int arm(gw_relay *relay, gw_link *link, int number) {
  gw_side *side = &link->sides[number];
  uint32_t wanted = gw_link_wants(link, GW_IN, number) | gw_link_wants(link, GW_OUT, number);
  side->finished |= link->flows[number].state != GW_FLOW_OPEN;
  if ((wanted & EPOLLIN) == 0 && !side->finished) wanted |= EPOLLRDHUP;
  if (number == GW_BROKER && (wanted & EPOLLIN) != 0) wanted |= EPOLLRDHUP | EPOLLET;
  if (wanted != side->armed && !watch(relay, link, number, side->polled ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, wanted)) {
    gw_link_gone(link, number, errno);
    return 0;
  }
  return 1;
}

/* settle draws the consequences of what was done to |link|. */
static void settle(gw_relay *relay, gw_link *link) {
  int done = link->flows[GW_IN].state == GW_FLOW_DONE && link->flows[GW_OUT].state == GW_FLOW_DONE;
  if (done || !arm(relay, link, GW_CLIENT) || !arm(relay, link, GW_BROKER)) {
    end_link(relay, link);
    return;
  }
  int half_closed = link->sides[GW_CLIENT].finished || link->sides[GW_BROKER].finished;
  if (half_closed && (link->moved || link->phase == GW_OPEN)) enter(relay, link, GW_LINGERING);
  link->moved = 0;
}

/* Events. */

/* pump moves one flow and counts what was read. */
static void pump(gw_relay *relay, gw_link *link, int flow) {
  uint64_t before = link->flows[flow].bytes;
  gw_link_pump(link, flow, relay->scratch);
  uint64_t read = link->flows[flow].bytes - before;
  if (flow == GW_OUT && read == GW_SCRATCH_SIZE && link->sides[GW_BROKER].polled) {
    link->sides[GW_BROKER].armed = (uint32_t)GW_STALE; /* perhaps not read to the edge */
  }
  gw_count(relay->counters, flow == GW_IN ? GW_COUNT_BYTES_IN : GW_COUNT_BYTES_OUT, read);
}

/* begin begins to relay, once the broker is |connected|. The client's first bytes have often arrived already. */
static void begin(gw_relay *relay, gw_link *link, int connected) {
  enter(relay, link, connected ? GW_OPEN : GW_CONNECTING);
  if (connected) pump(relay, link, GW_IN);
  settle(relay, link);
}

/* try moves what |events| of one side let move. */
static void try(gw_relay *relay, gw_link *link, int number, uint32_t events) {
  gw_side *side = &link->sides[number];
  int hung = (events & (EPOLLHUP | EPOLLERR)) != 0, finished = hung || (events & EPOLLRDHUP) != 0, tried = 0;
  /* A socket that hangs or failed lets any attempt get further, to its end or its error. */
  uint32_t ready = hung ? events | EPOLLIN | EPOLLOUT : events;
  if (number == GW_BROKER && finished) {
    side->armed = (uint32_t)GW_STALE; /* the end has no edge of its own where it came before the last bytes were read */
  }
  for (int flow = 0; flow < 2; flow++) {
    if ((gw_link_wants(link, flow, number) & ready) != 0) {
      pump(relay, link, flow);
      tried = 1;
    }
  }
  side->finished |= !tried && finished;
  if (!tried && hung) {
    (void)watch(relay, link, number, EPOLL_CTL_DEL, 0);
    if (link->flows[number].state != GW_FLOW_OPEN) gw_link_gone(link, number, ECONNRESET);
  }
  settle(relay, link);
}

static void on_event(gw_relay *relay, gw_side *side, uint32_t events) {
  gw_link *link = side->link;
  int number = side == &link->sides[GW_CLIENT] ? GW_CLIENT : GW_BROKER;
  if (link->phase == GW_CONNECTING && number == GW_BROKER) {
    gw_link_connected(link);
    begin(relay, link, 1);
  } else if (link->phase != GW_CONDEMNED && link->phase != GW_OVER) { /* ended by an earlier event of this batch */
    try(relay, link, number, events);
  }
}

/* Looking up. */

/* leave lets |arrival| wait for the reader, who is woken. */
static void leave(gw_relay *relay, const gw_arrival *arrival) {
  gw_caller *caller = malloc(sizeof *caller);
  if (caller == NULL) {
    gw_conn_free(arrival->conn); /* nobody can be told */
    gw_openssl.X509_free(arrival->leaf); /* NULL is fine, here and there */
    gw_count(relay->counters, GW_COUNT_HANDSHAKING, arrival->conn != NULL ? (uint64_t)-1 : 0);
    return;
  }
  caller->arrival = *arrival;
  (void)pthread_mutex_lock(&relay->lock);
  gw_list_append(&relay->callers, &caller->node);
  (void)pthread_mutex_unlock(&relay->lock);
  gw_signal_fd(relay->events_ready);
}

/* revoked_now looks |link| up; its verification has the verdict if so. Where responders are to be asked it says so. */
static int revoked_now(gw_relay *relay, gw_link *link, const gw_snapshot *snapshot, int64_t now) {
  gw_verification *known = &link->conn->verification;
  gw_verdict verdict = {.verdict = GW_VERDICT_NONE};
  if (known->chain != NULL) (void)gw_chain_judge(known->listener, snapshot, known->chain, now, &verdict);
  if (verdict.verdict == GW_VERDICT_REVOKED) {
    known->verdict = verdict;
  } else if (verdict.ask != GW_ASK_NOTHING && relay->asks > 0) {
    X509 *leaf = gw_openssl.SSL_get_peer_certificate(link->conn->ssl);
    relay->asks--;
    leave(relay, &(gw_arrival){.listener = known->listener, .result = GW_DOOR_ASK, .leaf = leaf});
  }
  return verdict.verdict == GW_VERDICT_REVOKED;
}

/* look_up looks all |links| up. Who is revoked is told so, and the rest is left to end_due. Others begin if |new|. */
static void look_up(gw_relay *relay, gw_node *links, const gw_snapshot *snapshot, int new) {
  int64_t now = (int64_t)time(NULL);
  for (gw_node *node = links->next, *next; node != links; node = next) {
    gw_link *link = gw_link_of(node);
    int ends = new || gw_listener_rules(link->conn->verification.listener)->disconnect_revoked;
    next = node->next;
    if (ends && revoked_now(relay, link, snapshot, now)) {
      gw_conn_farewell(link->conn);
      enter(relay, link, GW_CONDEMNED);
    } else if (new) {
      begin(relay, link, gw_link_prepare(link));
    }
  }
}

/* Fronts. */

/* step lets |front| take one, within its limits. */
static void step(gw_relay *relay, gw_front *front, int64_t now_us) {
  gw_arrival arrivals[ARRIVALS];
  int was_full = front->admission.full;
  gw_grant grant = gw_admission_grant(&front->admission, now_us, gw_counted(relay->counters, GW_COUNT_HANDSHAKING));
  gw_intake intake = {.quota = grant.quota, .turn_away = grant.turn_away};
  int ended = gw_front_step(front, &intake, arrivals, ARRIVALS);
  gw_admission_came(&front->admission, intake.accepted);
  for (int i = 0; i < ended; i++) leave(relay, &arrivals[i]);
  if (front->admission.full && !was_full) {
    leave(relay, &(gw_arrival){.listener = front->listener, .result = GW_DOOR_FULL});
  }
  if (intake.code != 0) {
    gw_admission_exhausted(&front->admission, now_us);
    leave(relay, &(gw_arrival){.listener = front->listener, .result = GW_DOOR_STUCK, .code = intake.code});
  }
  int64_t pause_us = after(now_us, grant.pause_us), late_us = after(now_us, gw_front_patience(front) * 1000);
  /* After an error of accept(2) there is another grant to be had: a pause. */
  front->due_us = intake.busy || intake.code != 0 ? 0 : sooner(pause_us, late_us);
}

/* step_all lets those take a step whose time has come. */
static void step_all(gw_relay *relay, int64_t now_us) {
  for (gw_node *node = relay->fronts.next; node != &relay->fronts; node = node->next) {
    if (gw_front_of(node)->due_us <= now_us) step(relay, gw_front_of(node), now_us);
  }
}

/* The thread. */

/* How long epoll_wait may sleep, in milliseconds; -1 for ever. */
static int patience(const gw_relay *relay) {
  int64_t due_us = GW_NEVER;
  for (int phase = 0; phase < GW_OPEN; phase++) {
    const gw_link *link = first_in(relay, phase);
    due_us = link != NULL ? sooner(due_us, link->due_us) : due_us;
  }
  for (gw_node *node = relay->fronts.next; node != &relay->fronts; node = node->next) {
    due_us = sooner(due_us, gw_front_of(node)->due_us);
  }
  if (due_us == GW_NEVER) return -1;
  int64_t left_ms = (due_us - gw_now_us() + 999) / 1000; /* no less, or it would wake up too early */
  return left_ms <= 0 ? 0 : (int)sooner(left_ms, INT_MAX);
}

/* leave_event lets |link| wait for the reader. Returns the link that is dropped for it, or NULL. */
static gw_link *leave_event(gw_relay *relay, gw_link *link) {
  gw_link *dropped = NULL;
  (void)pthread_mutex_lock(&relay->lock);
  gw_list_append(&relay->events, &link->node);
  if (++relay->events_count > relay->options.events_max) {
    dropped = gw_link_of(relay->events.next);
    gw_list_remove(&dropped->node);
    relay->events_count--;
    gw_count(relay->counters, GW_COUNT_UNLOGGED, 1);
  }
  (void)pthread_mutex_unlock(&relay->lock);
  return dropped;
}

/* publish turns the links that ended into events that can be read, and wakes their reader. */
static void publish(gw_relay *relay) {
  int told = 0;
  for (gw_link *link; (link = first_in(relay, GW_OVER)) != NULL;) {
    gw_list_remove(&link->node);
    if (!relay->options.quiet || link->end == GW_END_REVOKED || link->end == GW_END_BROKER_REFUSED) {
      link = leave_event(relay, link);
      told = 1;
    }
    gw_link_free(link);
  }
  if (told) gw_signal_fd(relay->events_ready);
}

/* obey does what other threads and the fronts asked for. Returns 1 when that is to stop. */
static int obey(gw_relay *relay) {
  gw_node adopted;
  int wishes = __atomic_exchange_n(&relay->wishes, 0, __ATOMIC_ACQUIRE), again = wishes & GW_WISH_RECHECK;
  int silence = wishes & GW_WISH_SILENCE, stop = wishes & GW_WISH_STOP;
  gw_list_init(&adopted);
  (void)pthread_mutex_lock(&relay->lock);
  gw_list_move(&adopted, &relay->adopted);
  gw_list_move(&relay->fronts, &relay->opened);
  relay->stopped = stop;
  (void)pthread_mutex_unlock(&relay->lock);
  for (gw_node *node = relay->fronts.next; silence && node != &relay->fronts; node = node->next) {
    gw_front_stop_listening(gw_front_of(node));
  }
  (void)__atomic_fetch_or(&relay->silent, silence, __ATOMIC_RELEASE);
  if (stop) {
    gw_list_move(&relay->phases[GW_OPEN].links, &adopted);
    end_all(relay);
  } else if (again || !gw_list_empty(&adopted)) {
    gw_snapshot *snapshot = gw_world_snapshot(relay->world);
    relay->asks = again ? ASKS : 0;
    look_up(relay, &adopted, snapshot, 1);
    for (int phase = GW_CONDEMNED + 1; again && phase < GW_OVER; phase++) {
      look_up(relay, &relay->phases[phase].links, snapshot, 0);
    }
    gw_snapshot_free(snapshot);
  }
  return stop;
}

static void notice(gw_relay *relay, const struct epoll_event *event) {
  if (event->data.ptr == NULL) {
    gw_clear_fd(relay->wake);
  } else if (*(const uint8_t *)event->data.ptr == GW_WATCH_FRONT) {
    ((gw_front *)event->data.ptr)->due_us = 0;
  } else {
    on_event(relay, event->data.ptr, event->events);
  }
}

void *gw_relay_run(void *argument) {
  gw_relay *relay = argument;
  struct epoll_event batch[BATCH];
  int stopped = 0;
  /* For people who look at the process; nothing depends on it. */
  (void)pthread_setname_np(pthread_self(), "gw-relay");
  while (!stopped) {
    int count = epoll_wait(relay->epoll, batch, BATCH, patience(relay));
    if (count < 0 && errno != EINTR) abort(); /* the epoll set is not one any more: something closed it */
    for (int i = 0; i < count; i++) notice(relay, &batch[i]);
    step_all(relay, gw_now_us());
    stopped = obey(relay);
    end_due(relay, gw_now_us());
    publish(relay);
  }
  return NULL;
}
