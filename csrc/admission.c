#include "admission.h"

#include <limits.h>

#include "counters.h"

enum { SECOND_US = 1000000, EXHAUSTED_US = 100000 };

/* Handshakes of another listener end unseen here: they are looked at again after so long. */
enum { LOOK_US = 50000 };

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

void gw_admission_init(gw_admission *admission, const gw_limits *limits) {
  *admission = (gw_admission){.limits = *limits, .next_us = INT64_MIN, .not_before_us = INT64_MIN};
}

static int64_t places(const gw_admission *admission) {
  int64_t left = admission->limits.connections;
  for (size_t i = 0; i < admission->limits.workers; i++) {
    left -= gw_counted(admission->limits.pages[i], admission->limits.gauge);
  }
  return left;
}

gw_grant gw_admission_grant(gw_admission *admission, int64_t now_us, int64_t handshaking) {
  int64_t interval = admission->limits.interval_us, quota = admission->limits.handshakes - handshaking;
  if (interval > 0) admission->next_us = most(admission->next_us, now_us - SECOND_US);
  int64_t from = interval > 0 ? most(admission->next_us, admission->not_before_us) : admission->not_before_us;
  if (from > now_us || quota <= 0) {
    return (gw_grant){.pause_us = from > now_us ? from - now_us : LOOK_US};
  }
  if (interval > 0) quota = least(quota, (now_us - admission->next_us) / interval + 1);
  int64_t left = places(admission);
  admission->full = left <= 0;
  return (gw_grant){.quota = (int)least(admission->full ? quota : least(quota, left), INT_MAX),
                    .turn_away = admission->full,
                    .pause_us = -1};
}

void gw_admission_came(gw_admission *admission, int count) {
  if (!admission->full) admission->next_us += count * admission->limits.interval_us;
}

void gw_admission_exhausted(gw_admission *admission, int64_t now_us) {
  admission->not_before_us = now_us + EXHAUSTED_US;
}
