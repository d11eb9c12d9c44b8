/* test_admission.c - how many may come in, and when: by rate, by number, by what is in progress, by what is left. */
#include <string.h>

#include "../admission.h"
#include "check.h"

enum { SECOND = 1000000, NOT_MANY = 100, GAUGE = 3, PAGE = 8 };

static gw_admission admission_of(gw_limits limits) {
  gw_admission admission;
  gw_admission_init(&admission, &limits);
  return admission;
}

static gw_limits by_rate(int64_t a_second) {
  return (gw_limits){.handshakes = 1000000, .connections = 1000000, .interval_us = SECOND / a_second};
}

/* admit lets in as many of |count| clients as wait, from |from_us| on; returns how many came in at once, and at
 * |*last_us| the last one. */
static int admit(gw_admission *admission, int64_t from_us, int count, int64_t *last_us) {
  int at_once = 0;
  for (int64_t now = from_us; count > 0;) {
    gw_grant grant = gw_admission_grant(admission, now, 0);
    CHECK(!grant.turn_away && (grant.quota > 0) == (grant.pause_us < 0));
    int came = grant.quota < count ? grant.quota : count;
    gw_admission_came(admission, came);
    at_once += now == from_us ? came : 0;
    count -= came;
    *last_us = now;
    now += came > 0 ? 0 : grant.pause_us;
  }
  return at_once;
}

static void without_a_rate_nobody_waits(void) {
  int64_t last;
  gw_admission admission = admission_of((gw_limits){.handshakes = 2000, .connections = 2000});
  CHECK(admit(&admission, 5, 1000, &last) == 1000 && last == 5);
}

static void a_burst_of_a_second_is_let_through_and_then_the_rate_holds(void) {
  int64_t last, now = 100 * (int64_t)SECOND;
  gw_admission admission = admission_of(by_rate(10));
  CHECK(admit(&admission, now, 40, &last) == 11);
  CHECK(last == now + (39 - 10) * (SECOND / 10));
}

static void silence_saves_up_no_more_than_one_second(void) {
  int64_t last;
  gw_admission admission = admission_of(by_rate(10));
  (void)admit(&admission, 100 * (int64_t)SECOND, 30, &last);
  CHECK(admit(&admission, last + 1000 * (int64_t)SECOND, 30, &last) == 11);
}

static void all_workers_together_are_full(void) {
  uint64_t pages[2][PAGE] = {{0}};
  uint64_t *const all[] = {pages[0], pages[1]};
  gw_admission admission = admission_of(
      (gw_limits){.handshakes = NOT_MANY, .connections = 3, .pages = all, .workers = 2, .gauge = GAUGE});
  pages[0][GAUGE] = pages[1][GAUGE] = 1;
  gw_grant grant = gw_admission_grant(&admission, 0, 0);
  CHECK(grant.quota == 1 && !grant.turn_away && !admission.full);
  pages[1][GAUGE] = 2;
  grant = gw_admission_grant(&admission, 0, 0);
  CHECK(grant.quota == NOT_MANY && grant.turn_away && admission.full); /* they come in to be turned away */
  pages[0][GAUGE] = 0;
  grant = gw_admission_grant(&admission, 0, 0);
  CHECK(grant.quota == 1 && !grant.turn_away && !admission.full);
}

static void who_is_turned_away_does_not_count_against_the_rate(void) {
  uint64_t page[PAGE] = {0};
  uint64_t *const all[] = {page};
  gw_limits limits = by_rate(1);
  limits.connections = 1;
  limits.pages = all;
  limits.workers = 1;
  gw_admission admission = admission_of(limits);
  page[0] = 1;
  gw_grant grant = gw_admission_grant(&admission, 100 * (int64_t)SECOND, 0);
  CHECK(grant.turn_away && grant.quota > 0);
  gw_admission_came(&admission, 1000);
  page[0] = 0;
  grant = gw_admission_grant(&admission, 100 * (int64_t)SECOND, 0);
  CHECK(grant.quota == 1 && !grant.turn_away);
}

static void while_too_many_handshakes_are_in_progress_clients_wait(void) {
  gw_admission admission = admission_of((gw_limits){.handshakes = NOT_MANY, .connections = 1000000});
  gw_grant grant = gw_admission_grant(&admission, 7, NOT_MANY - 1);
  CHECK(grant.quota == 1 && grant.pause_us == -1);
  grant = gw_admission_grant(&admission, 7, NOT_MANY);
  CHECK(grant.quota == 0 && 0 < grant.pause_us && grant.pause_us < SECOND); /* another listener's may end meanwhile */
}

static void where_the_kernel_has_no_more_to_give_there_is_a_pause(void) {
  gw_admission admission = admission_of((gw_limits){.handshakes = NOT_MANY, .connections = NOT_MANY});
  gw_admission_exhausted(&admission, SECOND);
  gw_grant grant = gw_admission_grant(&admission, SECOND + 1, 0);
  CHECK(grant.quota == 0 && grant.pause_us == SECOND / 10 - 1);
  grant = gw_admission_grant(&admission, SECOND + SECOND / 10, 0);
  CHECK(grant.quota == NOT_MANY && grant.pause_us == -1);
}

int main(void) {
  RUN(without_a_rate_nobody_waits);
  RUN(a_burst_of_a_second_is_let_through_and_then_the_rate_holds);
  RUN(silence_saves_up_no_more_than_one_second);
  RUN(all_workers_together_are_full);
  RUN(who_is_turned_away_does_not_count_against_the_rate);
  RUN(while_too_many_handshakes_are_in_progress_clients_wait);
  RUN(where_the_kernel_has_no_more_to_give_there_is_a_pause);
  return 0;
}
