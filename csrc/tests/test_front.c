/* test_front.c - many handshakes at a time: each ends once, for its own reason, and none holds up another. */
#include "front_stage.h"

/* How many handshakes have been timed. */
static uint64_t timed(const uint64_t *counters) {
  uint64_t sum = 0;
  for (int i = 0; i < GW_TIME_BUCKETS; i++) {
    sum += counters[GW_COUNT_HANDSHAKE_TIME + i];
  }
  return sum;
}

static void a_good_client_is_clear(void) {
  for (int i = 0; i < 2; i++) {
    stage on;
    client end;
    stage_open(&on, TIMEOUT_MS);
    client_connect(&end, &on, VERSIONS[i], &on.good);
    shake_all(&on, &end, 1, 1);
    const gw_arrival *came = &on.arrivals[0];
    CHECK(came == arrival_of(&on, end.fd) && came->result == GW_HANDSHAKE_DONE && came->clear == 1);
    CHECK(in_progress(&on) == 0 && on.gauge == 1 && !is_ready(&on));
    /* It is the caller's: the front knows it no more. */
    CHECK(SSL_write(end.ssl, "hello", 5) == 5 && !is_ready(&on));
    CHECK(on.door.counters[GW_COUNT_HANDSHAKES] == 1);
    CHECK(on.door.counters[GW_COUNT_TLS12] == (i == 0) && timed(on.door.counters) == 1);
    forget(&on);
    CHECK(client_close(&end) == SSL_AD_CLOSE_NOTIFY);
    stage_close(&on);
  }
}

static void without_a_certificate_where_none_is_required_is_clear_too(void) {
  stage on;
  client end;
  stage_open(&on, TIMEOUT_MS);
  client_connect(&end, &on, TLS1_3_VERSION, NULL);
  shake_all(&on, &end, 1, 1);
  CHECK(on.arrivals[0].result == GW_HANDSHAKE_DONE && on.arrivals[0].clear == 1);
  (void)client_close(&end);
  stage_close(&on);
}

/* Done, but something speaks against it: a resumed session whose certificate is revoked since. */
static void a_client_that_somebody_has_to_look_at_is_not_clear(void) {
  for (int i = 0; i < 2; i++) {
    stage on;
    client end;
    stage_open(&on, TIMEOUT_MS);
    lists_now(&on.door, NO_SERIALS, NO_SERIALS);
    SSL_SESSION *session = ticket_of(&on.door, VERSIONS[i], &on.revoked);
    lists_now(&on.door, NO_SERIALS, SERIALS("11"));
    client_begin(&end, dial_in(&on), VERSIONS[i], &on.revoked, session);
    shake_all(&on, &end, 1, 1);
    CHECK(on.arrivals[0].result == GW_HANDSHAKE_DONE && on.arrivals[0].clear == 0);
    SSL_SESSION_free(session);
    (void)client_close(&end);
    stage_close(&on);
  }
}

static void a_failure_has_its_reason(void) {
  stage on;
  stage_open(&on, TIMEOUT_MS);
  int garbage = dial_in(&on), silent = dial_in(&on);
  say(garbage, "GET / HTTP/1.1\r\n\r\n");
  CHECK(shutdown(silent, SHUT_WR) == 0);
  shake_all(&on, NULL, 0, 2);
  const gw_arrival *of_garbage = arrival_of(&on, garbage), *of_silent = arrival_of(&on, silent);
  CHECK(of_garbage->result == GW_HANDSHAKE_FAILED && of_garbage->clear == 0);
  CHECK(strcmp(of_garbage->error.text, "http request") == 0);
  CHECK(of_silent->result == GW_HANDSHAKE_FAILED && of_silent->clear == 0);
  CHECK(of_silent->error.text[0] != '\0' && strcmp(of_silent->error.text, "http request") != 0);
  CHECK(on.door.counters[GW_COUNT_FAILED] == 2);
  forget(&on);
  CHECK(is_closed(garbage) && is_closed(silent));
  close(garbage);
  close(silent);
  stage_close(&on);
}

static void of_many_at_once_each_ends_once_and_for_itself(void) {
  enum { EACH = 12, KINDS = 6, MANY = EACH * KINDS };
  static stage on;
  static client ends[MANY];
  stage_open(&on, TIMEOUT_MS);
  for (int i = 0; i < MANY; i++) {
    const identity *who = i % 3 == 0 ? &on.good : i % 3 == 1 ? &on.revoked : NULL;
    client_connect(&ends[i], &on, VERSIONS[i % 2], who);
    if (i % KINDS == 5) {
      say(ends[i].fd, "garbage garbage");
    }
  }
  shake_all(&on, ends, MANY, MANY);
  CHECK(on.ended == MANY && in_progress(&on) == 0 && on.gauge == MANY && !is_ready(&on));
  for (int i = 0; i < MANY; i++) {
    const gw_arrival *came = arrival_of(&on, ends[i].fd);
    int fails = i % 3 == 1 || i % KINDS == 5;
    CHECK(came != NULL && came->result == (fails ? GW_HANDSHAKE_FAILED : GW_HANDSHAKE_DONE) && came->clear == !fails);
    CHECK(!fails || came->error.text[0] != '\0');
    CHECK((came->conn->verification.verdict.verdict == GW_VERDICT_REVOKED) == (i % 3 == 1));
  }
  CHECK(on.door.counters[GW_COUNT_REFUSED_REVOKED] == 2 * EACH);
  CHECK(on.door.counters[GW_COUNT_FAILED] == EACH && on.door.counters[GW_COUNT_HANDSHAKES] == 3 * EACH);
  CHECK(timed(on.door.counters) == 3 * EACH);
  forget(&on);
  for (int i = 0; i < MANY; i++) {
    int alert = client_close(&ends[i]);
    CHECK(i % 3 != 1 || alert == SSL_AD_CERTIFICATE_REVOKED);
  }
  stage_close(&on);
}

/* --- slow clients --- */

/* A client whose every octet comes alone. */
typedef struct {
  client end;
  int fd;
} slow_client;

static void slow_open(slow_client *slow, const stage *on, int version) {
  slow->fd = dial_in(on);
  client_begin(&slow->end, dup(slow->fd), version, &on->good, NULL);
  SSL_set_bio(slow->end.ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
}

static void slow_close(slow_client *slow) {
  (void)client_close(&slow->end);
  close(slow->fd);
}

/* drip sends the next octet. Returns 0 when there is none. */
static int drip(slow_client *slow) {
  char octet, heard[4096];
  ssize_t got = recv(slow->fd, heard, sizeof heard, MSG_DONTWAIT);
  if (got > 0) {
    CHECK(BIO_write(SSL_get_rbio(slow->end.ssl), heard, (int)got) == (int)got);
  }
  client_steps(&slow->end);
  if (BIO_read(SSL_get_wbio(slow->end.ssl), &octet, 1) != 1) {
    return 0;
  }
  CHECK(send(slow->fd, &octet, 1, MSG_NOSIGNAL) == 1);
  return 1;
}

static void a_client_that_sends_octet_by_octet_gets_in_and_holds_up_nobody(void) {
  for (int i = 0; i < 2; i++) {
    stage on;
    slow_client slow;
    client fast;
    int octets = 0;
    stage_open(&on, TIMEOUT_MS);
    slow_open(&slow, &on, VERSIONS[i]);
    for (int times = 0; !on.ended; times++) {
      CHECK(times < 100000);
      octets += drip(&slow);
      (void)step(&on, ROOM);
      CHECK(on.ended || in_progress(&on) == 1);
      if (octets == 100) {
        client_connect(&fast, &on, VERSIONS[i], &on.good);
        shake_all(&on, &fast, 1, 1);
        CHECK(arrival_of(&on, fast.fd)->clear);
        forget(&on);
        (void)client_close(&fast);
        octets++;
      }
    }
    CHECK(octets > 500 && on.arrivals[0].result == GW_HANDSHAKE_DONE && on.arrivals[0].clear);
    slow_close(&slow);
    stage_close(&on);
  }
}

/* The gateway's flight is longer than the kernel's buffers: it has to wait until the client reads. */
static void a_client_that_does_not_read_is_waited_for_without_spinning(void) {
  for (int i = 0; i < 2; i++) {
    const int little = 4096;
    stage on;
    client end;
    stage_open(&on, TIMEOUT_MS);
    for (int times = 0; times < 400; times++) {
      CHECK(X509_up_ref(on.door.server.certificate) == 1);
      CHECK(SSL_CTX_add_extra_chain_cert(on.door.context, on.door.server.certificate) == 1);
    }
    CHECK(setsockopt(on.listening, SOL_SOCKET, SO_SNDBUF, &little, sizeof little) == 0);
    client_connect(&end, &on, VERSIONS[i], &on.good);
    SSL_set_max_cert_list(end.ssl, 1 << 20);
    client_steps(&end);
    for (int times = 0; is_ready(&on); times++) {
      CHECK(times < MAX_STEPS && step(&on, 1) == 0);
    }
    CHECK(in_progress(&on) == 1); /* and there is nothing to do, though it is not done */
    shake_all(&on, &end, 1, 1);
    CHECK(on.arrivals[0].clear);
    (void)client_close(&end);
    stage_close(&on);
  }
}

/* --- time --- */

static void who_takes_too_long_is_given_up_in_the_order_of_arrival(void) {
  enum { MANY = 4 };
  stage on;
  int silent[MANY];
  client end;
  stage_open(&on, TIMEOUT_MS);
  for (int i = 0; i < MANY; i++) {
    silent[i] = dial_in(&on);
    CHECK(step(&on, ROOM) == 0 && on.intake.accepted == 1);
    ahead_ms += TIMEOUT_MS / 10;
  }
  client_connect(&end, &on, TLS1_3_VERSION, &on.good);
  shake_all(&on, &end, 1, 1); /* who is done has no deadline any more */
  forget(&on);
  CHECK(gw_front_patience(on.front) <= TIMEOUT_MS / 10 * (10 - MANY));
  for (int i = 0; i < MANY; i++) {
    CHECK(in_progress(&on) == (uint64_t)(MANY - i) && !is_ready(&on) && step(&on, ROOM) == 0);
    ahead_ms += gw_front_patience(on.front);
    CHECK(gw_front_patience(on.front) == 0 && step(&on, ROOM) == 1);
    CHECK(arrival_of(&on, silent[i]) == &on.arrivals[0]);
    CHECK(on.arrivals[0].result == GW_HANDSHAKE_TIMED_OUT && on.arrivals[0].clear == 0);
    forget(&on);
    CHECK(is_closed(silent[i]));
    close(silent[i]);
  }
  CHECK(gw_front_patience(on.front) == -1);
  (void)client_close(&end);
  stage_close(&on);
}

static void who_keeps_sending_gets_no_more_time(void) {
  stage on;
  slow_client slow;
  stage_open(&on, TIMEOUT_MS);
  slow_open(&slow, &on, TLS1_3_VERSION);
  for (int i = 0; i < 10; i++) {
    CHECK(!on.ended && drip(&slow));
    (void)step(&on, ROOM);
    ahead_ms += TIMEOUT_MS / 10;
  }
  (void)drip(&slow);
  CHECK(step(&on, ROOM) == 1 && on.arrivals[0].result == GW_HANDSHAKE_TIMED_OUT);
  slow_close(&slow);
  stage_close(&on);
}

/* --- room --- */

static void more_than_there_is_room_for_are_told_later(void) {
  enum { MANY = 9, FEW = 2 };
  for (int in_time = 0; in_time < 2; in_time++) {
    stage on;
    int fds[MANY];
    stage_open(&on, TIMEOUT_MS);
    for (int i = 0; i < MANY; i++) {
      fds[i] = dial_in(&on);
    }
    take_in(&on, MANY);
    for (int i = 0; in_time && i < MANY; i++) {
      say(fds[i], "garbage garbage");
    }
    ahead_ms += in_time ? 0 : TIMEOUT_MS;
    for (int left = MANY; left > 0; left -= FEW) {
      CHECK(step_with(&on, (gw_intake){.quota = 0}, FEW) == (left < FEW ? left : FEW));
      CHECK(on.intake.busy == (left >= FEW));
    }
    CHECK(on.ended == MANY && step(&on, ROOM) == 0 && !on.intake.busy);
    for (int i = 0; i < MANY; i++) {
      const gw_arrival *came = arrival_of(&on, fds[i]);
      CHECK(came != NULL && came->result == (in_time ? GW_HANDSHAKE_FAILED : GW_HANDSHAKE_TIMED_OUT));
      close(fds[i]);
    }
    stage_close(&on);
  }
}

static void freed_it_closes_whoever_is_still_at_it(void) {
  enum { MANY = 4 };
  stage on;
  client ends[MANY];
  stage_open(&on, TIMEOUT_MS);
  for (int i = 0; i < MANY; i++) { /* of each version one that has said hello and one that has not */
    client_connect(&ends[i], &on, VERSIONS[i % 2], &on.good);
    if (i < 2) {
      client_steps(&ends[i]);
    }
  }
  take_in(&on, MANY);
  CHECK(on.gauge == MANY);
  gw_front_free(on.front);
  on.front = NULL; /* which may be freed, too */
  CHECK(on.gauge == 0);
  for (int i = 0; i < MANY; i++) {
    CHECK(is_closed(ends[i].fd));
    (void)client_close(&ends[i]);
  }
  stage_close(&on);
}

int main(void) {
  use_system_openssl();
  RUN(a_good_client_is_clear);
  RUN(without_a_certificate_where_none_is_required_is_clear_too);
  RUN(a_client_that_somebody_has_to_look_at_is_not_clear);
  RUN(a_failure_has_its_reason);
  RUN(of_many_at_once_each_ends_once_and_for_itself);
  RUN(a_client_that_sends_octet_by_octet_gets_in_and_holds_up_nobody);
  RUN(a_client_that_does_not_read_is_waited_for_without_spinning);
  RUN(who_takes_too_long_is_given_up_in_the_order_of_arrival);
  RUN(who_keeps_sending_gets_no_more_time);
  RUN(more_than_there_is_room_for_are_told_later);
  RUN(freed_it_closes_whoever_is_still_at_it);
  return 0;
}
