/* test_relay_asks.c - of connected clients about whom responders are to be asked some are told at each look. */
#include <stdlib.h>

#include "relay_pair.h"

enum { FIRST = 300, CLIENTS = 300, AT_A_TIME = 256 };

/* The one bucket of a table in which nothing is. */
static gw_answers *nothing_known(void) {
  gw_answers *made = calloc(1, sizeof *made + GW_ANSWERS_IN_BUCKET * sizeof *made->slots);
  CHECK(made != NULL);
  made->buckets = 1;
  return made;
}

/* told takes all that are told of, which have to be certificates of different clients, and returns how many. */
static int told(stage *on) {
  static int seen[CLIENTS];
  int count = 0;
  gw_arrival arrival;
  memset(seen, 0, sizeof seen);
  struct pollfd waiting = {.fd = gw_relay_event_fd(on->relay), .events = POLLIN};
  CHECK(poll(&waiting, 1, PATIENCE * 1000) == 1);
  while (gw_relay_next_arrival(on->relay, &arrival)) {
    CHECK(arrival.result == GW_DOOR_ASK && arrival.conn == NULL && arrival.listener != NULL);
    X509 *leaf = arrival.leaf;
    long number = leaf == NULL ? -1 : ASN1_INTEGER_get(X509_get_serialNumber(leaf)) - FIRST;
    CHECK(number >= 0 && number < CLIENTS && !seen[number]++);
    X509_free(leaf);
    count++;
  }
  return count;
}

/* look has all looked up, and returns when that is over. */
static void look(stage *on, pair *one) {
  gw_relay_recheck(on->relay);
  both_ways(one); /* the thread does both in turn */
}

static void some_are_told_of_at_each_look_and_who_is_not_read_is_released(void) {
  static pair with[CLIENTS];
  stage on;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_LEAF, &DEFAULTS);
  gw_answers *answers = nothing_known();
  const gw_rules rules = {.check = GW_CHECK_LEAF, .on_unavailable = GW_UNAVAILABLE_ACCEPT, .disconnect_revoked = 1,
                          .answers = answers};
  gw_listener *asking = gw_listener_new(on.world, &rules);
  CHECK(asking != NULL && gw_listener_add_ca(asking, on.ca, -1) == 0);
  for (int i = 0; i < CLIENTS; i++) {
    pair_handshake(&on, &with[i], asking, FIRST + i, 0);
    pair_broker(&with[i], 0);
    adopt(&on, &with[i], (uint64_t)i, "");
    both_ways(&with[i]);
  }
  gw_arrival arrival;
  CHECK(!gw_relay_next_arrival(on.relay, &arrival)); /* those who begin were asked about a moment ago */
  for (int times = 0; times < 2; times++) {
    look(&on, &with[0]);
    CHECK(told(&on) == AT_A_TIME);
  }
  look(&on, &with[0]);
  for (int i = 0; i < CLIENTS; i++) {
    pair_close(&with[i]);
  }
  gw_relay_stop(on.relay);
  gw_listener_free(asking);
  stage_close(&on);
  free(answers);
}

int main(void) {
  (void)signal(SIGPIPE, SIG_IGN); /* for the clients of the test; the relay thread needs it not */
  use_system_openssl();
  RUN(some_are_told_of_at_each_look_and_who_is_not_read_is_released);
  return 0;
}
