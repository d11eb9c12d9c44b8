/* front_stage.h - what the tests of the front share: one with its listening socket, and clients that connect to it.
 *
 * One thread steps the front and its clients in turn. The clock is the test's to
 * put forward, and accept4(2) can be made to fail: both are defined here, in front
 * of libc's. So nothing waits and nothing depends on time. */
#ifndef GW_FRONT_STAGE_H
#define GW_FRONT_STAGE_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../front.h"
#include "tls_ends.h"

enum { PATIENCE = 30, ROOM = 128, TIMEOUT_MS = 3600 * 1000 };

static const int VERSIONS[] = {TLS1_2_VERSION, TLS1_3_VERSION};

/* --- the kernel, as the tests want it --- */

static int64_t ahead_ms;
static int accept_errors[8]; /* what the next calls fail with, up to a 0 */

int clock_gettime(clockid_t clock, struct timespec *now);
int clock_gettime(clockid_t clock, struct timespec *now) {
  int result = (int)syscall(SYS_clock_gettime, clock, now);
  if (result == 0 && clock == CLOCK_MONOTONIC) {
    now->tv_sec += ahead_ms / 1000;
    now->tv_nsec += ahead_ms % 1000 * 1000000;
    now->tv_sec += now->tv_nsec / 1000000000;
    now->tv_nsec %= 1000000000;
  }
  return result;
}

int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict length, int flags) {
  if (accept_errors[0] != 0) {
    errno = accept_errors[0];
    memmove(accept_errors, accept_errors + 1, sizeof accept_errors - sizeof *accept_errors);
    return -1;
  }
  return (int)syscall(SYS_accept4, fd, address, length, flags);
}

/* --- the stage --- */

typedef struct {
  gateway door;
  uint64_t gauge; /* of its connections */
  identity good, revoked;
  gw_front *front;
  int listening; /* the front's */
  struct sockaddr_in address;
  gw_intake intake;          /* of the last step */
  gw_arrival arrivals[ROOM]; /* all that have ended, in their order */
  int ended;
  uint64_t arrived; /* of all that ever have */
} stage;

static inline int listening_socket(struct sockaddr_in *address) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  socklen_t length = sizeof *address;
  *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  CHECK(fd >= 0 && bind(fd, (struct sockaddr *)address, sizeof *address) == 0 && listen(fd, ROOM) == 0);
  CHECK(getsockname(fd, (struct sockaddr *)address, &length) == 0);
  return fd;
}

static inline void stage_open(stage *on, int64_t timeout_ms) {
  gw_error error;
  memset(on, 0, sizeof *on);
  gw_rules rules = {
      .check = GW_CHECK_CHAIN, .on_unavailable = GW_UNAVAILABLE_REJECT, .connections = &on->gauge};
  gateway_open(&on->door, rules, SSL_VERIFY_PEER);
  on->good = identity_make("good", "10", &on->door.middle, 0);
  on->revoked = identity_make("revoked", "11", &on->door.middle, 0);
  lists_now(&on->door, NO_SERIALS, SERIALS("11"));
  on->front = gw_front_new(on->door.listener, on->door.context, timeout_ms, &error);
  CHECK(on->front != NULL && gw_front_patience(on->front) == -1);
  on->listening = listening_socket(&on->address);
  CHECK(gw_front_listen(on->front, on->listening, &error) == 1);
}

/* forget frees those whose handshake has ended. */
static inline void forget(stage *on) {
  for (int i = 0; i < on->ended; i++) {
    gw_conn_free(on->arrivals[i].conn);
  }
  on->ended = 0;
}

static inline void stage_close(stage *on) {
  forget(on);
  gw_front_free(on->front);
  CHECK(on->gauge == 0);
  identity_free(&on->good);
  identity_free(&on->revoked);
  gateway_close(&on->door);
}

/* is_ready returns whether the front has something to do. */
static inline int is_ready(const stage *on) {
  struct pollfd waiting = {.fd = on->front->epoll, .events = POLLIN};
  int ready = poll(&waiting, 1, 0);
  CHECK(ready >= 0);
  return ready;
}

/* step_with steps the front once; returns how many handshakes have ended in it, |most| of them at most. */
static inline int step_with(stage *on, gw_intake intake, int most) {
  on->intake = intake;
  CHECK(on->ended + most <= ROOM);
  int ended = gw_front_step(on->front, &on->intake, &on->arrivals[on->ended], most);
  CHECK(0 <= ended && ended <= most && on->intake.accepted <= intake.quota);
  on->ended += ended;
  on->arrived += (uint64_t)ended;
  return ended;
}

static inline int step(stage *on, int quota) { return step_with(on, (gw_intake){.quota = quota}, ROOM - on->ended); }

/* in_progress returns the number of handshakes that have begun and not ended: whoever has arrived is counted on. */
static inline uint64_t in_progress(const stage *on) { return on->door.counters[GW_COUNT_HANDSHAKING] - on->arrived; }

/* take_in takes clients in until |count| handshakes are in progress; none may end meanwhile. */
static inline void take_in(stage *on, uint64_t count) {
  for (int i = 0; in_progress(on) < count; i++) {
    CHECK(i < MAX_STEPS && step(on, ROOM) == 0);
  }
}

/* --- clients --- */

/* dial connects a socket that does not block to |address|. */
static inline int dial(const struct sockaddr *address, socklen_t length) {
  const int on = 1;
  int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fd >= 0 && connect(fd, address, length) == 0);
  CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 && ioctl(fd, FIONBIO, &on) == 0);
  return fd;
}

static inline int dial_in(const stage *on) { return dial((const struct sockaddr *)&on->address, sizeof on->address); }

static inline void client_connect(client *end, const stage *on, int version, const identity *who) {
  client_begin(end, dial_in(on), version, who, NULL);
}

/* say sends what is not TLS. */
static inline void say(int fd, const char *text) {
  CHECK(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

/* is_closed waits until |fd| is closed from the other side, with or without a last word. */
static inline int is_closed(int fd) {
  char last[4096];
  struct pollfd waiting = {.fd = fd, .events = POLLIN};
  ssize_t got = 1;
  while (got > 0 && poll(&waiting, 1, PATIENCE * 1000) == 1) {
    got = recv(fd, last, sizeof last, MSG_DONTWAIT);
  }
  return got == 0 || (got < 0 && errno == ECONNRESET);
}

/* shake_all steps |count| clients and the front until |total| handshakes have ended. */
static inline void shake_all(stage *on, client *clients, int count, int total) {
  for (int i = 0; on->ended < total; i++) {
    struct pollfd waiting = {.fd = on->front->epoll, .events = POLLIN};
    CHECK(i < PATIENCE * 1000);
    for (int number = 0; number < count; number++) {
      client_steps(&clients[number]);
    }
    (void)poll(&waiting, 1, 1);
    (void)step(on, ROOM);
  }
}

/* arrival_of returns the one whose client has the socket |fd|, or NULL. */
static inline const gw_arrival *arrival_of(const stage *on, int fd) {
  struct sockaddr_in own;
  socklen_t length = sizeof own;
  CHECK(getsockname(fd, (struct sockaddr *)&own, &length) == 0);
  for (int i = 0; i < on->ended; i++) {
    if (memcmp(&on->arrivals[i].conn->peer, &own, sizeof own) == 0) {
      return &on->arrivals[i];
    }
  }
  return NULL;
}

#endif
