/* test_scopes.c - which lists count for which certificate (RFC 5280, section 6.3.3), decided without OpenSSL: the
 * certificates and the lists are put together here. */
#include "certificate.h"
#include "make_certificate.h"
#include "make_table.h"
#include "verify.h"

static const int64_t NOW = 1800000000;
static const gw_issuer ISSUER = {(const uint8_t *)"issuer", 6, (const uint8_t *)"key", 3};

enum { KEY_COMPROMISE = 1 << 1, THE_OTHERS = GW_ALL_REASONS & ~KEY_COMPROMISE };

/* table_of makes a table of one serial, 05 of the certificate or another, with this |reason|, or of none. */
enum { NOTHING = -1, UNSAID = 0, REMOVED = 8 };

static gw_table *table_of(uint8_t serial, int reason) {
  static const gw_table_meta META = {.signature = (const uint8_t *)"signature", .signature_length = 9};
  bytes entries = {0}, extensions = {0};
  const uint8_t code[] = {0x0a, 0x01, (uint8_t)reason};
  if (reason != NOTHING) {
    extension_add(&extensions, "\x55\x1d\x15", -1, code, sizeof code);
    entry_add(&entries, &serial, 1, "260101000000Z", &extensions);
  }
  gw_table *table = table_open(entries.at, entries.length, &META);
  bytes_free(&entries);
  return table;
}

static gw_table *empty(void) { return table_of(0, NOTHING); }
static gw_table *revoking(void) { return table_of(5, UNSAID); }

/* everything is what a fresh list without any limits says; it owns |table|. */
static gw_cover everything(gw_table *table) {
  return (gw_cover){.issuer = ISSUER, .reasons = GW_ALL_REASONS, .this_update = NOW - 60, .next_update = NOW + 3600,
                    .table = table};
}

static uint64_t uri(const char *text) { return gw_name_digest(0x86, (const uint8_t *)text, strlen(text)); }

static uint64_t directory(const char *common_name) {
  bytes rdns = {0};
  rdn_add(&rdns, 0x31, common_name);
  uint64_t digest = gw_name_digest(0xa4, rdns.at, rdns.length);
  bytes_free(&rdns);
  return digest;
}

/* judge_of asks |count| covers, whose tables it gives up, about |certificate|, which it frees. */
static gw_verdict judge_of(bytes certificate, gw_cover *covers, size_t count) {
  gw_world *world = gw_world_new(NULL);
  gw_error error;
  gw_verdict verdict;
  CHECK(world != NULL && gw_world_publish(world, covers, count, &error));
  CHECK(gw_judge(world, certificate.at, certificate.length, &ISSUER, 0, NOW, &verdict));
  CHECK(verdict.depth == 0 && (verdict.verdict == GW_VERDICT_STALE || verdict.next_update == 0));
  gw_world_free(world);
  bytes_free(&certificate);
  for (size_t i = 0; i < count; i++) {
    gw_table_free(covers[i].table);
    gw_table_free(covers[i].delta);
  }
  return verdict;
}
#define JUDGE(certificate, ...)                             \
  judge_of((certificate), (gw_cover[]){__VA_ARGS__},        \
           sizeof((gw_cover[]){__VA_ARGS__}) / sizeof(gw_cover))

/* The certificate of one point: of |name|, a URI or NULL, for |reasons| (NULL: all), signed by |signer| where that is
 * not NULL. */
static bytes naming(const char *name, const char *reasons, const char *signer) {
  bytes extensions = {0}, points = {0}, names = {0}, issuers = {0};
  if (name != NULL) {
    uri_add(&names, name);
  }
  if (signer != NULL) {
    directory_add(&issuers, signer);
  }
  point_add(&points, name != NULL ? &names : NULL, NULL, reasons, reasons == NULL ? 0 : 2,
            signer != NULL ? &issuers : NULL);
  points_extension(&extensions, &points);
  return certificate_with(&extensions);
}

static bytes plain(void) { return certificate_with(NULL); }

static bytes authority(void) {
  bytes extensions = {0};
  extension_add(&extensions, "\x55\x1d\x13", 0xff, "\x30\x03\x01\x01\xff", 5);
  return certificate_with(&extensions);
}

/* verdict_with judges |certificate| by one cover that is like |cover|, without and with its serial in the list. */
static int verdict_with(bytes (*certificate)(void), gw_cover cover, int revoked) {
  gw_cover one = cover;
  one.table = revoked ? revoking() : empty();
  return judge_of(certificate(), &one, 1).verdict;
}

static bytes naming_u(void) { return naming("u", NULL, NULL); }
static bytes naming_u_of_x(void) { return naming("u", NULL, "x"); }
static bytes naming_x(void) { return naming(NULL, NULL, "x"); }

/* does_count: |cover| covers and revokes |certificate|; or does neither. */
static int does_count(bytes (*certificate)(void), gw_cover cover) {
  int good = verdict_with(certificate, cover, 0), revoked = verdict_with(certificate, cover, 1);
  int counts = good == GW_VERDICT_GOOD && revoked == GW_VERDICT_REVOKED;
  CHECK(counts || (good == GW_VERDICT_NO_LIST && revoked == GW_VERDICT_NO_LIST));
  return counts;
}

static void a_list_without_limits_counts_for_every_certificate_of_its_issuer(void) {
  gw_cover cover = everything(NULL);
  CHECK(does_count(plain, cover) && does_count(authority, cover) && does_count(naming_u, cover));
  CHECK(does_count(naming_u_of_x, cover)); /* by the point that section 6.3.3 has us assume */
  cover.issuer.key = (const uint8_t *)"yek";
  CHECK(!does_count(plain, cover));
  cover = everything(NULL);
  cover.issuer.name = (const uint8_t *)"reussi";
  CHECK(!does_count(plain, cover));
}

static void a_list_of_a_point_counts_for_those_that_name_it(void) {
  gw_cover cover = everything(NULL);
  cover.point = uri("u");
  CHECK(does_count(naming_u, cover) && !does_count(plain, cover) && !does_count(naming_x, cover));
  cover.point = uri("v");
  CHECK(!does_count(naming_u, cover));
  cover.point = directory("issuer"); /* the name of the certificates' issuer is assumed as a point of each */
  CHECK(does_count(naming_u, cover) && does_count(plain, cover) && does_count(naming_x, cover));
}

static void a_list_of_another_point_changes_nothing(void) {
  gw_cover other = everything(revoking());
  other.point = uri("v");
  CHECK(JUDGE(naming("u", NULL, NULL), everything(empty()), other).verdict == GW_VERDICT_GOOD);
}

static void a_list_of_end_entities_or_cas_counts_for_those_alone(void) {
  gw_cover cover = everything(NULL);
  cover.subjects = GW_USERS_ONLY;
  CHECK(does_count(plain, cover) && !does_count(authority, cover));
  cover.subjects = GW_CAS_ONLY;
  CHECK(!does_count(plain, cover) && does_count(authority, cover));
}

static void a_list_of_another_signer_counts_for_those_that_name_him(void) {
  gw_cover cover = everything(NULL);
  cover.crl_issuer = directory("x");
  CHECK(!does_count(plain, cover) && !does_count(naming_u, cover));
  CHECK(does_count(naming_x, cover) && does_count(naming_u_of_x, cover));
  cover.point = directory("x");
  CHECK(does_count(naming_x, cover) && !does_count(naming_u_of_x, cover));
  cover.point = uri("u");
  CHECK(!does_count(naming_x, cover) && does_count(naming_u_of_x, cover) && !does_count(naming_u, cover));
  cover.crl_issuer = directory("y");
  CHECK(!does_count(naming_u_of_x, cover));
  cover.crl_issuer = 0; /* the issuer's own list of that point, which is not his to sign */
  CHECK(!does_count(naming_u_of_x, cover));
}

static gw_cover for_reasons(uint32_t reasons, gw_table *table) {
  gw_cover cover = everything(table);
  cover.reasons = reasons;
  return cover;
}

static void lists_of_some_reasons_cover_together(void) {
  CHECK(JUDGE(plain(), for_reasons(KEY_COMPROMISE, empty())).verdict == GW_VERDICT_NO_LIST);
  CHECK(JUDGE(plain(), for_reasons(THE_OTHERS, empty())).verdict == GW_VERDICT_NO_LIST);
  gw_verdict both = JUDGE(plain(), for_reasons(KEY_COMPROMISE, empty()), for_reasons(THE_OTHERS, empty()));
  CHECK(both.verdict == GW_VERDICT_GOOD);
  both = JUDGE(plain(), for_reasons(THE_OTHERS, empty()), for_reasons(THE_OTHERS, empty()));
  CHECK(both.verdict == GW_VERDICT_NO_LIST);
  CHECK(JUDGE(plain(), for_reasons(KEY_COMPROMISE, revoking())).verdict == GW_VERDICT_REVOKED);
}

/* Each for itself: what the list is for, and what the point that names it is for. */
static void a_point_limits_the_reasons_of_the_lists_that_it_names(void) {
  static const char ONE[] = "\x06\x40", OTHERS[] = "\x00\x3f", NONE[] = "\x07\x00";
  gw_cover of_point = everything(empty());
  of_point.point = uri("u");
  CHECK(JUDGE(naming("u", ONE, NULL), of_point).verdict == GW_VERDICT_NO_LIST);
  gw_cover rest = for_reasons(THE_OTHERS, empty());
  of_point.table = empty();
  CHECK(JUDGE(naming("u", ONE, NULL), of_point, rest).verdict == GW_VERDICT_GOOD);
  of_point.table = empty();
  rest.table = empty();
  CHECK(JUDGE(naming("u", OTHERS, NULL), of_point, rest).verdict == GW_VERDICT_NO_LIST);
  of_point.table = revoking();
  CHECK(JUDGE(naming("u", ONE, NULL), of_point).verdict == GW_VERDICT_REVOKED);
  of_point.table = revoking(); /* a point for no reason names no list */
  CHECK(JUDGE(naming("u", NONE, NULL), of_point).verdict == GW_VERDICT_NO_LIST);
  of_point.table = revoking();
  of_point.reasons = THE_OTHERS; /* nor does one for other reasons than the list has */
  CHECK(JUDGE(naming("u", ONE, NULL), of_point).verdict == GW_VERDICT_NO_LIST);
}

static void what_has_no_reasons_revokes_and_covers_nothing(void) {
  CHECK(JUDGE(plain(), for_reasons(0, empty())).verdict == GW_VERDICT_NO_LIST);
  CHECK(JUDGE(plain(), for_reasons(0, revoking())).verdict == GW_VERDICT_REVOKED);
  CHECK(JUDGE(authority(), everything(empty()), for_reasons(0, revoking())).verdict == GW_VERDICT_REVOKED);
  CHECK(JUDGE(naming("u", NULL, "x"), for_reasons(0, revoking()), everything(empty())).verdict == GW_VERDICT_REVOKED);
  gw_cover ended = for_reasons(0, empty());
  ended.next_update = NOW - 1;
  CHECK(JUDGE(plain(), ended).verdict == GW_VERDICT_NO_LIST);
}

/* What a delta has of the serial, what its base has, and what follows. */
static void what_a_delta_says_goes_before_its_base(void) {
  static const struct {
    int base, delta, verdict, reason;
  } CASES[] = {{NOTHING, NOTHING, GW_VERDICT_GOOD, -1}, {NOTHING, 1, GW_VERDICT_REVOKED, 1},
               {6, NOTHING, GW_VERDICT_REVOKED, 6},     {6, REMOVED, GW_VERDICT_GOOD, -1},
               {6, 1, GW_VERDICT_REVOKED, 1},           {NOTHING, REMOVED, GW_VERDICT_GOOD, -1}};
  for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
    gw_cover cover = everything(table_of(5, CASES[i].base));
    cover.delta = table_of(5, CASES[i].delta);
    gw_verdict verdict = judge_of(plain(), &cover, 1);
    CHECK(verdict.verdict == CASES[i].verdict && verdict.entry.reason == CASES[i].reason);
    CHECK((verdict.entry.revocation_date == 0) == (verdict.verdict == GW_VERDICT_GOOD));
  }
  gw_cover cover = everything(revoking()); /* of another serial */
  cover.delta = table_of(6, REMOVED);
  CHECK(judge_of(plain(), &cover, 1).verdict == GW_VERDICT_REVOKED);
}

static void what_one_list_takes_back_another_still_revokes(void) {
  for (int swapped = 0; swapped < 2; swapped++) {
    gw_cover covers[] = {everything(revoking()), everything(revoking())};
    covers[swapped].delta = table_of(5, REMOVED);
    CHECK(judge_of(plain(), covers, 2).verdict == GW_VERDICT_REVOKED);
  }
}

static void what_is_missing_of_the_reasons_says_whether_it_is_stale(void) {
  gw_cover fresh = for_reasons(KEY_COMPROMISE, empty()), ended = for_reasons(THE_OTHERS, empty());
  ended.next_update = NOW - 7;
  gw_verdict verdict = JUDGE(plain(), fresh, ended);
  CHECK(verdict.verdict == GW_VERDICT_STALE && verdict.next_update == NOW - 7);
  ended.table = empty();
  CHECK(JUDGE(plain(), ended).verdict == GW_VERDICT_NO_LIST); /* a reason that no list has */
  ended.table = revoking();
  CHECK(JUDGE(plain(), ended).verdict == GW_VERDICT_REVOKED);
  gw_cover earlier = for_reasons(KEY_COMPROMISE, empty());
  earlier.next_update = NOW - 9;
  ended.table = empty();
  verdict = JUDGE(plain(), earlier, ended);
  CHECK(verdict.verdict == GW_VERDICT_STALE && verdict.next_update == NOW - 7);
  earlier.table = empty();
  ended.table = empty();
  fresh = everything(empty());
  CHECK(JUDGE(plain(), earlier, ended, fresh).verdict == GW_VERDICT_GOOD);
}

/* An expired list of certificates of another kind says nothing of this one, not even that it has ended. */
static void only_a_list_that_would_count_makes_it_stale(void) {
  gw_cover ended = everything(empty());
  ended.next_update = NOW - 7;
  ended.subjects = GW_CAS_ONLY;
  CHECK(JUDGE(plain(), ended).verdict == GW_VERDICT_NO_LIST);
  ended.table = empty();
  ended.next_update = NOW - 3;
  gw_cover own = everything(empty());
  own.next_update = NOW - 7;
  CHECK(JUDGE(plain(), ended, own).next_update == NOW - 7);
}

static void a_list_that_is_not_in_force_yet_revokes_and_does_not_cover(void) {
  gw_cover early = for_reasons(THE_OTHERS, empty());
  early.this_update = NOW + GW_CLOCK_SKEW + 1;
  CHECK(JUDGE(plain(), for_reasons(KEY_COMPROMISE, empty()), early).verdict == GW_VERDICT_NO_LIST);
  early.table = revoking();
  CHECK(JUDGE(plain(), for_reasons(KEY_COMPROMISE, empty()), early).verdict == GW_VERDICT_REVOKED);
  early.table = empty();
  early.this_update--;
  CHECK(JUDGE(plain(), for_reasons(KEY_COMPROMISE, empty()), early).verdict == GW_VERDICT_GOOD);
}

static void what_is_no_certificate_is_not_judged(void) {
  gw_world *world = gw_world_new(NULL);
  gw_verdict verdict;
  CHECK(world != NULL);
  CHECK(!gw_judge(world, (const uint8_t *)"", 0, &ISSUER, 0, NOW, &verdict));
  bytes extensions = {0}, none = {0};
  points_extension(&extensions, &none);
  bytes certificate = certificate_with(&extensions);
  CHECK(!gw_judge(world, certificate.at, certificate.length, &ISSUER, 0, NOW, &verdict));
  bytes_free(&certificate);
  gw_world_free(world);
}

int main(void) {
  RUN(a_list_without_limits_counts_for_every_certificate_of_its_issuer);
  RUN(a_list_of_a_point_counts_for_those_that_name_it);
  RUN(a_list_of_another_point_changes_nothing);
  RUN(a_list_of_end_entities_or_cas_counts_for_those_alone);
  RUN(a_list_of_another_signer_counts_for_those_that_name_him);
  RUN(lists_of_some_reasons_cover_together);
  RUN(a_point_limits_the_reasons_of_the_lists_that_it_names);
  RUN(what_has_no_reasons_revokes_and_covers_nothing);
  RUN(what_a_delta_says_goes_before_its_base);
  RUN(what_one_list_takes_back_another_still_revokes);
  RUN(what_is_missing_of_the_reasons_says_whether_it_is_stale);
  RUN(only_a_list_that_would_count_makes_it_stale);
  RUN(a_list_that_is_not_in_force_yet_revokes_and_does_not_cover);
  RUN(what_is_no_certificate_is_not_judged);
  return 0;
}
