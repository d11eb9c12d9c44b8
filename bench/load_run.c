/* load_run.c - what is started when, and what came of it.
 *
 * Which client an arrival presents follows from its number alone, so that two
 * runs are the same and the share of revoked ones is even at any moment. With
 * --resume it follows from the slot too: a session belongs to one client. */
#include <stdlib.h>

#include "load.h"

enum {
  PREPARE_AT_ONCE = 64, /* the preparation shall not look like an attack */
  SWEEP_MS = 100,
};

static double cpu_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void load_begin(load *load, phase next) {
  load->phase = next;
  load->cpu_at_start = cpu_seconds();
  load->started_ns = load_now();
}

void load_end(load *load) {
  load->ended_ns = load_now();
  load->cpu_at_end = cpu_seconds();
  load->phase = END;
}

static void assign(load *load, conn *conn, int revoked, uint64_t turn) {
  const client_set *set = revoked ? &load->revoked : &load->clients;
  conn->revoked = revoked;
  conn->client = set->count == 0 ? NULL : &set->list[turn % set->count];
}

/* Of |count| arrivals so many are revoked clients: the share, rounded to the nearest, at any moment. */
static uint64_t revoked_of(const load *load, uint64_t count) {
  return (count * load->options->revoked_share + SHARE_UNIT / 2) / SHARE_UNIT;
}

static void assign_arrival(load *load, conn *conn, uint64_t number) {
  uint64_t revoked_before = revoked_of(load, number);
  int revoked = revoked_of(load, number + 1) > revoked_before;
  uint64_t turn = revoked ? revoked_before : number - revoked_before;
  assign(load, conn, revoked, load->options->resume ? conn->index : turn);
}

static int open_counted(load *load, conn *conn, uint64_t started_ns) {
  failure why;
  if (!conn_open(conn, started_ns, &why)) {
    report_failure(load->phase == PREPARE ? &load->prepare_report : &load->report, why);
    return 0;
  }
  load->under_way++;
  return 1;
}

int load_launch(load *load, conn *conn, uint64_t number, uint64_t started_ns) {
  if (load->options->mode == MODE_ECHO) {
    load->under_way++;
    conn_exchange(conn, started_ns);
    return 1;
  }
  assign_arrival(load, conn, number);
  return open_counted(load, conn, started_ns);
}

/* Closed loop: the next one on this connection, if there is to be one. */
static void launch_next(load *load, conn *conn) {
  if (load->options->count == 0 || load->launched < load->options->count) {
    load_launch(load, conn, load->launched++, load_now());
  }
}

static void on_served(load *load, conn *conn) {
  load->under_way--;
  if (load->phase == PREPARE) {
    load->ready += !conn->revoked;
    conn->stays = load->options->mode != MODE_HANDSHAKES;
  } else if (conn->revoked) {
    report_failure(&load->report, (failure){.kind = FAIL_SERVED});
  } else {
    report_done(&load->report, load_now() - conn->started_ns, SSL_session_reused(conn->ssl));
  }
  if (load->options->mode == MODE_HANDSHAKES) {
    conn_close(conn);
  }
}

/* A revoked client is refused with the alert. Where a session was resumed there is no certificate to refuse any more:
 * then the end of the connection does. */
static int is_refusal(const conn *conn, failure why) {
  return conn->revoked && conn->state != CONN_QUIET &&
         ((why.kind == FAIL_ALERT && why.alert == SSL_AD_CERTIFICATE_REVOKED) ||
          (why.kind == FAIL_CLOSED && SSL_session_reused(conn->ssl)));
}

static int is_wanted_closing(const load *load, const conn *conn, failure why) {
  return load->options->until_closed && load->phase == RUN && conn->state == CONN_QUIET &&
         (why.kind == FAIL_CLOSED || why.kind == FAIL_RESET || why.kind == FAIL_ALERT);
}

static void count_failed(load *load, const conn *conn, failure why) {
  if (load->phase == WAIT && load->options->until_closed) {
    /* A server that closes upon the start may be heard of before it. To begin to wait cannot fail. */
    (void)load_take_start(load);
  }
  if (load->phase == PREPARE) {
    if (!is_refusal(conn, why)) {
      report_failure(&load->prepare_report, why);
    }
  } else if (is_refusal(conn, why)) {
    report_refused(&load->report, load_now() - conn->started_ns);
  } else if (is_wanted_closing(load, conn, why)) {
    report_done(&load->report, load_now() - load->started_ns, 0);
  } else {
    report_failure(&load->report, why);
  }
}

/* Returns 1 when it had to end like this. */
static int on_failed(load *load, conn *conn, failure why) {
  int expected = is_refusal(conn, why);
  count_failed(load, conn, why);
  if (conn->state != CONN_QUIET) {
    load->under_way--;
  }
  if (conn->stays) {
    load->ready--;
    conn->stays = 0;
  }
  conn_close(conn);
  return expected;
}

/* What follows on a connection on which something has ended, |well| or with a failure. */
static void go_on(load *load, conn *conn, int well) {
  const load_options *options = load->options;
  if (load->phase == PREPARE) {
    if (options->revoked_share > 0 && !conn->revoked) {
      assign(load, conn, 1, conn->index); /* the slot's other session */
      open_counted(load, conn, load_now());
    }
  } else if (load->phase != RUN || options->mode == MODE_STORM || options->mode == MODE_IDLE) {
    return;
  } else if (options->period_ns == 0) {
    if (well) {
      launch_next(load, conn); /* after a failure the sweep does: nobody is hammered */
    }
  } else if (options->mode == MODE_HANDSHAKES || well) {
    open_loop_free(load, conn);
  }
}

void load_drive(load *load, conn *conn) {
  while (conn->state != CONN_CLOSED) {
    failure why;
    conn_step step = conn_advance(conn, &why);
    if (step == CONN_BLOCKED) {
      return;
    }
    int well = 1;
    if (step == CONN_FAILED) {
      well = on_failed(load, conn, why);
    } else {
      on_served(load, conn);
    }
    go_on(load, conn, well);
    if (conn->state != CONN_EXCHANGE) {
      return; /* resting, or connecting: events will tell */
    }
  }
}

int load_prepare(load *load) {
  const load_options *options = load->options;
  int wanted = options->mode == MODE_HANDSHAKES ? options->resume : options->mode != MODE_STORM;
  /* After a failure no more are opened: it is said at once, and not when all have timed out. */
  uint32_t total = !wanted ? 0 : load->prepare_report.failed > 0 ? load->prepared : options->connections;
  while (load->prepared < total && load->under_way < PREPARE_AT_ONCE) {
    conn *conn = &load->conns[load->prepared++];
    assign(load, conn, 0, conn->index);
    open_counted(load, conn, load_now());
  }
  return load->prepared >= total && load->under_way == 0;
}

static void start_storm(load *load) {
  load->launched = load->options->connections;
  for (uint32_t index = 0; index < load->options->connections; index++) {
    load_launch(load, &load->conns[index], index, load->started_ns);
  }
}

static void start_closed_loop(load *load, conn *conn) {
  launch_next(load, conn);
  if (conn->state == CONN_EXCHANGE) {
    load_drive(load, conn);
  }
}

static void start_loop(load *load) {
  conn_state usable = load->options->mode == MODE_ECHO ? CONN_QUIET : CONN_CLOSED;
  for (uint32_t index = 0; index < load->options->connections; index++) {
    conn *conn = &load->conns[index];
    if (conn->state != usable) {
      continue;
    }
    if (load->options->period_ns != 0) {
      open_loop_free(load, conn);
    } else {
      start_closed_loop(load, conn);
    }
  }
}

int load_start(load *load) {
  if (load->options->mode == MODE_IDLE && !load->options->until_closed) {
    load_end(load);
    return 1;
  }
  load_begin(load, RUN);
  if (load->options->mode == MODE_STORM) {
    start_storm(load);
  } else if (load->options->mode != MODE_IDLE) {
    start_loop(load);
  }
  return load->options->period_ns == 0 || open_loop_start(load);
}

static int is_overdue(const load *load, const conn *conn, uint64_t now_ns) {
  if (conn->state == CONN_QUIET) {
    return load->options->until_closed && load->phase == RUN && now_ns > load->started_ns + load->options->wait_ns;
  }
  return conn->state != CONN_CLOSED && now_ns > conn->started_ns + load->options->wait_ns;
}

void load_sweep(load *load, uint64_t now_ns) {
  if (now_ns - load->swept_ns < (uint64_t)SWEEP_MS * 1000000) {
    return; /* timeouts, and pauses after a failure, need no better clock than this */
  }
  load->swept_ns = now_ns;
  int resting_go_on = load->phase == RUN && load->options->mode == MODE_HANDSHAKES && load->options->period_ns == 0;
  for (uint32_t index = 0; index < load->options->connections; index++) {
    conn *conn = &load->conns[index];
    if (is_overdue(load, conn, now_ns)) {
      on_failed(load, conn, (failure){.kind = FAIL_TIMEOUT});
      go_on(load, conn, 0);
    } else if (resting_go_on && conn->state == CONN_CLOSED) {
      launch_next(load, conn);
    }
  }
  open_loop_expire(load, now_ns);
}

int load_is_over(const load *load, uint64_t now_ns) {
  const load_options *options = load->options;
  if (load->phase != RUN) {
    return 0;
  }
  if (options->mode == MODE_STORM) {
    return load->under_way == 0;
  }
  return (options->mode != MODE_HANDSHAKES && load->ready == 0) ||
         (options->count != 0 && load->launched >= options->count && load->under_way == 0) ||
         (options->run_ns != 0 && now_ns > load->started_ns + options->run_ns);
}
