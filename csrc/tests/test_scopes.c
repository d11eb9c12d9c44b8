/* Lists that cover a part only: of some points, reasons or subjects, and with later changes. */
#include <string.h>

#include "../verify.h"
#include "check.h"
#include "pki.h"
#include "system_openssl.h"

static const int64_t NOW = 1800000000;
enum { ONE = 1 << 1, REST = GW_ALL_REASONS & ~ONE };

typedef struct {
  identity ca, client;
  gw_world *world;
  gw_cover covers[2];
} stage;

static void open_stage(stage *on, const char *const *first, const char *const *second) {
  on->ca = identity_make("ca", "01", NULL, 1);
  on->client = identity_make("client", "10", &on->ca, 0);
  on->world = gw_world_new(NULL);
  CHECK(on->world != NULL);
  on->covers[0] = cover_of(table_make(&on->ca, first, NOW - 60, NOW + 3600));
  on->covers[1] = cover_of(table_make(&on->ca, second, NOW - 60, NOW + 3600));
}

static void close_stage(stage *on) {
  gw_table_free(on->covers[0].table);
  gw_table_free(on->covers[1].table);
  gw_world_free(on->world);
  identity_free(&on->client);
  identity_free(&on->ca);
}

/* judge asks the first |count| covers of the stage about the client's certificate. */
static gw_verdict judge(stage *on, size_t count) {
  gw_error error;
  gw_verdict verdict;
  size_t length;
  uint8_t *der = gw_x509_der(on->client.certificate, &length);
  CHECK(der != NULL && gw_world_publish(on->world, on->covers, count, &error));
  CHECK(gw_judge(on->world, der, length, &on->covers[0].issuer, 0, NOW, &verdict));
  free(der);
  return verdict;
}

static void a_point_covers_and_revokes_those_that_name_it_alone(void) {
  stage on;
  open_stage(&on, SERIALS("10"), NO_SERIALS);
  on.covers[0].point = 7;
  CHECK(judge(&on, 1).verdict == GW_VERDICT_NO_LIST);
  const uint8_t *name = on.covers[0].issuer.name; /* short: two octets of header, then the RDNSequence */
  on.covers[0].point = gw_name_digest(0xa4, name + 2, on.covers[0].issuer.name_length - 2);
  CHECK(judge(&on, 1).verdict == GW_VERDICT_REVOKED);
  close_stage(&on);
}

static void lists_of_some_reasons_cover_together(void) {
  stage on;
  open_stage(&on, NO_SERIALS, NO_SERIALS);
  on.covers[0].reasons = ONE;
  on.covers[1].reasons = REST;
  CHECK(judge(&on, 1).verdict == GW_VERDICT_NO_LIST);
  CHECK(judge(&on, 2).verdict == GW_VERDICT_GOOD);
  on.covers[1].next_update = NOW - 5;
  gw_verdict verdict = judge(&on, 2);
  CHECK(verdict.verdict == GW_VERDICT_STALE && verdict.next_update == NOW - 5);
  on.covers[1].next_update = 0;
  on.covers[1].this_update = NOW + GW_CLOCK_SKEW + 1;
  CHECK(judge(&on, 2).verdict == GW_VERDICT_NO_LIST);
  close_stage(&on);
}

static void a_list_of_users_or_cas_covers_no_others(void) {
  stage on;
  open_stage(&on, NO_SERIALS, NO_SERIALS);
  on.covers[0].subjects = GW_USERS_ONLY;
  CHECK(judge(&on, 1).verdict == GW_VERDICT_GOOD);
  on.covers[0].subjects = GW_CAS_ONLY;
  CHECK(judge(&on, 1).verdict == GW_VERDICT_NO_LIST);
  close_stage(&on);
}

static void an_indirect_list_covers_only_those_that_name_who_signs(void) {
  stage on;
  open_stage(&on, SERIALS("10"), NO_SERIALS);
  on.covers[0].crl_issuer = 7;
  CHECK(judge(&on, 1).verdict == GW_VERDICT_NO_LIST);
  close_stage(&on);
}

static void a_delta_goes_before_its_base(void) {
  stage on;
  open_stage(&on, NO_SERIALS, SERIALS("10"));
  on.covers[0].delta = on.covers[1].table;
  CHECK(judge(&on, 1).verdict == GW_VERDICT_REVOKED);
  close_stage(&on);
}

static void a_list_of_no_reasons_revokes_and_does_not_cover(void) {
  stage on;
  open_stage(&on, SERIALS("10"), NO_SERIALS);
  on.covers[0].reasons = on.covers[1].reasons = 0;
  CHECK(judge(&on, 1).verdict == GW_VERDICT_REVOKED);
  gw_cover first = on.covers[0];
  on.covers[0] = on.covers[1];
  CHECK(judge(&on, 1).verdict == GW_VERDICT_NO_LIST);
  on.covers[0] = first;
  close_stage(&on);
}

int main(void) {
  use_system_openssl();
  RUN(a_point_covers_and_revokes_those_that_name_it_alone);
  RUN(lists_of_some_reasons_cover_together);
  RUN(a_list_of_users_or_cas_covers_no_others);
  RUN(an_indirect_list_covers_only_those_that_name_who_signs);
  RUN(a_delta_goes_before_its_base);
  RUN(a_list_of_no_reasons_revokes_and_does_not_cover);
  return 0;
}
