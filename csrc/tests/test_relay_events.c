/* test_relay_events.c - what is told of a connection that has ended, and when; a broker that refuses gives it back. */
#include "../clock.h"
#include "relay_pair.h"

static const int VERSIONS[] = {TLS1_2_VERSION, TLS1_3_VERSION};
enum { SERIAL = 300, CONNECT_MS = 50 };

/* Ordinary ends wait for so many others, or so long (relay.h). */

/* --- brokers that are not there --- */

/* A broker whose queue is full: a connection to it goes on connecting until one is accepted. */
typedef struct {
  struct sockaddr_in address;
  int listener, first;
} busy_broker;

static busy_broker busy_open(void) {
  busy_broker busy;
  busy.listener = loopback_listener(0, &busy.address);
  busy.first = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(connect(busy.first, (struct sockaddr *)&busy.address, sizeof busy.address) == 0);
  return busy;
}

static void busy_close(busy_broker *busy) {
  close(busy->first);
  close(busy->listener);
}

static void start_connecting(pair *with, const struct sockaddr_in *address) {
  with->upstream = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  with->broker = -1;
  CHECK(connect(with->upstream, (const struct sockaddr *)address, sizeof *address) == -1 && errno == EINPROGRESS);
}

static void start_being_refused(pair *with) {
  struct sockaddr_in address;
  close(loopback_listener(1, &address));
  start_connecting(with, &address);
}

/* comes_back takes the pair's connection out of the next event, which has to be of |id|. */
static gw_relay_event comes_back(stage *on, pair *with, uint64_t id, const char *detail) {
  gw_relay_event event = next_event(on);
  CHECK(event.id == id && event.end == GW_END_BROKER_REFUSED && strcmp(event.detail, detail) == 0);
  CHECK(event.bytes_in == 0 && event.bytes_out == 0 && event.conn->fd >= 0);
  CHECK(event.listener == on->listener);
  with->conn = event.conn;
  return event;
}

/* --- the connection comes back --- */

static void a_broker_that_refuses_gives_the_client_back_untouched(void) {
  stage on;
  pair with;
  for (int i = 0; i < 2; i++) {
    stage_open(&on, VERSIONS[i], GW_CHECK_OFF, &DEFAULTS);
    pair_handshake(&on, &with, on.listener, 0, 0);
    client_says(&with, "CONNECT", 7);
    for (uint64_t times = 0; times < 3; times++) {
      start_being_refused(&with);
      adopt(&on, &with, times, "preface");
      gw_relay_event event = comes_back(&on, &with, times, "Connection refused");
      CHECK(is_loopback(&event.conn->peer) && gw_relay_live(on.relay) == 0);
    }
    /* Nothing was read from it and nothing was said to it: it is as good as new. */
    pair_broker(&with, 0);
    adopt(&on, &with, 3, "preface ");
    broker_hears(&with, "preface CONNECT", 15);
    both_ways(&with);
    CHECK(gw_counted(on.counters, GW_COUNT_LIVE) == 1 && on.counters[GW_COUNT_UPSTREAM_FAILED] == 0);
    pair_close(&with);
    CHECK(next_event(&on).bytes_in == 11);
    stage_close(&on);
  }
}

static void a_broker_that_does_not_answer_gives_the_client_back_in_time(void) {
  stage on;
  pair with, other;
  const gw_relay_options soon = {.linger_ms = PATIENCE * 1000, .connect_ms = CONNECT_MS, .events_max = MOST_EVENTS};
  for (int i = 0; i < 2; i++) {
    busy_broker busy = busy_open();
    stage_open(&on, VERSIONS[i], GW_CHECK_OFF, &soon);
    pair_open(&on, &other, 1); /* connected: may take as long as it likes */
    pair_handshake(&on, &with, on.listener, 0, 0);
    start_connecting(&with, &busy.address);
    client_says(&with, "CONNECT", 7);
    adopt(&on, &with, 2, "");
    CHECK(comes_back(&on, &with, 2, "Connection timed out").duration_ms >= CONNECT_MS);
    pair_broker(&with, 0);
    adopt(&on, &with, 3, "");
    broker_hears(&with, "CONNECT", 7);
    both_ways(&with);
    both_ways(&other);
    pair_close(&with);
    pair_close(&other);
    stage_close(&on);
    busy_close(&busy);
  }
}

static void each_waits_for_its_own_broker_and_for_its_own_time(void) {
  enum { MANY = 5 };
  stage on;
  pair with[MANY];
  const gw_relay_options soon = {.linger_ms = PATIENCE * 1000, .connect_ms = CONNECT_MS, .events_max = MOST_EVENTS};
  busy_broker busy = busy_open();
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &soon);
  for (uint64_t i = 0; i < MANY; i++) {
    pair_handshake(&on, &with[i], on.listener, 0, 0);
    start_connecting(&with[i], &busy.address);
    adopt(&on, &with[i], i, "");
  }
  for (uint64_t i = 0; i < MANY; i++) { /* whoever came first is given up first */
    CHECK(comes_back(&on, &with[i], i, "Connection timed out").duration_ms >= CONNECT_MS);
    gw_conn_free(with[i].conn);
    client_hears_close_notify(&with[i]);
    pair_close(&with[i]);
  }
  stage_close(&on);
  busy_close(&busy);
}

static void the_client_waits_for_a_broker_that_is_still_connecting(void) {
  stage on;
  pair with;
  busy_broker busy = busy_open();
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  pair_handshake(&on, &with, on.listener, 0, 0);
  start_connecting(&with, &busy.address);
  adopt(&on, &with, 1, "preface ");
  client_says(&with, "CONNECT", 7);
  int accepted = accept4(busy.listener, NULL, NULL, SOCK_CLOEXEC);
  with.broker = accept4(busy.listener, NULL, NULL, SOCK_CLOEXEC);
  CHECK(accepted >= 0 && with.broker >= 0);
  broker_hears(&with, "preface CONNECT", 15);
  both_ways(&with);
  close(accepted);
  pair_close(&with);
  stage_close(&on);
  busy_close(&busy);
}

/* leaves ends the client's side; by a reset, or by a FIN alone. */
static void leaves(pair *with, int by_reset) {
  if (by_reset) {
    reset(with->client_fd);
    with->client_fd = -1;
  } else {
    CHECK(shutdown(with->client_fd, SHUT_WR) == 0);
  }
}

static void a_client_that_left_meanwhile_comes_back_all_the_same(void) {
  stage on;
  pair with;
  const gw_relay_options soon = {.linger_ms = PATIENCE * 1000, .connect_ms = CONNECT_MS, .events_max = MOST_EVENTS};
  for (int by_reset = 0; by_reset < 2; by_reset++) {
    busy_broker busy = busy_open();
    stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &soon);
    pair_handshake(&on, &with, on.listener, 0, 0);
    start_connecting(&with, &busy.address);
    adopt(&on, &with, 1, "");
    leaves(&with, by_reset);
    (void)comes_back(&on, &with, 1, "Connection timed out");
    pair_broker(&with, 0);
    adopt(&on, &with, 2, "");
    broker_hears_the_end(&with);
    close(with.broker);
    with.broker = -1;
    CHECK(next_event(&on).end == (by_reset ? GW_END_CLIENT_LOST : GW_END_CLIENT_CLOSED));
    pair_close(&with);
    stage_close(&on);
    busy_close(&busy);
  }
}

static void revoked_while_its_broker_is_connecting_ends_and_does_not_come_back(void) {
  stage on;
  pair with;
  busy_broker busy = busy_open();
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_LEAF, &DEFAULTS);
  pair_handshake(&on, &with, on.listener, SERIAL, 0);
  start_connecting(&with, &busy.address);
  adopt(&on, &with, 1, "");
  publish_revoked(&on, SERIAL, SERIAL);
  gw_relay_recheck(on.relay);
  client_hears_close_notify(&with);
  gw_relay_event event = next_event(&on);
  CHECK(event.end == GW_END_REVOKED);
  pair_close(&with);
  stage_close(&on);
  busy_close(&busy);
}

static void stopped_while_its_broker_is_connecting_ends_and_does_not_come_back(void) {
  stage on;
  pair with;
  busy_broker busy = busy_open();
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  pair_handshake(&on, &with, on.listener, 0, 0);
  start_connecting(&with, &busy.address);
  adopt(&on, &with, 1, "");
  gw_relay_stop(on.relay);
  client_hears_close_notify(&with);
  gw_relay_event event = next_event(&on);
  CHECK(event.end == GW_END_STOPPED);
  pair_close(&with);
  stage_close(&on);
  busy_close(&busy);
}

/* --- when it is told --- */

static void wait_for_live(stage *on, size_t count) {
  for (int i = 0; gw_relay_live(on->relay) != count; i++) {
    CHECK(i < PATIENCE * 1000);
    (void)poll(NULL, 0, 1);
  }
}

static void nothing_more_is_told(stage *on) {
  gw_relay_event event;
  struct pollfd quiet = {.fd = gw_relay_event_fd(on->relay), .events = POLLIN};
  CHECK(!gw_relay_next_event(on->relay, &event) && poll(&quiet, 1, 0) == 0);
}

/* An end that was told before one that matters comes before it, and nothing is told twice. */
static void every_end_is_told_once_and_in_order(void) {
  enum { MANY = 8 };
  stage on;
  pair with[MANY], other;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  for (uint64_t i = 0; i < MANY; i++) {
    pair_open(&on, &with[i], i);
  }
  for (uint64_t i = 0; i < MANY; i++) {
    pair_close(&with[i]);
    wait_for_live(&on, MANY - 1 - i);
  }
  pair_handshake(&on, &other, on.listener, 0, 0);
  start_being_refused(&other);
  adopt(&on, &other, MANY, "");
  for (uint64_t i = 0; i < MANY; i++) {
    CHECK(next_event(&on).id == i);
  }
  (void)comes_back(&on, &other, MANY, "Connection refused");
  nothing_more_is_told(&on);
  gw_conn_free(other.conn);
  pair_close(&other);
  stage_close(&on);
}

/* --- what it owns --- */

/* A client that no list covers, let in unchecked: its certificate is remembered, but nobody asks for it. */
static void whoever_was_let_in_can_be_asked_for_its_certificate_when_it_is_over(void) {
  stage on;
  pair with;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_LEAF, &DEFAULTS);
  pair_make(&on, &with, SERIAL, 0);
  adopt(&on, &with, 1, "");
  both_ways(&with);
  pair_close(&with);
  gw_relay_event event = next_event(&on);
  CHECK(event.conn->verification.verdict.verdict == GW_VERDICT_NO_LIST);
  X509 *leaf = SSL_get0_peer_certificate(event.conn->ssl);
  CHECK(leaf != NULL && ASN1_INTEGER_get(X509_get_serialNumber(leaf)) == SERIAL);
  stage_close(&on);
}

static void of_too_many_events_the_newest_stay(void) {
  enum { MANY = 10, KEPT = 4 };
  stage on;
  pair with[MANY];
  gw_relay_event event;
  const gw_relay_options few = {.linger_ms = PATIENCE * 1000, .connect_ms = PATIENCE * 1000, .events_max = KEPT};
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &few);
  for (uint64_t i = 0; i < MANY; i++) {
    pair_open(&on, &with[i], i);
    pair_close(&with[i]);
    wait_for_live(&on, 0);
  }
  gw_relay_stop(on.relay);
  CHECK(on.counters[GW_COUNT_UNLOGGED] == MANY - KEPT);
  for (uint64_t i = MANY - KEPT; i < MANY; i++) {
    CHECK(gw_relay_next_event(on.relay, &event) && event.id == i);
    gw_conn_free(event.conn);
  }
  nothing_more_is_told(&on);
  stage_close(&on);
}

/* The certificates and connections of events that nobody reads go with them: those clients are told. */
static void events_that_nobody_reads_release_what_they_own(void) {
  enum { MANY = 6 };
  stage on;
  pair with[MANY], revoked;
  const gw_relay_options few = {.linger_ms = PATIENCE * 1000, .connect_ms = PATIENCE * 1000, .events_max = MANY / 2};
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_LEAF, &few);
  pair_make(&on, &revoked, SERIAL, 0);
  publish_revoked(&on, SERIAL, SERIAL);
  adopt(&on, &revoked, MANY, "");
  for (uint64_t i = 0; i < MANY; i++) {
    pair_handshake(&on, &with[i], on.listener, 0, 0);
    start_being_refused(&with[i]);
    adopt(&on, &with[i], i, "");
  }
  wait_for_live(&on, 0);
  for (int i = 0; i < MANY / 2; i++) { /* dropped: too many */
    client_hears_close_notify(&with[i]);
  }
  gw_relay_stop(on.relay);
  gw_relay_free(on.relay);
  for (int i = MANY / 2; i < MANY; i++) { /* never read */
    client_hears_close_notify(&with[i]);
  }
  for (int i = 0; i < MANY; i++) {
    pair_close(&with[i]);
  }
  pair_close(&revoked);
  gw_error error;
  on.relay = gw_relay_new(on.world, &few, &error);
  CHECK(on.relay != NULL);
  stage_close(&on);
}

int main(void) {
  (void)signal(SIGPIPE, SIG_IGN); /* for the clients of the test; the relay thread needs it not */
  use_system_openssl();
  RUN(a_broker_that_refuses_gives_the_client_back_untouched);
  RUN(a_broker_that_does_not_answer_gives_the_client_back_in_time);
  RUN(each_waits_for_its_own_broker_and_for_its_own_time);
  RUN(the_client_waits_for_a_broker_that_is_still_connecting);
  RUN(a_client_that_left_meanwhile_comes_back_all_the_same);
  RUN(revoked_while_its_broker_is_connecting_ends_and_does_not_come_back);
  RUN(stopped_while_its_broker_is_connecting_ends_and_does_not_come_back);
  RUN(every_end_is_told_once_and_in_order);
  RUN(whoever_was_let_in_can_be_asked_for_its_certificate_when_it_is_over);
  RUN(of_too_many_events_the_newest_stay);
  RUN(events_that_nobody_reads_release_what_they_own);
  return 0;
}
