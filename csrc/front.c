#include "front.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "counters.h"

/* Events of one call: each takes up to 0.25 ms, for which the bytes of other connections wait. Two cost a handshake
   4 % more in calls. */
enum { BATCH = 4 };

static gw_conn *conn_of(gw_node *node) { return (gw_conn *)((char *)node - offsetof(gw_conn, node)); }

gw_front *gw_front_new(gw_listener *listener, void *ssl_ctx, int64_t timeout_ms, gw_error *error) {
  gw_front *front = calloc(1, sizeof *front);
  int epoll = front == NULL ? -1 : epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) {
    (void)gw_fail(error, "no epoll set for handshakes: %m");
    free(front);
    return NULL;
  }
  *front = (gw_front){.listener = listener, .ssl_ctx = ssl_ctx, .timeout_ms = timeout_ms, .epoll = epoll};
  gw_list_init(&front->conns);
  return front;
}

void gw_front_free(gw_front *front) {
  if (front == NULL) return;
  while (!gw_list_empty(&front->conns)) {
    gw_conn *conn = conn_of(front->conns.next);
    gw_list_remove(&conn->node);
    gw_conn_free(conn);
    gw_listener_count(front->listener, GW_COUNT_HANDSHAKING, -1);
  }
  gw_front_stop_listening(front);
  (void)close(front->epoll);
  free(front);
}

static void count_time(const gw_front *front, int result, int64_t ms) {
  if (result != GW_HANDSHAKE_DONE) return;
  int bits = ms > 0 ? 64 - __builtin_clzll((uint64_t)ms) : 0;
  gw_listener_count(front->listener, GW_COUNT_HANDSHAKE_TIME + (bits < GW_TIME_BUCKETS ? bits : GW_TIME_BUCKETS - 1), 1);
  gw_listener_count(front->listener, GW_COUNT_HANDSHAKE_MS, (int)ms);
}

/* arrive takes |conn|, whose handshake has ended or is the reader's, out of the front. Returns 1: |arrival| is filled. */
static int arrive(gw_front *front, gw_conn *conn, int result, gw_arrival *arrival) {
  count_time(front, result, gw_now_ms() - conn->accepted_ms);
  arrival->conn = conn;
  arrival->listener = front->listener;
  arrival->result = result;
  arrival->leaf = NULL;
  arrival->clear = gw_conn_is_clear(conn);
  if (conn->awaited != 0) (void)epoll_ctl(front->epoll, EPOLL_CTL_DEL, conn->fd, NULL);
  gw_list_remove(&conn->node);
  return 1;
}

/* next_broker returns the one whose turn it is, or NULL where none has a share. */
static gw_broker *next_broker(gw_front *front) {
  for (size_t tries = front->broker_count * GW_FULL_SHARE; tries > 0; tries--) {
    gw_broker *next = &front->brokers[front->turn++ % front->broker_count];
    next->credit += __atomic_load_n(&next->share, __ATOMIC_RELAXED);
    if (next->credit >= GW_FULL_SHARE) {
      next->credit -= GW_FULL_SHARE;
      return next;
    }
  }
  return NULL;
}

/* dial returns a socket that is connected or connecting to |broker|, or -1 where it cannot be had at once. */
static int dial(const gw_broker *broker) {
  int fd = socket(broker->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect(fd, (const struct sockaddr *)&broker->address, broker->length) != 0 && errno != EINPROGRESS) {
    (void)close(fd);
    return -1;
  }
  return fd;
}

/* hand_over takes a clear client to the relay with a broker's socket. Returns 1, or 0 and it has to be told of. */
static int hand_over(gw_front *front, const gw_arrival *arrival) {
  int shown = arrival->clear && __atomic_exchange_n(&front->shows, 0, __ATOMIC_RELAXED);
  const gw_broker *broker = arrival->clear && !shown ? next_broker(front) : NULL;
  int fd = broker != NULL ? dial(broker) : -1;
  if (fd < 0) return 0;
  if (!gw_relay_adopt(front->relay, arrival->conn, fd, (uint64_t)(broker - front->brokers), NULL, 0, NULL)) {
    (void)close(fd);
    return 0;
  }
  gw_listener_count(front->listener, GW_COUNT_HANDSHAKING, -1);
  return 1;
}

/* advance goes as far as the socket lets it. Returns 1 when |arrival| was filled. */
static int advance(gw_front *front, gw_conn *conn, gw_arrival *arrival) {
  int result = gw_conn_handshake(conn, &arrival->error);
  if (result == GW_HANDSHAKE_WANT_READ || result == GW_HANDSHAKE_WANT_WRITE) {
    struct epoll_event event = {.events = result == GW_HANDSHAKE_WANT_READ ? EPOLLIN : EPOLLOUT, .data.ptr = conn};
    int how = conn->awaited == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (event.events == conn->awaited || epoll_ctl(front->epoll, how, conn->fd, &event) == 0) {
      conn->awaited = event.events;
      return 0;
    }
    (void)gw_fail(&arrival->error, "cannot wait for the client: %m");
    result = GW_HANDSHAKE_FAILED;
  }
  (void)arrive(front, conn, result, arrival);
  return !hand_over(front, arrival);
}

static int watch_socket(gw_front *front, int index, int how) {
  struct epoll_event event = {.events = front->paused ? 0 : EPOLLIN, .data.ptr = &front->listening[index]};
  return epoll_ctl(front->epoll, how, front->listening[index], &event) == 0;
}

int gw_front_listen(gw_front *front, int listening, gw_error *error) {
  if (front->sockets == GW_MOST_SOCKETS) return gw_fail(error, "more than %d addresses", GW_MOST_SOCKETS);
  front->listening[front->sockets] = listening;
  if (!watch_socket(front, front->sockets, EPOLL_CTL_ADD)) return gw_fail(error, "cannot wait for clients: %m");
  front->sockets++;
  return 1;
}

void gw_front_stop_listening(gw_front *front) {
  for (int i = 0; i < front->sockets; i++) {
    /* Another process has it open too: epoll would go on reporting it. */
    (void)epoll_ctl(front->epoll, EPOLL_CTL_DEL, front->listening[i], NULL);
    (void)close(front->listening[i]);
  }
  front->sockets = 0;
}

static void pause_sockets(gw_front *front, int paused) {
  if (front->paused != paused) {
    front->paused = paused;
    for (int i = 0; i < front->sockets; i++) {
      (void)watch_socket(front, i, EPOLL_CTL_MOD); /* cannot fail: it is registered */
    }
  }
}

/* What accept(2) reports of one client that it failed to give us ("Error handling" there), as opposed to of us. */
static int of_one_client(int code) {
  return code == ECONNABORTED || code == EPROTO || code == EPERM || code == EINTR || code == ENETDOWN ||
         code == ENOPROTOOPT || code == EHOSTDOWN || code == ENONET || code == EHOSTUNREACH || code == ENETUNREACH;
}

/* take_in accepts one client and begins its handshake. Returns 1 when |arrival| was filled. */
static int take_in(gw_front *front, int listening, gw_intake *intake, gw_arrival *arrival) {
  int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    intake->code = of_one_client(errno) || errno == EAGAIN ? intake->code : errno;
    return 0;
  }
  intake->accepted++;
  gw_listener_count(front->listener, GW_COUNT_ACCEPTED, 1);
  gw_listener_count(front->listener, GW_COUNT_THROTTLED, intake->turn_away != 0);
  if (intake->turn_away) {
    (void)close(fd);
    return 0;
  }
  gw_conn *conn = gw_conn_new(front->listener, front->ssl_ctx, fd, &arrival->error);
  if (conn == NULL) {
    intake->code = ENOMEM;
    (void)close(fd);
    return 0;
  }
  conn->accepted_ms = gw_now_ms();
  gw_list_append(&front->conns, &conn->node);
  gw_listener_count(front->listener, GW_COUNT_HANDSHAKING, 1);
  if (front->only_accepts) return arrive(front, conn, GW_HANDSHAKE_NOT_BEGUN, arrival);
  /* The ClientHello is there already where the socket has TCP_DEFER_ACCEPT. */
  return advance(front, conn, arrival);
}

/* handle deals with one event. Returns 1 when |arrival| was filled. */
static int handle(gw_front *front, void *what, gw_intake *intake, gw_arrival *arrival) {
  uintptr_t offset = (uintptr_t)what - (uintptr_t)front->listening;
  if (offset >= sizeof front->listening) return advance(front, what, arrival);
  return intake->accepted < intake->quota && take_in(front, *(int *)what, intake, arrival);
}

int gw_front_step(gw_front *front, gw_intake *intake, gw_arrival *arrivals, int most) {
  struct epoll_event events[BATCH];
  int ended = 0;
  intake->accepted = intake->code = 0;
  pause_sockets(front, intake->quota == 0);
  int ready = epoll_wait(front->epoll, events, most < BATCH ? most : BATCH, 0);
  for (int i = 0; i < ready; i++) ended += handle(front, events[i].data.ptr, intake, &arrivals[ended]);
  pause_sockets(front, intake->accepted >= intake->quota || intake->code != 0);
  while (ended < most && !gw_list_empty(&front->conns) && gw_front_patience(front) == 0) {
    gw_listener_count(front->listener, GW_COUNT_TIMED_OUT, 1);
    ended += arrive(front, conn_of(front->conns.next), GW_HANDSHAKE_TIMED_OUT, &arrivals[ended]);
  }
  /* Who used the quota up has silenced the sockets: without another step nobody would look at who waits there. */
  int used_up = intake->accepted > 0 && intake->accepted >= intake->quota;
  intake->busy = ready == BATCH || ended == most || used_up;
  return ended;
}

int64_t gw_front_patience(const gw_front *front) {
  if (gw_list_empty(&front->conns)) return -1;
  int64_t left = conn_of(front->conns.next)->accepted_ms + front->timeout_ms - gw_now_ms();
  return left > 0 ? left : 0;
}
