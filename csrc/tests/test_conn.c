/* Real handshakes, TLS 1.2 and 1.3: who is let in, and what the others are told. */

#include "tls_ends.h"

static const int VERSIONS[] = {TLS1_2_VERSION, TLS1_3_VERSION};
static const int REQUIRED = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
static const gw_rules WHOLE_CHAIN = {.check = GW_CHECK_CHAIN, .on_unavailable = GW_UNAVAILABLE_REJECT};

static gw_rules with_policy(int on_unavailable) {
  gw_rules rules = WHOLE_CHAIN;
  rules.on_unavailable = on_unavailable;
  return rules;
}

static int is_resumed(const client *end) { return SSL_session_reused(end->conn->ssl); }

/* is_of returns 1 when the client's certificate is that of |who|. */
static int is_of(const gw_conn *conn, const identity *who) {
  const X509 *leaf = SSL_get0_peer_certificate(conn->ssl);
  return leaf != NULL && X509_cmp(leaf, who->certificate) == 0;
}

static void a_good_client_is_let_in(void) {
  for (int i = 0; i < 2; i++) {
    gateway door;
    client end;
    gateway_open(&door, WHOLE_CHAIN, REQUIRED);
    identity good = identity_make("good", "10", &door.middle, 0);
    lists_now(&door, NO_SERIALS, SERIALS("11"));
    client_open(&end, &door, VERSIONS[i], &good, NULL);
    CHECK(shake(&end) == GW_HANDSHAKE_DONE);
    gw_verdict verdict = verdict_of(&end);
    CHECK(verdict.verdict == GW_VERDICT_GOOD && verdict.let_in && !is_resumed(&end));
    CHECK(gw_conn_judge(end.conn) == 1);
    CHECK(is_of(end.conn, &good));
    CHECK(door.counters[GW_COUNT_HANDSHAKES] == 1 && door.counters[GW_COUNT_FAILED] == 0);
    CHECK(client_close(&end) == SSL_AD_CLOSE_NOTIFY);
    identity_free(&good);
    gateway_close(&door);
  }
}

/* refused_with shakes hands with a client that has to be refused, and checks what is known of it at both ends. */
static void refused_with(gateway *door, int version, const identity *who, int verdict, int depth, int alert) {
  client end;
  client_open(&end, door, version, who, NULL);
  CHECK(shake(&end) == GW_HANDSHAKE_FAILED);
  gw_verdict found = verdict_of(&end);
  CHECK(found.verdict == verdict && found.depth == depth && !found.let_in);
  STACK_OF(X509) *chain = SSL_get0_verified_chain(end.conn->ssl);
  CHECK(chain != NULL && X509_cmp(sk_X509_value(chain, 0), who->certificate) == 0);
  CHECK(end.error.text[0] != '\0');
  CHECK(client_close(&end) == alert);
}

static void a_revoked_client_is_told_certificate_revoked(void) {
  for (int i = 0; i < 2; i++) {
    gateway door;
    gateway_open(&door, with_policy(GW_UNAVAILABLE_ACCEPT), REQUIRED);
    identity revoked = identity_make("revoked", "00FF", &door.middle, 0);
    lists_now(&door, NO_SERIALS, SERIALS("00FF"));
    refused_with(&door, VERSIONS[i], &revoked, GW_VERDICT_REVOKED, 0, SSL_AD_CERTIFICATE_REVOKED);
    CHECK(door.counters[GW_COUNT_REFUSED_REVOKED] == 1 && door.counters[GW_COUNT_HANDSHAKES] == 0);
    identity_free(&revoked);
    gateway_close(&door);
  }
}

static void a_client_below_a_revoked_intermediate_is_told_certificate_revoked(void) {
  for (int i = 0; i < 2; i++) {
    gateway door;
    gateway_open(&door, WHOLE_CHAIN, REQUIRED);
    identity below = identity_make("below", "10", &door.middle, 0);
    lists_now(&door, SERIALS("02"), NO_SERIALS);
    refused_with(&door, VERSIONS[i], &below, GW_VERDICT_REVOKED, 1, SSL_AD_CERTIFICATE_REVOKED);
    identity_free(&below);
    gateway_close(&door);
  }
}

static void a_client_that_no_list_covers_is_told_unknown_ca(void) {
  for (int i = 0; i < 2; i++) {
    gateway door;
    gateway_open(&door, WHOLE_CHAIN, REQUIRED);
    identity uncovered = identity_make("uncovered", "10", &door.middle, 0);
    refused_with(&door, VERSIONS[i], &uncovered, GW_VERDICT_NO_LIST, 0, SSL_AD_UNKNOWN_CA);
    CHECK(door.counters[GW_COUNT_REFUSED_NO_LIST] == 1);
    identity_free(&uncovered);
    gateway_close(&door);
  }
}

static void a_client_whose_list_has_expired_is_told_certificate_expired(void) {
  for (int i = 0; i < 2; i++) {
    gateway door;
    gateway_open(&door, WHOLE_CHAIN, REQUIRED);
    identity late = identity_make("late", "10", &door.middle, 0);
    int64_t now = time(NULL);
    PUBLISH(door.world, table_make(&door.root, NO_SERIALS, now - 60, now + 3600),
            table_make(&door.middle, NO_SERIALS, now - 7200, now - 3600));
    refused_with(&door, VERSIONS[i], &late, GW_VERDICT_STALE, 0, SSL_AD_CERTIFICATE_EXPIRED);
    CHECK(door.counters[GW_COUNT_REFUSED_STALE] == 1);
    identity_free(&late);
    gateway_close(&door);
  }
}

static void a_client_of_another_ca_is_refused_before_anything_is_looked_up(void) {
  for (int i = 0; i < 2; i++) {
    gateway door;
    gateway_open(&door, with_policy(GW_UNAVAILABLE_ACCEPT), REQUIRED);
    identity other_ca = identity_make("root", "01", NULL, 1), stranger = identity_make("stranger", "10", &other_ca, 0);
    lists_now(&door, NO_SERIALS, NO_SERIALS);
    client end;
    client_open(&end, &door, VERSIONS[i], &stranger, NULL);
    CHECK(shake(&end) == GW_HANDSHAKE_FAILED);
    gw_verdict verdict = verdict_of(&end);
    CHECK(verdict.verdict == GW_VERDICT_UNTRUSTED && verdict.error_code != 0 && !verdict.let_in);
    CHECK(door.counters[GW_COUNT_LOOKUPS] == 0 && door.counters[GW_COUNT_FAILED] == 1);
    CHECK(gw_conn_judge(end.conn) == 0);
    CHECK(client_close(&end) != NO_ALERT);
    identity_free(&stranger);
    identity_free(&other_ca);
    gateway_close(&door);
  }
}

static void accept_lets_the_uncovered_in_and_says_so(void) {
  for (int i = 0; i < 2; i++) {
    gateway door;
    client end;
    gateway_open(&door, with_policy(GW_UNAVAILABLE_ACCEPT), REQUIRED);
    identity uncovered = identity_make("uncovered", "10", &door.middle, 0);
    client_open(&end, &door, VERSIONS[i], &uncovered, NULL);
    CHECK(shake(&end) == GW_HANDSHAKE_DONE);
    gw_verdict verdict = verdict_of(&end);
    CHECK(verdict.verdict == GW_VERDICT_NO_LIST && verdict.let_in);
    CHECK(is_of(end.conn, &uncovered));
    CHECK(door.counters[GW_COUNT_ACCEPTED_UNCHECKED] == 1 && gw_conn_judge(end.conn) == 1);
    (void)client_close(&end);
    identity_free(&uncovered);
    gateway_close(&door);
  }
}

static void one_that_waits_passes_when_its_list_has_come(void) {
  gateway door;
  client end;
  gateway_open(&door, with_policy(GW_UNAVAILABLE_WAIT), REQUIRED);
  identity early = identity_make("early", "10", &door.middle, 0);
  client_open(&end, &door, TLS1_3_VERSION, &early, NULL);
  CHECK(shake(&end) == GW_HANDSHAKE_DONE && verdict_of(&end).let_in);
  CHECK(gw_conn_judge(end.conn) == 0);
  lists_now(&door, NO_SERIALS, NO_SERIALS);
  CHECK(gw_conn_judge(end.conn) == 1 && verdict_of(&end).verdict == GW_VERDICT_GOOD);
  lists_now(&door, NO_SERIALS, SERIALS("10"));
  CHECK(gw_conn_judge(end.conn) == 0 && verdict_of(&end).verdict == GW_VERDICT_REVOKED);
  CHECK(client_close(&end) == SSL_AD_CLOSE_NOTIFY);
  identity_free(&early);
  gateway_close(&door);
}

static void a_resumed_client_is_looked_up_again(void) {
  for (int i = 0; i < 2; i++) {
    gateway door;
    client end;
    gateway_open(&door, WHOLE_CHAIN, REQUIRED);
    identity once_good = identity_make("once good", "10", &door.middle, 0);
    lists_now(&door, NO_SERIALS, NO_SERIALS);
    SSL_SESSION *session = ticket_of(&door, VERSIONS[i], &once_good);

    client_open(&end, &door, VERSIONS[i], &once_good, session);
    CHECK(shake(&end) == GW_HANDSHAKE_DONE);
    gw_verdict verdict = verdict_of(&end);
    CHECK(is_resumed(&end) && verdict.verdict == GW_VERDICT_GOOD && gw_conn_judge(end.conn) == 1);
    CHECK(door.counters[GW_COUNT_RESUMED] == 1 && door.counters[GW_COUNT_HANDSHAKES] == 2);
    (void)client_close(&end);

    lists_now(&door, NO_SERIALS, SERIALS("10"));
    client_open(&end, &door, VERSIONS[i], &once_good, session);
    CHECK(shake(&end) == GW_HANDSHAKE_DONE);
    verdict = verdict_of(&end);
    CHECK(is_resumed(&end) && verdict.verdict == GW_VERDICT_REVOKED && !verdict.let_in);
    CHECK(is_of(end.conn, &once_good) && gw_conn_judge(end.conn) == 0);
    CHECK(door.counters[GW_COUNT_REFUSED_REVOKED] == 1);
    CHECK(client_close(&end) == SSL_AD_CLOSE_NOTIFY);

    lists_now(&door, SERIALS("02"), NO_SERIALS);
    client_open(&end, &door, VERSIONS[i], &once_good, session);
    CHECK(shake(&end) == GW_HANDSHAKE_DONE);
    verdict = verdict_of(&end);
    CHECK(verdict.verdict == GW_VERDICT_REVOKED && verdict.depth == 1);
    (void)client_close(&end);
    SSL_SESSION_free(session);
    identity_free(&once_good);
    gateway_close(&door);
  }
}

static void without_a_client_certificate_nothing_is_asked(void) {
  for (int i = 0; i < 2; i++) {
    gateway door;
    client end;
    gateway_open(&door, WHOLE_CHAIN, SSL_VERIFY_PEER);
    SSL_SESSION *session = ticket_of(&door, VERSIONS[i], NULL);
    for (int resumed = 0; resumed < 2; resumed++) {
      client_open(&end, &door, VERSIONS[i], NULL, resumed ? session : NULL);
      CHECK(shake(&end) == GW_HANDSHAKE_DONE);
      gw_verdict verdict = verdict_of(&end);
      CHECK(is_resumed(&end) == resumed && verdict.verdict == GW_VERDICT_NONE && gw_conn_judge(end.conn) == 1);
      CHECK(SSL_get0_peer_certificate(end.conn->ssl) == NULL);
      (void)client_close(&end);
    }
    SSL_SESSION_free(session);
    gateway_close(&door);
  }
}

static void where_one_is_required_a_client_without_certificate_is_refused(void) {
  for (int i = 0; i < 2; i++) {
    gateway door;
    client end;
    gateway_open(&door, WHOLE_CHAIN, REQUIRED);
    client_open(&end, &door, VERSIONS[i], NULL, NULL);
    CHECK(shake(&end) == GW_HANDSHAKE_FAILED && door.counters[GW_COUNT_FAILED] == 1);
    CHECK(client_close(&end) != NO_ALERT);
    gateway_close(&door);
  }
}

static void with_check_off_nothing_is_looked_up(void) {
  for (int i = 0; i < 2; i++) {
    gateway door;
    client end;
    gateway_open(&door, (gw_rules){.check = GW_CHECK_OFF}, REQUIRED);
    identity revoked = identity_make("revoked", "10", &door.middle, 0);
    lists_now(&door, NO_SERIALS, SERIALS("10"));
    SSL_SESSION *session = ticket_of(&door, VERSIONS[i], &revoked);
    client_open(&end, &door, VERSIONS[i], &revoked, session);
    CHECK(shake(&end) == GW_HANDSHAKE_DONE && is_resumed(&end));
    CHECK(verdict_of(&end).verdict == GW_VERDICT_NONE && gw_conn_judge(end.conn) == 1);
    CHECK(door.counters[GW_COUNT_LOOKUPS] == 0);
    (void)client_close(&end);
    SSL_SESSION_free(session);
    identity_free(&revoked);
    gateway_close(&door);
  }
}

/* raw_end makes a client that has not spoken TLS yet, and may send what it likes. */
static void raw_end(client *end, gateway *door, const void *octets, size_t length) {
  client_open(end, door, TLS1_3_VERSION, NULL, NULL);
  CHECK(send(end->fd, octets, length, MSG_NOSIGNAL) == (ssize_t)length);
}

/* As OpenSSL itself has it: nobody stands above an anchor, and no list covers it. */
static void a_client_that_is_a_trust_anchor_is_let_in_without_a_list(void) {
  for (int i = 0; i < 2; i++) {
    gateway door;
    client end;
    gateway_open(&door, WHOLE_CHAIN, REQUIRED);
    client_open(&end, &door, VERSIONS[i], &door.root, NULL);
    CHECK(shake(&end) == GW_HANDSHAKE_DONE && gw_conn_judge(end.conn) == 1);
    CHECK(verdict_of(&end).verdict == GW_VERDICT_GOOD && door.counters[GW_COUNT_LOOKUPS] == 0);
    (void)client_close(&end);
    gateway_close(&door);
  }
}

static void garbage_fails_with_a_reason(void) {
  gateway door;
  client end;
  gateway_open(&door, WHOLE_CHAIN, REQUIRED);
  raw_end(&end, &door, "GET / HTTP/1.1\r\n\r\n", 18);
  CHECK(gw_conn_handshake(end.conn, &end.error) == GW_HANDSHAKE_FAILED && end.error.text[0] != '\0');
  CHECK(verdict_of(&end).verdict == GW_VERDICT_NONE && door.counters[GW_COUNT_FAILED] == 1);
  (void)client_close(&end);
  gateway_close(&door);
}

static void half_a_client_hello_waits_for_the_rest(void) {
  gateway door;
  client end;
  gateway_open(&door, WHOLE_CHAIN, REQUIRED);
  raw_end(&end, &door, "\x16\x03\x01\x01\x00\x01\x00", 7);
  for (int i = 0; i < 3; i++) {
    CHECK(gw_conn_handshake(end.conn, &end.error) == GW_HANDSHAKE_WANT_READ);
  }
  CHECK(shutdown(end.fd, SHUT_WR) == 0);
  CHECK(gw_conn_handshake(end.conn, &end.error) == GW_HANDSHAKE_FAILED && end.error.text[0] != '\0');
  (void)client_close(&end);
  gateway_close(&door);
}

static void a_client_that_leaves_at_once_is_a_failure_with_a_reason(void) {
  gateway door;
  client end;
  gateway_open(&door, WHOLE_CHAIN, REQUIRED);
  client_open(&end, &door, TLS1_3_VERSION, NULL, NULL);
  CHECK(shutdown(end.fd, SHUT_WR) == 0);
  CHECK(gw_conn_handshake(end.conn, &end.error) == GW_HANDSHAKE_FAILED && end.error.text[0] != '\0');
  (void)client_close(&end);
  gateway_close(&door);
}

static void a_connection_can_be_given_up_at_any_step(void) {
  gateway door;
  gateway_open(&door, WHOLE_CHAIN, REQUIRED);
  identity good = identity_make("good", "10", &door.middle, 0);
  lists_now(&door, NO_SERIALS, NO_SERIALS);
  for (int steps = 0; steps < 4; steps++) {
    client end;
    client_open(&end, &door, TLS1_2_VERSION, &good, NULL);
    for (int i = 0; i < steps; i++) {
      (void)SSL_do_handshake(end.ssl);
      (void)gw_conn_handshake(end.conn, &end.error);
    }
    (void)client_close(&end);
  }
  gw_conn_free(NULL);
  identity_free(&good);
  gateway_close(&door);
}

/* Two handshakes in turn on one thread, one revoked and one good: each gets its own verdict. */
static void verdicts_of_interleaved_handshakes_are_not_mixed_up(void) {
  gateway door;
  client ends[2];
  gateway_open(&door, WHOLE_CHAIN, REQUIRED);
  identity good = identity_make("good", "10", &door.middle, 0), revoked = identity_make("bad", "11", &door.middle, 0);
  lists_now(&door, NO_SERIALS, SERIALS("11"));
  client_open(&ends[0], &door, TLS1_2_VERSION, &good, NULL);
  client_open(&ends[1], &door, TLS1_2_VERSION, &revoked, NULL);
  int steps[2] = {GW_HANDSHAKE_WANT_READ, GW_HANDSHAKE_WANT_READ};
  for (int i = 0; i < MAX_STEPS; i++) {
    client *end = &ends[i % 2];
    (void)SSL_do_handshake(end->ssl);
    if (steps[i % 2] == GW_HANDSHAKE_WANT_READ) {
      steps[i % 2] = gw_conn_handshake(end->conn, &end->error);
    }
  }
  CHECK(steps[0] == GW_HANDSHAKE_DONE && verdict_of(&ends[0]).verdict == GW_VERDICT_GOOD);
  CHECK(steps[1] == GW_HANDSHAKE_FAILED && verdict_of(&ends[1]).verdict == GW_VERDICT_REVOKED);
  (void)client_close(&ends[0]);
  (void)client_close(&ends[1]);
  identity_free(&good);
  identity_free(&revoked);
  gateway_close(&door);
}

/* OpenSSL run outside gw_verify_begin and gw_verify_end: nobody knows for whom, so nobody gets in. */
static void a_handshake_that_nobody_began_is_refused(void) {
  gateway door;
  client end;
  gateway_open(&door, (gw_rules){.check = GW_CHECK_OFF}, REQUIRED);
  identity good = identity_make("good", "10", &door.middle, 0);
  client_open(&end, &door, TLS1_2_VERSION, &good, NULL);
  int result = -1;
  for (int i = 0; i < MAX_STEPS && result != 1; i++) {
    (void)SSL_do_handshake(end.ssl);
    result = SSL_do_handshake(end.conn->ssl);
  }
  CHECK(result != 1);
  ERR_clear_error();
  (void)client_close(&end);
  identity_free(&good);
  gateway_close(&door);
}

/* What the client has sent and nobody has read must not turn the close into a reset that overtakes close_notify. */
static void close_notify_arrives_though_the_client_has_sent_more(void) {
  gateway door;
  client end;
  gateway_open(&door, WHOLE_CHAIN, REQUIRED);
  identity good = identity_make("good", "10", &door.middle, 0);
  lists_now(&door, NO_SERIALS, NO_SERIALS);
  client_open(&end, &door, TLS1_3_VERSION, &good, NULL);
  CHECK(shake(&end) == GW_HANDSHAKE_DONE);
  static const char MORE[8192];
  CHECK(SSL_write(end.ssl, MORE, sizeof MORE) == (int)sizeof MORE);
  CHECK(client_close(&end) == SSL_AD_CLOSE_NOTIFY);
  identity_free(&good);
  gateway_close(&door);
}

static void connections_are_counted_while_they_live(void) {
  gateway door;
  client ends[2];
  uint64_t gauge = 0;
  gw_rules rules = WHOLE_CHAIN;
  rules.connections = &gauge;
  gateway_open(&door, rules, REQUIRED);
  client_open(&ends[0], &door, TLS1_3_VERSION, NULL, NULL);
  client_open(&ends[1], &door, TLS1_3_VERSION, NULL, NULL);
  CHECK(gauge == 2);
  (void)client_close(&ends[0]);
  (void)client_close(&ends[1]);
  CHECK(gauge == 0);
  gateway_close(&door);
}

/* What a connection is asked after its end: who it was. The rest may go at once, and goes once. */
static void a_closed_connection_still_knows_whose_it_was(void) {
  gateway door;
  client end;
  uint64_t gauge = 0;
  gw_rules rules = with_policy(GW_UNAVAILABLE_ACCEPT);
  rules.connections = &gauge;
  gateway_open(&door, rules, REQUIRED);
  identity uncovered = identity_make("uncovered", "10", &door.middle, 0);
  client_open(&end, &door, TLS1_3_VERSION, &uncovered, NULL);
  CHECK(shake(&end) == GW_HANDSHAKE_DONE);
  gw_conn_close(end.conn);
  (void)client_listen(&end);
  CHECK(end.alert == SSL_AD_CLOSE_NOTIFY && gauge == 0);
  gw_conn_close(end.conn);
  CHECK(gauge == 0);
  const gw_verification *known = &end.conn->verification;
  CHECK(known->verdict.verdict == GW_VERDICT_NO_LIST && known->listener == door.listener);
  (void)client_close(&end);
  CHECK(gauge == 0);
  identity_free(&uncovered);
  gateway_close(&door);
}

static void a_client_without_an_address_has_none(void) {
  gateway door;
  client end;
  gateway_open(&door, WHOLE_CHAIN, REQUIRED);
  client_open(&end, &door, TLS1_3_VERSION, NULL, NULL); /* a Unix socket has none */
  CHECK(end.conn->peer.sin6_family != AF_INET && end.conn->peer.sin6_family != AF_INET6);
  (void)client_close(&end);
  gateway_close(&door);
}

int main(void) {
  use_system_openssl();
  RUN(a_good_client_is_let_in);
  RUN(a_revoked_client_is_told_certificate_revoked);
  RUN(a_client_below_a_revoked_intermediate_is_told_certificate_revoked);
  RUN(a_client_that_no_list_covers_is_told_unknown_ca);
  RUN(a_client_whose_list_has_expired_is_told_certificate_expired);
  RUN(a_client_of_another_ca_is_refused_before_anything_is_looked_up);
  RUN(accept_lets_the_uncovered_in_and_says_so);
  RUN(one_that_waits_passes_when_its_list_has_come);
  RUN(a_resumed_client_is_looked_up_again);
  RUN(without_a_client_certificate_nothing_is_asked);
  RUN(where_one_is_required_a_client_without_certificate_is_refused);
  RUN(with_check_off_nothing_is_looked_up);
  RUN(a_client_that_is_a_trust_anchor_is_let_in_without_a_list);
  RUN(garbage_fails_with_a_reason);
  RUN(half_a_client_hello_waits_for_the_rest);
  RUN(a_client_that_leaves_at_once_is_a_failure_with_a_reason);
  RUN(a_connection_can_be_given_up_at_any_step);
  RUN(verdicts_of_interleaved_handshakes_are_not_mixed_up);
  RUN(a_handshake_that_nobody_began_is_refused);
  RUN(close_notify_arrives_though_the_client_has_sent_more);
  RUN(connections_are_counted_while_they_live);
  RUN(a_closed_connection_still_knows_whose_it_was);
  RUN(a_client_without_an_address_has_none);
  return 0;
}
