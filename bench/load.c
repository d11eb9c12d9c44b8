/* load.c - a load generator for TLS servers in front of an echo service.
 *
 * Prepare (connections that stay, or sessions to resume), say so, wait for the
 * start, run, report; only then are connections closed that are still open.
 * Closed loop: a connection starts its next handshake or round trip when the
 * one before it has ended, so the rate is the server's and latencies are those
 * at that rate. Open loop: the rate is given, and latencies count from when a
 * request was due. See load_options.c for the command line. */
#include "load.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { EVENTS = 256, SPARE_DESCRIPTORS = 16, LONGEST_WAIT_MS = 100 };

/* Returns 0 with a message on error. */
static int start(load *load) {
  if (!load_start(load)) {
    perror("load: cannot start");
    return 0;
  }
  return 1;
}

int load_take_start(load *load) {
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  char ignored[256];
  if (poll(&input, 1, 0) != 1) {
    return 1; /* taken already */
  }
  ssize_t length = read(STDIN_FILENO, ignored, sizeof ignored);
  if (length <= 0) {
    epoll_ctl(load->epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
  }
  return load->phase != WAIT || start(load);
}

static int watch(int epoll, int fd, uint32_t data) {
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = data};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* Returns 0 with a message on error. */
static int wait_for_start(load *load) {
  if (watch(load->epoll, STDIN_FILENO, STDIN_EVENT)) {
    return 1;
  }
  if (errno == EPERM || errno == EBADF) {
    return start(load); /* behind a file or /dev/null there is nobody to wait for */
  }
  perror("load: cannot wait for stdin");
  return 0;
}

/* Returns 0 with a message on error. */
static int handle_event(load *load, uint32_t which) {
  if (which == STDIN_EVENT) {
    return load_take_start(load);
  }
  if (which == SIGNAL_EVENT) {
    load_end(load);
  } else if (which == TIMER_EVENT) {
    open_loop_tick(load);
  } else {
    load_drive(load, &load->conns[which]);
  }
  return 1;
}

/* Returns 0 with a message on error. */
static int handle_events(load *load) {
  struct epoll_event events[EVENTS];
  int count = epoll_wait(load->epoll, events, EVENTS, LONGEST_WAIT_MS);
  if (count < 0 && errno != EINTR) {
    perror("load: epoll_wait");
    return 0;
  }
  for (int at = 0; at < count && load->phase != END; at++) {
    if (!handle_event(load, events[at].data.u32)) {
      return 0;
    }
    open_loop_launch(load); /* after each event: a batch of handshakes takes longer than a period */
  }
  return 1;
}

/* Returns 0 with a message on error. */
static int prepare(load *load) {
  if (!load_prepare(load)) {
    return 1;
  }
  load_begin(load, WAIT);
  return report_print_ready(stdout, &load->prepare_report, load->ready) && wait_for_start(load);
}

/* Returns 1 when the run has ended, 0 on error. */
static int run(load *load) {
  load_begin(load, PREPARE);
  while (load->phase != END) {
    if (load->phase == PREPARE && !prepare(load)) {
      return 0;
    }
    if (load->phase != END && !handle_events(load)) {
      return 0;
    }
    uint64_t now = load_now();
    if (load->phase != END) {
      load_sweep(load, now);
    }
    if (load_is_over(load, now)) {
      load_end(load);
    }
  }
  return 1;
}

static int allow_descriptors(uint32_t connections) {
  struct rlimit limit;
  rlim_t wanted = (rlim_t)connections + SPARE_DESCRIPTORS;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    perror("load: getrlimit");
    return 0;
  }
  if (limit.rlim_max < wanted) {
    fprintf(stderr, "load: %u connections need %llu descriptors, the hard limit (ulimit -Hn) is %llu\n", connections,
            (unsigned long long)wanted, (unsigned long long)limit.rlim_max);
    return 0;
  }
  limit.rlim_cur = limit.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

/* SIGINT and SIGTERM become events; a peer that is gone is an error code, not a signal. */
static int watch_signals(load *load) {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || sigprocmask(SIG_BLOCK, &ends, NULL) != 0) {
    return 0;
  }
  load->signals = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
  return load->signals >= 0 && watch(load->epoll, load->signals, SIGNAL_EVENT);
}

/* Returns 0 with a message on error; load_cleanup is due either way. */
static int load_init(load *load, const load_options *options) {
  load->options = options;
  load->epoll = epoll_create1(EPOLL_CLOEXEC);
  if (load->epoll < 0 || !watch_signals(load)) {
    perror("load: epoll or signals");
    return 0;
  }
  load->conns = calloc(options->connections, sizeof *load->conns);
  if (load->conns == NULL) {
    perror("load: connections");
    return 0;
  }
  for (uint32_t index = 0; index < options->connections; index++) {
    load->conns[index] = (conn){.shared = &load->shared, .index = index, .fd = -1};
  }
  return allow_descriptors(options->connections) && conn_shared_init(&load->shared, options, load->epoll) &&
         (options->clients == NULL || client_set_load(&load->clients, options->clients)) &&
         (options->revoked_clients == NULL || client_set_load(&load->revoked, options->revoked_clients)) &&
         open_loop_init(&load->open, options->connections);
}

static void load_cleanup(load *load) {
  for (uint32_t index = 0; load->conns != NULL && index < load->options->connections; index++) {
    conn_cleanup(&load->conns[index]);
  }
  conn_shared_cleanup(&load->shared);
  client_set_cleanup(&load->clients);
  client_set_cleanup(&load->revoked);
  open_loop_cleanup(&load->open);
  free(load->conns);
  if (load->signals >= 0) {
    close(load->signals);
  }
  if (load->epoll >= 0) {
    close(load->epoll);
  }
}

static int print_result(const load *load) {
  double seconds = (double)(load->ended_ns - load->started_ns) / 1e9;
  return report_print(stdout, &load->report, load->options, seconds, load->cpu_at_end - load->cpu_at_start);
}

int main(int argc, char **argv) {
  static load load = {.epoll = -1, .signals = -1, .open.timer = -1};
  load_options options;
  if (!options_parse(argc, argv, &options)) {
    return 2;
  }
  int good = load_init(&load, &options) && run(&load) && print_result(&load);
  load_cleanup(&load);
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
