/* test_relay_ends.c - every adopted connection ends once, for the right reason; what was sent before is delivered. */
#include "relay_pair.h"

static const char RESET[] = "Connection reset by peer";

/* --- sides that are lost --- */

static void a_fin_without_close_notify_is_an_ordinary_end(void) {
  stage on;
  pair with;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  pair_open(&on, &with, 1);
  client_says(&with, "DISCONNECT", 10);
  CHECK(shutdown(with.client_fd, SHUT_WR) == 0);
  broker_hears(&with, "DISCONNECT", 10);
  broker_hears_the_end(&with);
  gw_relay_event event = next_event(&on);
  CHECK(event.end == GW_END_CLIENT_CLOSED && strcmp(event.detail, "no close_notify") == 0);
  pair_close(&with);
  stage_close(&on);
}

static void what_a_client_sent_before_its_reset_is_delivered(void) {
  stage on;
  pair with;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  pair_make(&on, &with, 0, 0);
  client_says(&with, "DISCONNECT", 10);
  reset(with.client_fd);
  with.client_fd = -1;
  adopt(&on, &with, 1, "");
  broker_hears(&with, "DISCONNECT", 10);
  broker_hears_the_end(&with);
  gw_relay_event event = next_event(&on);
  CHECK(event.end == GW_END_CLIENT_LOST && strcmp(event.detail, RESET) == 0);
  pair_close(&with);
  stage_close(&on);
}

static void what_a_broker_sent_before_its_reset_is_delivered(void) {
  stage on;
  pair with;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  pair_make(&on, &with, 0, 0);
  client_says(&with, "never read", 10);
  broker_says(&with, "go away", 7);
  adopt(&on, &with, 1, "");
  client_hears(&with, "go away", 7);
  reset(with.broker);
  with.broker = -1;
  client_hears_close_notify(&with);
  gw_relay_event event = next_event(&on);
  CHECK(event.end == GW_END_BROKER_LOST && strcmp(event.detail, RESET) == 0);
  pair_close(&with);
  stage_close(&on);
}

/* Whether the relay reads first or finds out by writing, the broker's last words arrive. */
static void a_broker_that_hangs_up_while_the_client_talks_is_heard_to_its_end(void) {
  stage on;
  pair with;
  char unread[6];
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  for (int times = 0; times < 50; times++) {
    pair_open(&on, &with, 1);
    client_says(&with, "unread", 6);
    CHECK(recv(with.broker, unread, 6, MSG_PEEK | MSG_WAITALL) == 6);
    broker_says(&with, "go away", 7);
    close(with.broker); /* with unread bytes: a reset */
    with.broker = -1;
    client_says(&with, "more", 4);
    client_hears(&with, "go away", 7);
    client_hears_close_notify(&with);
    CHECK(next_event(&on).end == GW_END_BROKER_LOST);
    pair_close(&with);
  }
  stage_close(&on);
}

static void garbage_from_the_client_ends_it_with_a_reason(void) {
  stage on;
  pair with;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  pair_open(&on, &with, 1);
  client_says(&with, "good", 4);
  broker_hears(&with, "good", 4);
  CHECK(send(with.client_fd, "\x17\x03\x03\x00\x20" "ciphertext that nobody encrypted", 37, MSG_NOSIGNAL) == 37);
  broker_hears_the_end(&with);
  gw_relay_event event = next_event(&on);
  CHECK(event.end == GW_END_CLIENT_LOST && strstr(event.detail, "bad record mac") != NULL);
  pair_close(&with);
  stage_close(&on);
}

/* fill_from writes to |fd| until it does not take any more for a moment. Returns how much that was. */
static size_t fill_from(int fd) {
  static const uint8_t zeros[10000];
  size_t total = 0;
  struct pollfd waiting = {.fd = fd, .events = POLLOUT};
  while (poll(&waiting, 1, 200) == 1) {
    ssize_t put = send(fd, zeros, sizeof zeros, MSG_DONTWAIT | MSG_NOSIGNAL);
    CHECK(put > 0);
    total += (size_t)put;
  }
  return total;
}

static void a_reset_ends_a_client_that_did_not_read(void) {
  stage on;
  pair with;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  pair_make(&on, &with, 0, 16384);
  adopt(&on, &with, 1, "");
  (void)fill_from(with.broker);
  reset(with.client_fd);
  with.client_fd = -1;
  CHECK(next_event(&on).end == GW_END_CLIENT_LOST);
  pair_close(&with);
  stage_close(&on);
}

/* What is pending for a client that does not read keeps the broker's reset from
 * being passed on, but not for ever. */
static void a_broker_that_is_gone_is_not_kept_by_a_client_that_does_not_read(void) {
  stage on;
  pair with;
  const gw_relay_options soon = {.linger_ms = 100, .connect_ms = PATIENCE * 1000, .events_max = MOST_EVENTS};
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &soon);
  pair_make(&on, &with, 0, 16384);
  adopt(&on, &with, 1, "");
  (void)fill_from(with.broker);
  reset(with.broker);
  with.broker = -1;
  CHECK(next_event(&on).end == GW_END_LINGERED);
  pair_close(&with);
  stage_close(&on);
}

static void what_a_broker_sent_before_it_closed_reaches_a_slow_client(void) {
  stage on;
  pair with;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  pair_make(&on, &with, 0, 16384);
  adopt(&on, &with, 1, "");
  size_t left = fill_from(with.broker);
  close(with.broker);
  with.broker = -1;
  while (left > 0) {
    uint8_t in[5000];
    int got = SSL_read(with.client, in, sizeof in);
    CHECK(got > 0 && (size_t)got <= left);
    left -= (size_t)got;
  }
  client_hears_close_notify(&with);
  CHECK(SSL_shutdown(with.client) == 1);
  CHECK(next_event(&on).end == GW_END_BROKER_CLOSED);
  pair_close(&with);
  stage_close(&on);
}

static void a_half_closed_connection_that_stays_silent_ends(void) {
  stage on;
  pair with, other;
  const gw_relay_options soon = {.linger_ms = 50, .connect_ms = PATIENCE * 1000, .events_max = MOST_EVENTS};
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &soon);
  pair_open(&on, &with, 1);
  pair_open(&on, &other, 2);
  CHECK(SSL_shutdown(with.client) == 0);
  broker_hears_the_end(&with);
  gw_relay_event event = next_event(&on);
  CHECK(event.id == 1 && event.end == GW_END_LINGERED && event.duration_ms >= 50);
  client_hears_close_notify(&with);
  both_ways(&other); /* open on both sides: may be silent for as long as it likes */
  pair_close(&with);
  pair_close(&other);
  stage_close(&on);
}

/* --- revocation --- */

enum { FIRST = 300, CLIENTS = 200, REVOKED = 190 };

static void live_connections_of_revoked_certificates_end(void) {
  static pair with[CLIENTS];
  static int ended[CLIENTS];
  stage on;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_LEAF, &DEFAULTS);
  for (int i = 0; i < CLIENTS; i++) {
    pair_make(&on, &with[i], FIRST + i, 0);
    adopt(&on, &with[i], (uint64_t)i, "");
    both_ways(&with[i]);
  }
  publish_revoked(&on, FIRST, FIRST + REVOKED - 1);
  gw_relay_recheck(on.relay);
  for (int i = 0; i < REVOKED; i++) {
    gw_relay_event event = next_event(&on);
    CHECK(event.id < REVOKED && !ended[event.id]++ && event.end == GW_END_REVOKED);
    const gw_verdict *verdict = &event.conn->verification.verdict;
    CHECK(verdict->verdict == GW_VERDICT_REVOKED && verdict->depth == 0);
    CHECK(verdict->entry.revocation_date == 1767225600 && is_loopback(&event.conn->peer));
    X509 *leaf = SSL_get1_peer_certificate(event.conn->ssl);
    CHECK(leaf != NULL && ASN1_INTEGER_get(X509_get_serialNumber(leaf)) == FIRST + (long)event.id);
    X509_free(leaf);
    client_hears_close_notify(&with[event.id]);
    broker_hears_the_end(&with[event.id]);
  }
  for (int i = REVOKED; i < CLIENTS; i++) {
    both_ways(&with[i]);
  }
  CHECK(gw_counted(on.counters, GW_COUNT_DISCONNECTED) == REVOKED && gw_relay_live(on.relay) == CLIENTS - REVOKED);
  for (int i = 0; i < CLIENTS; i++) {
    pair_close(&with[i]);
  }
  stage_close(&on);
}

static void where_the_rules_say_so_live_connections_stay(void) {
  stage on;
  pair kept, ended;
  int fds[2];
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_LEAF, &DEFAULTS);
  gw_listener *lenient = make_listener(&on, GW_CHECK_LEAF, 0);
  pair_handshake(&on, &kept, lenient, FIRST, 0);
  tcp_pair(fds, 0);
  kept.broker = fds[0];
  kept.upstream = fds[1];
  adopt(&on, &kept, 1, "");
  pair_make(&on, &ended, FIRST, 0);
  adopt(&on, &ended, 2, "");
  both_ways(&kept);
  both_ways(&ended);
  publish_revoked(&on, FIRST, FIRST);
  gw_relay_recheck(on.relay);
  gw_relay_event event = next_event(&on);
  CHECK(event.id == 2 && event.end == GW_END_REVOKED);
  both_ways(&kept);
  pair_close(&kept);
  pair_close(&ended);
  gw_relay_stop(on.relay);
  gw_listener_free(lenient);
  stage_close(&on);
}

static void revoked_between_handshake_and_adoption_relays_nothing(void) {
  stage on;
  pair with;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_LEAF, &DEFAULTS);
  pair_make(&on, &with, FIRST, 0);
  client_says(&with, "CONNECT", 7);
  publish_revoked(&on, FIRST, FIRST);
  adopt(&on, &with, 1, "preface");
  broker_hears_the_end(&with);
  client_hears_close_notify(&with);
  gw_relay_event event = next_event(&on);
  CHECK(event.end == GW_END_REVOKED && event.bytes_in == 0);
  pair_close(&with);
  stage_close(&on);
}

/* --- the relay as a whole --- */

static void stopping_ends_all_politely_and_takes_no_more(void) {
  stage on;
  pair with[3], late;
  gw_error error;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  for (int i = 0; i < 3; i++) {
    pair_open(&on, &with[i], (uint64_t)i);
  }
  both_ways(&with[0]);
  pair_make(&on, &late, 0, 0);
  gw_relay_stop(on.relay);
  for (int i = 0; i < 3; i++) {
    client_hears_close_notify(&with[i]);
    broker_hears_the_end(&with[i]);
    CHECK(next_event(&on).end == GW_END_STOPPED);
    pair_close(&with[i]);
  }
  CHECK(!gw_relay_adopt(on.relay, late.conn, late.upstream, 9, NULL, 0, &error));
  gw_conn_free(late.conn);
  close(late.upstream);
  pair_close(&late);
  stage_close(&on);
}

static void a_preface_that_is_too_long_is_refused(void) {
  static const uint8_t preface[GW_PREFACE_MAX + 1];
  stage on;
  pair with;
  gw_error error;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  pair_make(&on, &with, 0, 0);
  CHECK(!gw_relay_adopt(on.relay, with.conn, with.upstream, 1, preface, sizeof preface, &error));
  adopt(&on, &with, 1, "");
  both_ways(&with);
  pair_close(&with);
  stage_close(&on);
}

enum { EACH = 150 };

static void *many_short_ones(void *argument) {
  stage *on = argument;
  for (uint64_t i = 0; i < EACH; i++) {
    pair with;
    pair_open(on, &with, i);
    both_ways(&with);
    gw_relay_recheck(on->relay);
    pair_close(&with);
  }
  return NULL;
}

static void connections_may_be_adopted_by_any_thread(void) {
  stage on;
  pthread_t threads[2];
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  for (int i = 0; i < 2; i++) {
    CHECK(pthread_create(&threads[i], NULL, many_short_ones, &on) == 0);
  }
  for (int i = 0; i < 2 * EACH; i++) {
    gw_relay_event event = next_event(&on);
    CHECK(event.id < EACH && event.bytes_in == 4 && event.bytes_out == 4);
  }
  for (int i = 0; i < 2; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
  }
  stage_close(&on);
}

int main(void) {
  (void)signal(SIGPIPE, SIG_IGN); /* for the clients of the test; the relay thread needs it not */
  use_system_openssl();
  RUN(a_fin_without_close_notify_is_an_ordinary_end);
  RUN(what_a_client_sent_before_its_reset_is_delivered);
  RUN(what_a_broker_sent_before_its_reset_is_delivered);
  RUN(a_broker_that_hangs_up_while_the_client_talks_is_heard_to_its_end);
  RUN(garbage_from_the_client_ends_it_with_a_reason);
  RUN(a_reset_ends_a_client_that_did_not_read);
  RUN(a_broker_that_is_gone_is_not_kept_by_a_client_that_does_not_read);
  RUN(what_a_broker_sent_before_it_closed_reaches_a_slow_client);
  RUN(a_half_closed_connection_that_stays_silent_ends);
  RUN(live_connections_of_revoked_certificates_end);
  RUN(where_the_rules_say_so_live_connections_stay);
  RUN(revoked_between_handshake_and_adoption_relays_nothing);
  RUN(stopping_ends_all_politely_and_takes_no_more);
  RUN(a_preface_that_is_too_long_is_refused);
  RUN(connections_may_be_adopted_by_any_thread);
  return 0;
}
