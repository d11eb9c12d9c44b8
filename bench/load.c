/* load.c - a load generator for TLS servers in front of an echo service.
 *
 * Prepare (connections that stay, or sessions to resume), say so, wait for the
 * start, run, report. Closed loop: a connection starts its next handshake or
 * round trip when the one before it has ended, so the rate is the server's and
 * latencies are those at that rate. See load_options.c for the command line. */
#include "load.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "load_options.h"

enum {
  EVENTS = 256,
  PREPARE_AT_ONCE = 64, /* the preparation shall not look like an attack */
  SPARE_DESCRIPTORS = 16,
  SWEEP_MS = 100,
};

/* Epoll data of what is not a connection; connections count from 0. */
static const uint32_t STDIN_EVENT = UINT32_MAX;
static const uint32_t SIGNAL_EVENT = UINT32_MAX - 1;

typedef enum { PREPARE, WAIT, RUN, END } phase;

typedef struct {
  const load_options *options;
  conn_shared shared;
  conn *conns;
  phase phase;
  int epoll;
  int signals;
  uint32_t prepared;  /* connections opened in PREPARE */
  uint32_t preparing; /* of those, under way */
  uint32_t ready;     /* of those, served; where connections stay, those that still live */
  uint64_t launched;  /* handshakes or round trips started in RUN */
  uint64_t started_ns;
  uint64_t ended_ns;
  uint64_t swept_ns;
  double cpu_at_start;
  report prepare_report;
  report report;
} load;

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static double cpu_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void begin(load *load, phase next) {
  load->phase = next;
  load->cpu_at_start = cpu_seconds();
  load->started_ns = now_ns();
}

static void end(load *load) {
  load->ended_ns = now_ns();
  load->phase = END;
}

static int may_launch(const load *load) {
  return load->phase == RUN && (load->options->count == 0 || load->launched < load->options->count);
}

/* Start the connection's next handshake or round trip, or let it rest. */
static void launch(load *load, conn *conn) {
  failure why;
  if (!may_launch(load)) {
    return;
  }
  load->launched++;
  if (load->options->mode == MODE_ECHO) {
    conn_exchange(conn, now_ns());
  } else if (!conn_open(conn, now_ns(), &why)) {
    report_failure(&load->report, why); /* the sweep tries again: a dead server is not hammered */
  }
}

static void on_served(load *load, conn *conn) {
  if (load->phase == PREPARE) {
    load->preparing--;
    load->ready++;
  } else {
    report_done(&load->report, now_ns() - conn->started_ns, SSL_session_reused(conn->ssl));
  }
  if (load->options->mode == MODE_HANDSHAKES) {
    conn_close(conn);
  }
}

static void on_failed(load *load, conn *conn, failure why) {
  int preparing = load->phase == PREPARE && conn->state != CONN_QUIET;
  report_failure(load->phase == PREPARE ? &load->prepare_report : &load->report, why);
  if (preparing) {
    load->preparing--;
  } else if (load->options->mode != MODE_HANDSHAKES) {
    load->ready--; /* a connection that was to stay is lost */
  }
  conn_close(conn);
}

static void drive(load *load, conn *conn) {
  while (conn->state != CONN_CLOSED) {
    failure why;
    conn_step step = conn_advance(conn, &why);
    if (step == CONN_FAILED) {
      on_failed(load, conn, why);
    }
    if (step != CONN_SERVED) {
      return;
    }
    on_served(load, conn);
    launch(load, conn);
    if (conn->state != CONN_EXCHANGE) {
      return; /* resting, or connecting: events will tell */
    }
  }
}

/* Open what has to be there before the run; once all of it is served or failed, say so and wait. Returns 0 on error. */
static int prepare(load *load) {
  int wanted = load->options->mode != MODE_HANDSHAKES || load->options->resume;
  uint32_t total = wanted ? load->options->connections : 0;
  while (load->prepared < total && load->preparing < PREPARE_AT_ONCE) {
    failure why;
    if (conn_open(&load->conns[load->prepared++], now_ns(), &why)) {
      load->preparing++;
    } else {
      report_failure(&load->prepare_report, why);
    }
  }
  if (load->prepared < total || load->preparing > 0) {
    return 1;
  }
  begin(load, WAIT);
  return report_print_ready(stdout, &load->prepare_report, load->ready);
}

static void start_run(load *load) {
  if (load->options->mode == MODE_IDLE) {
    end(load);
    return;
  }
  begin(load, RUN);
  for (uint32_t index = 0; index < load->options->connections; index++) {
    conn *conn = &load->conns[index];
    if (load->options->mode == MODE_HANDSHAKES || conn->state == CONN_QUIET) {
      launch(load, conn);
    }
    if (conn->state == CONN_EXCHANGE) {
      drive(load, conn);
    }
  }
}

/* Timeouts, and pauses after a failure, need no better clock than this. */
static void sweep(load *load, uint64_t now) {
  if (now - load->swept_ns < (uint64_t)SWEEP_MS * 1000000) {
    return;
  }
  load->swept_ns = now;
  for (uint32_t index = 0; index < load->options->connections; index++) {
    conn *conn = &load->conns[index];
    if (conn->state == CONN_CLOSED) {
      if (load->phase == RUN && load->options->mode == MODE_HANDSHAKES) {
        launch(load, conn);
      }
    } else if (conn->state != CONN_QUIET && now > conn->started_ns + load->options->wait_ns) {
      on_failed(load, conn, (failure){.kind = FAIL_TIMEOUT});
    }
  }
}

static int run_is_over(const load *load, uint64_t now) {
  const load_options *options = load->options;
  return (options->mode == MODE_ECHO && load->ready == 0) ||
         (options->count != 0 && load->report.done + load->report.failed >= options->count) ||
         (options->run_ns != 0 && now > load->started_ns + options->run_ns);
}

static void on_stdin(load *load) {
  char ignored[256];
  ssize_t length = read(STDIN_FILENO, ignored, sizeof ignored);
  if (length <= 0) {
    epoll_ctl(load->epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
  }
  if (load->phase == WAIT) {
    start_run(load);
  }
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
    start_run(load); /* behind a file or /dev/null there is nobody to wait for */
    return 1;
  }
  perror("load: cannot wait for stdin");
  return 0;
}

/* Returns 0 with a message on error. */
static int handle_events(load *load) {
  struct epoll_event events[EVENTS];
  int count = epoll_wait(load->epoll, events, EVENTS, SWEEP_MS);
  if (count < 0 && errno != EINTR) {
    perror("load: epoll_wait");
    return 0;
  }
  for (int at = 0; at < count && load->phase != END; at++) {
    uint32_t which = events[at].data.u32;
    if (which == STDIN_EVENT) {
      on_stdin(load);
    } else if (which == SIGNAL_EVENT) {
      end(load);
    } else {
      drive(load, &load->conns[which]);
    }
  }
  return 1;
}

/* Returns 1 when the run has ended, 0 on error. */
static int run(load *load) {
  while (load->phase != END) {
    if (load->phase == PREPARE && (!prepare(load) || (load->phase == WAIT && !wait_for_start(load)))) {
      return 0;
    }
    if (load->phase == END) {
      break;
    }
    if (!handle_events(load)) {
      return 0;
    }
    uint64_t now = now_ns();
    if (load->phase != END) {
      sweep(load, now);
    }
    if (load->phase == RUN && run_is_over(load, now)) {
      end(load);
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
  begin(load, PREPARE);
  return allow_descriptors(options->connections) && conn_shared_init(&load->shared, options, load->epoll);
}

static void load_cleanup(load *load) {
  for (uint32_t index = 0; load->conns != NULL && index < load->options->connections; index++) {
    conn_cleanup(&load->conns[index]);
  }
  conn_shared_cleanup(&load->shared);
  free(load->conns);
  if (load->signals >= 0) {
    close(load->signals);
  }
  if (load->epoll >= 0) {
    close(load->epoll);
  }
}

static int print_result(const load *load, double cpu_now) {
  double seconds = (double)(load->ended_ns - load->started_ns) / 1e9;
  return report_print(stdout, &load->report, load->options, seconds, cpu_now - load->cpu_at_start);
}

int main(int argc, char **argv) {
  static load load = {.epoll = -1, .signals = -1};
  load_options options;
  if (!options_parse(argc, argv, &options)) {
    return 2;
  }
  int good = load_init(&load, &options) && run(&load) && print_result(&load, cpu_seconds());
  load_cleanup(&load);
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
