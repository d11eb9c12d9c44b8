/* load_open_loop.c - arrivals at a fixed rate, whatever the server makes of them.
 *
 * Arrival k is due at start + k periods. One that finds no free connection
 * waits for one, and its latency counts from when it was due: a server that
 * stalls shows up in every request that would have come meanwhile. Arrivals
 * start in order, so those that wait are just the numbers from |launched| on. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "load.h"

static const uint64_t second_ns = 1000000000;

int open_loop_init(open_loop *open, uint32_t connections) {
  open->exhausted_ns = UINT64_MAX;
  open->free = calloc(connections, sizeof *open->free);
  open->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (open->free == NULL || open->timer < 0) {
    perror("load: no timer");
    return 0;
  }
  return 1;
}

void open_loop_cleanup(open_loop *open) {
  free(open->free);
  if (open->timer >= 0) {
    close(open->timer);
  }
}

static struct timespec to_timespec(uint64_t ns) {
  return (struct timespec){.tv_sec = (time_t)(ns / second_ns), .tv_nsec = (long)(ns % second_ns)};
}

int open_loop_start(load *load) {
  struct itimerspec clock = {
      .it_interval = to_timespec(load->options->period_ns),
      .it_value = to_timespec(load->started_ns),
  };
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = TIMER_EVENT};
  return timerfd_settime(load->open.timer, TFD_TIMER_ABSTIME, &clock, NULL) == 0 &&
         epoll_ctl(load->epoll, EPOLL_CTL_ADD, load->open.timer, &event) == 0;
}

void open_loop_free(load *load, const conn *conn) {
  open_loop *open = &load->open;
  open->free[((uint64_t)open->head + open->length) % load->options->connections] = conn->index;
  open->length++;
}

/* The connection that has been free longest, or NULL. A quiet one may have been lost since it was put here. */
static conn *take_free(load *load) {
  open_loop *open = &load->open;
  conn_state usable = load->options->mode == MODE_ECHO ? CONN_QUIET : CONN_CLOSED;
  while (open->length > 0) {
    conn *conn = &load->conns[open->free[open->head]];
    open->head = (open->head + 1) % load->options->connections;
    open->length--;
    if (conn->state == usable) {
      return conn;
    }
  }
  return NULL;
}

static uint64_t due_ns(const load *load, uint64_t number) {
  return load->started_ns + number * load->options->period_ns;
}

/* Whose fault is a late start? Whether a connection was free is asked for the time when the arrival was due: after a
 * pause of ours the first to start take all connections, and yet the others are late because of us. */
static void count_arrival(load *load, uint64_t due, uint64_t now) {
  report_arrival(&load->report, due, due >= load->open.exhausted_ns, now);
}

/* Start the next arrival. Returns 0 when there is nothing to start or nothing to start it on. */
static int launch_next(load *load) {
  open_loop *open = &load->open;
  uint64_t due = due_ns(load, load->launched);
  uint64_t now = load_now();
  if (due > now) {
    if (open->length > 0) {
      open->exhausted_ns = UINT64_MAX;
    }
    return 0;
  }
  conn *conn = take_free(load);
  if (open->length == 0 && open->exhausted_ns == UINT64_MAX) {
    open->exhausted_ns = now;
  }
  if (conn == NULL) {
    return 0;
  }
  count_arrival(load, due, now);
  if (!load_launch(load, conn, load->launched++, due)) {
    open_loop_free(load, conn);
  } else if (conn->state == CONN_EXCHANGE) {
    load_drive(load, conn);
  }
  return 1;
}

static int some_to_come(const load *load) {
  return load->phase == RUN && load->options->period_ns != 0 && load->launched < load->options->count;
}

void open_loop_launch(load *load) {
  while (some_to_come(load) && launch_next(load)) {
  }
}

void open_loop_expire(load *load, uint64_t now_ns) {
  while (some_to_come(load)) {
    uint64_t due = due_ns(load, load->launched);
    if (due + load->options->wait_ns >= now_ns) {
      return;
    }
    load->launched++;
    count_arrival(load, due, now_ns);
    report_failure(&load->report, (failure){.kind = FAIL_TIMEOUT});
  }
}

void open_loop_tick(load *load) {
  uint64_t expirations = 0;
  ssize_t length = read(load->open.timer, &expirations, sizeof expirations);
  if (length < 0 && errno != EAGAIN) {
    perror("load: timer");
  }
  if (load->launched >= load->options->count) {
    epoll_ctl(load->epoll, EPOLL_CTL_DEL, load->open.timer, NULL); /* nothing is due any more */
  }
}
