/* Whether a chain may come in, decided without a handshake: OpenSSL only makes the certificates. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "../counters.h"
#include "../verify.h"
#include "check.h"
#include "pki.h"
#include "system_openssl.h"

static const int64_t NOW = 1800000000;

typedef struct {
  identity root, middle, client;
  uint64_t counters[GW_COUNT_TOTAL];
  gw_world *world;
  gw_listener *listener;
  gw_chain *chain; /* client, middle, root, as a full handshake has it */
} stage;

static gw_chain *chain_of(gw_listener *listener, X509 *const *certificates, int count) {
  gw_verification verified = {.listener = listener};
  for (int depth = count; depth-- > 0;) {
    CHECK(gw_chain_extend(&verified, certificates[depth], depth));
  }
  CHECK(verified.chain != NULL);
  return verified.chain;
}

static void open_stage(stage *on, gw_rules rules, const char *client_serial) {
  memset(on, 0, sizeof *on);
  on->root = identity_make("root", "01", NULL, 1);
  on->middle = identity_make("middle", "02", &on->root, 1);
  on->client = identity_make("client", client_serial, &on->middle, 0);
  on->world = gw_world_new(on->counters);
  CHECK(on->world != NULL);
  on->listener = gw_listener_new(on->world, &rules);
  CHECK(on->listener != NULL);
  CHECK(register_ca(on->listener, &on->root, -1) == 0);
  CHECK(register_ca(on->listener, &on->middle, 0) == 1);
  X509 *certificates[] = {on->client.certificate, on->middle.certificate, on->root.certificate};
  on->chain = chain_of(on->listener, certificates, 3);
}

static void close_stage(stage *on) {
  gw_chain_free(on->chain);
  gw_listener_free(on->listener);
  gw_world_free(on->world);
  identity_free(&on->client);
  identity_free(&on->middle);
  identity_free(&on->root);
}

static const gw_rules WHOLE_CHAIN = {.check = GW_CHECK_CHAIN, .on_unavailable = GW_UNAVAILABLE_REJECT};

static gw_table *fresh(const identity *issuer, const char *const *serials) {
  return table_make(issuer, serials, NOW - 60, NOW + 3600);
}

static gw_verdict judge_at(stage *on, const gw_chain *chain, int64_t now) {
  gw_snapshot *snapshot = gw_world_snapshot(on->world);
  gw_verdict verdict;
  int let_in = gw_chain_judge(on->listener, snapshot, chain, now, &verdict);
  CHECK(let_in == verdict.let_in);
  gw_snapshot_free(snapshot);
  return verdict;
}

static gw_verdict judge(stage *on) { return judge_at(on, on->chain, NOW); }

static gw_issuer issuer_of(const char *name, const char *key) {
  return (gw_issuer){(const uint8_t *)name, strlen(name), (const uint8_t *)key, strlen(key)};
}

static void an_issuer_is_its_name_and_its_key(void) {
  static const char *const NAMES[] = {"a", "b", "a", "b", "a", "ab", "abc"};
  static const char *const KEYS[] = {"b", "a", "a", "b", "ab", "a", "a"};
  enum { COUNT = sizeof NAMES / sizeof *NAMES };
  for (int i = 0; i < COUNT; i++) {
    char name[4], key[4]; /* the octets decide, wherever they are */
    CHECK(strcpy(name, NAMES[i]) == name && strcpy(key, KEYS[i]) == key);
    gw_issuer one = issuer_of(name, key);
    for (int j = 0; j < COUNT; j++) {
      gw_issuer other = issuer_of(NAMES[j], KEYS[j]);
      int order = gw_issuer_compare(&one, &other), reversed = gw_issuer_compare(&other, &one);
      CHECK((order == 0) == (i == j) && (order < 0) == (reversed > 0));
    }
  }
}

static void of_many_covers_those_of_the_issuer_and_the_point_are_found(void) {
  enum { COUNT = 12 };
  gw_world *world = gw_world_new(NULL);
  CHECK(world != NULL);
  identity issuers[COUNT / 2];
  gw_cover covers[COUNT];
  for (int i = 0; i < COUNT; i++) {
    const char name[] = {(char)('a' + i / 6), '\0'}; /* three of each name, each with a key of its own and two points */
    if (i % 2 == 0) {
      issuers[i / 2] = identity_make(name, "01", NULL, 1);
    }
    covers[i] = cover_of(fresh(&issuers[i / 2], NO_SERIALS));
    covers[i].point = i % 2 == 0 ? 0 : UINT64_MAX - (uint64_t)i;
  }
  gw_error error;
  for (size_t published = 0; published <= COUNT; published++) {
    CHECK(gw_world_publish(world, covers, published, &error));
    gw_snapshot *snapshot = gw_world_snapshot(world);
    for (size_t i = 0; i < COUNT; i++) {
      size_t count;
      const gw_cover *found = gw_snapshot_covers(snapshot, &covers[i].issuer, covers[i].point, &count);
      CHECK(count == (i < published) && (count == 0 || found->table == covers[i].table));
      (void)gw_snapshot_covers(snapshot, &covers[i].issuer, 7, &count);
      CHECK(count == 0);
    }
    gw_snapshot_free(snapshot);
  }
  for (int i = 0; i < COUNT; i++) {
    gw_table_free(covers[i].table);
    if (i % 2 == 0) {
      identity_free(&issuers[i / 2]);
    }
  }
  gw_world_free(world);
}

static void a_chain_covered_by_fresh_lists_is_good(void) {
  stage on;
  open_stage(&on, WHOLE_CHAIN, "10");
  PUBLISH(on.world, fresh(&on.root, NO_SERIALS), fresh(&on.middle, SERIALS("0F", "11", "1000")));
  gw_verdict verdict = judge(&on);
  CHECK(verdict.verdict == GW_VERDICT_GOOD && verdict.let_in == 1 && verdict.error_code == 0);
  CHECK(on.counters[GW_COUNT_LOOKUPS] == 2);
  close_stage(&on);
}

/* Serials as CAs have really issued them: top bit set, negative, zero, longer than 20 octets. */
static void any_serial_that_x509_can_hold_is_found(void) {
  static const char *const SERIALS_TO_FIND[] = {
      "00", "01", "7F", "80", "FF", "0100", "8000000000000000", "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF",
      "-01", "-7F", "-80", "-81", "-FF", "-0100", "-8000", "-8001",
      "0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF"};
  for (size_t i = 0; i < sizeof SERIALS_TO_FIND / sizeof *SERIALS_TO_FIND; i++) {
    stage on;
    open_stage(&on, WHOLE_CHAIN, SERIALS_TO_FIND[i]);
    PUBLISH(on.world, fresh(&on.root, NO_SERIALS), fresh(&on.middle, SERIALS(SERIALS_TO_FIND[i])));
    gw_verdict verdict = judge(&on);
    CHECK(verdict.verdict == GW_VERDICT_REVOKED && verdict.depth == 0 && verdict.let_in == 0);
    gw_chain *resumed = gw_chain_from_leaf(on.listener, on.client.certificate);
    CHECK(resumed != NULL && judge_at(&on, resumed, NOW).verdict == GW_VERDICT_REVOKED);
    gw_chain_free(resumed);
    close_stage(&on);
  }
}

/* The same octets with the other sign are another number. */
static void a_serial_is_not_taken_for_its_negative(void) {
  stage on;
  open_stage(&on, WHOLE_CHAIN, "80");
  PUBLISH(on.world, fresh(&on.root, NO_SERIALS), fresh(&on.middle, SERIALS("-80")));
  CHECK(judge(&on).verdict == GW_VERDICT_GOOD);
  close_stage(&on);
}

static void a_revoked_intermediate_refuses_only_where_the_chain_is_checked(void) {
  gw_rules rules = WHOLE_CHAIN;
  for (int check = GW_CHECK_LEAF; check <= GW_CHECK_CHAIN; check++) {
    stage on;
    rules.check = check;
    open_stage(&on, rules, "10");
    PUBLISH(on.world, fresh(&on.root, SERIALS("02")), fresh(&on.middle, NO_SERIALS));
    gw_chain *resumed = gw_chain_from_leaf(on.listener, on.client.certificate);
    CHECK(resumed != NULL);
    for (int i = 0; i < 2; i++) {
      gw_verdict verdict = judge_at(&on, i == 0 ? on.chain : resumed, NOW);
      CHECK(verdict.verdict == (check == GW_CHECK_CHAIN ? GW_VERDICT_REVOKED : GW_VERDICT_GOOD));
      CHECK(verdict.depth == (check == GW_CHECK_CHAIN ? 1 : 0));
    }
    gw_chain_free(resumed);
    close_stage(&on);
  }
}

static void what_no_list_covers_is_let_in_by_policy_alone(void) {
  static const int EXPECTED[] = {[GW_UNAVAILABLE_REJECT] = 0, [GW_UNAVAILABLE_ACCEPT] = 1, [GW_UNAVAILABLE_WAIT] = 1};
  gw_rules rules = WHOLE_CHAIN;
  for (int policy = GW_UNAVAILABLE_REJECT; policy <= GW_UNAVAILABLE_WAIT; policy++) {
    stage on;
    rules.on_unavailable = policy;
    open_stage(&on, rules, "10");
    PUBLISH(on.world, fresh(&on.middle, NO_SERIALS)); /* nothing of the root */
    gw_verdict verdict = judge(&on);
    CHECK(verdict.verdict == GW_VERDICT_NO_LIST && verdict.depth == 1 && verdict.let_in == EXPECTED[policy]);
    CHECK(verdict.error_code == X509_V_ERR_UNABLE_TO_GET_CRL);
    close_stage(&on);
  }
}

static void revoked_wins_over_every_policy_and_every_gap(void) {
  gw_rules rules = WHOLE_CHAIN;
  for (int policy = GW_UNAVAILABLE_REJECT; policy <= GW_UNAVAILABLE_WAIT; policy++) {
    stage on;
    rules.on_unavailable = policy;
    open_stage(&on, rules, "10");
    PUBLISH(on.world, fresh(&on.root, SERIALS("02"))); /* the leaf is not covered, its issuer is revoked */
    gw_verdict verdict = judge(&on);
    CHECK(verdict.verdict == GW_VERDICT_REVOKED && verdict.depth == 1 && verdict.let_in == 0);
    CHECK(verdict.error_code == X509_V_ERR_CERT_REVOKED && verdict.entry.reason == -1);
    CHECK(verdict.entry.revocation_date > 0);
    close_stage(&on);
  }
}

static void an_expired_list_revokes_but_does_not_cover(void) {
  stage on;
  open_stage(&on, WHOLE_CHAIN, "10");
  PUBLISH(on.world, fresh(&on.root, NO_SERIALS), table_make(&on.middle, SERIALS("11"), NOW - 60, NOW - 1));
  gw_verdict verdict = judge(&on);
  CHECK(verdict.verdict == GW_VERDICT_STALE && verdict.let_in == 0 && verdict.next_update == NOW - 1);
  CHECK(verdict.error_code == X509_V_ERR_CRL_HAS_EXPIRED);
  PUBLISH(on.world, fresh(&on.root, NO_SERIALS), table_make(&on.middle, SERIALS("10"), NOW - 60, NOW - 1));
  CHECK(judge(&on).verdict == GW_VERDICT_REVOKED);
  close_stage(&on);
}

static void a_list_counts_until_its_grace_has_passed(void) {
  gw_rules rules = WHOLE_CHAIN;
  rules.grace = 100;
  stage on;
  open_stage(&on, rules, "10");
  PUBLISH(on.world, table_make(&on.root, NO_SERIALS, NOW - 60, NOW), table_make(&on.middle, NO_SERIALS, NOW - 60, NOW));
  CHECK(judge_at(&on, on.chain, NOW).verdict == GW_VERDICT_GOOD);
  CHECK(judge_at(&on, on.chain, NOW + 100).verdict == GW_VERDICT_GOOD);
  CHECK(judge_at(&on, on.chain, NOW + 101).verdict == GW_VERDICT_STALE);
  close_stage(&on);
}

static void a_list_without_next_update_does_not_expire(void) {
  stage on;
  open_stage(&on, WHOLE_CHAIN, "10");
  PUBLISH(on.world, table_make(&on.root, NO_SERIALS, NOW, 0), table_make(&on.middle, NO_SERIALS, NOW, 0));
  CHECK(judge_at(&on, on.chain, NOW + 1000000000).verdict == GW_VERDICT_GOOD);
  close_stage(&on);
}

static void a_list_from_the_future_covers_nothing_yet(void) {
  stage on;
  open_stage(&on, WHOLE_CHAIN, "10");
  int64_t next = NOW + 100000;
  PUBLISH(on.world, fresh(&on.root, NO_SERIALS), table_make(&on.middle, NO_SERIALS, NOW + GW_CLOCK_SKEW, next));
  CHECK(judge(&on).verdict == GW_VERDICT_GOOD);
  CHECK(judge_at(&on, on.chain, NOW - 1).verdict == GW_VERDICT_NO_LIST);
  PUBLISH(on.world, fresh(&on.root, NO_SERIALS), table_make(&on.middle, SERIALS("10"), NOW + 90000, next));
  CHECK(judge(&on).verdict == GW_VERDICT_REVOKED);
  close_stage(&on);
}

static void a_list_of_another_key_of_the_same_name_does_not_count(void) {
  stage on;
  open_stage(&on, WHOLE_CHAIN, "10");
  identity namesake = identity_make("middle", "02", &on.root, 1);
  PUBLISH(on.world, fresh(&on.root, NO_SERIALS), fresh(&namesake, NO_SERIALS));
  CHECK(judge(&on).verdict == GW_VERDICT_NO_LIST);
  PUBLISH(on.world, fresh(&on.root, NO_SERIALS), fresh(&namesake, SERIALS("10")), fresh(&on.middle, NO_SERIALS));
  CHECK(judge(&on).verdict == GW_VERDICT_GOOD);
  identity_free(&namesake);
  close_stage(&on);
}

/* Which of two lists is out of date is for control to say: here each of them counts. */
static void what_any_of_two_lists_revokes_is_revoked(void) {
  stage on;
  open_stage(&on, WHOLE_CHAIN, "10");
  for (int swapped = 0; swapped < 2; swapped++) {
    gw_table *without = table_make(&on.middle, NO_SERIALS, NOW - 50, NOW + 3600);
    gw_table *with = table_make(&on.middle, SERIALS("10"), NOW - 100, NOW + 3600);
    PUBLISH(on.world, swapped ? with : without, fresh(&on.root, NO_SERIALS), swapped ? without : with);
    CHECK(judge(&on).verdict == GW_VERDICT_REVOKED);
  }
  close_stage(&on);
}

static void publishing_nothing_leaves_nothing_covered(void) {
  stage on;
  open_stage(&on, WHOLE_CHAIN, "10");
  PUBLISH(on.world, fresh(&on.root, NO_SERIALS), fresh(&on.middle, NO_SERIALS));
  gw_snapshot *before = gw_world_snapshot(on.world);
  publish(on.world, 0, NULL);
  CHECK(judge(&on).verdict == GW_VERDICT_NO_LIST);
  gw_verdict verdict; /* who holds the old snapshot goes on with it */
  CHECK(gw_chain_judge(on.listener, before, on.chain, NOW, &verdict) == 1 && verdict.verdict == GW_VERDICT_GOOD);
  gw_snapshot_free(before);
  close_stage(&on);
}

/* The intermediate is none of the listener's: its identity is read from the certificate. */
static void an_intermediate_that_the_client_sent_is_looked_up_by_its_key(void) {
  stage on;
  open_stage(&on, WHOLE_CHAIN, "10");
  identity sent = identity_make("sent", "03", &on.root, 1), below = identity_make("below", "20", &sent, 0);
  X509 *certificates[] = {below.certificate, sent.certificate, on.root.certificate};
  gw_chain *chain = chain_of(on.listener, certificates, 3);
  PUBLISH(on.world, fresh(&on.root, NO_SERIALS), fresh(&sent, SERIALS("20")));
  CHECK(judge_at(&on, chain, NOW).verdict == GW_VERDICT_REVOKED);
  gw_chain_free(chain);
  chain = gw_chain_from_leaf(on.listener, below.certificate); /* resumed: who issued it is not known any more */
  CHECK(chain != NULL && judge_at(&on, chain, NOW).verdict == GW_VERDICT_NO_LIST);
  gw_chain_free(chain);
  identity_free(&below);
  identity_free(&sent);
  close_stage(&on);
}

static void a_client_that_is_its_own_trust_anchor_is_not_looked_up(void) {
  stage on;
  open_stage(&on, WHOLE_CHAIN, "10");
  X509 *certificates[] = {on.root.certificate};
  gw_chain *chain = chain_of(on.listener, certificates, 1);
  CHECK(judge_at(&on, chain, NOW).verdict == GW_VERDICT_GOOD && on.counters[GW_COUNT_LOOKUPS] == 0);
  gw_chain_free(chain);
  chain = gw_chain_from_leaf(on.listener, on.root.certificate); /* likewise when it resumes a session */
  CHECK(chain != NULL && judge_at(&on, chain, NOW).verdict == GW_VERDICT_GOOD);
  gw_chain_free(chain);
  close_stage(&on);
}

/* OpenSSL takes names for the same that are the same text (RFC 5280, section 7.1): a resumed client must not get past
 * its CA's list because of the string type that its certificate writes the CA's name in. */
static void a_resumed_client_finds_its_ca_however_its_name_is_encoded(void) {
  stage on;
  open_stage(&on, WHOLE_CHAIN, "10");
  X509_NAME *name = X509_NAME_new();
  CHECK(name != NULL);
  CHECK(X509_NAME_add_entry_by_txt(name, "CN", V_ASN1_PRINTABLESTRING, (const unsigned char *)"Middle", -1, -1, 0) == 1);
  CHECK(X509_set_issuer_name(on.client.certificate, name) == 1);
  X509_NAME_free(name);
  CHECK(X509_sign(on.client.certificate, on.middle.key, EVP_sha256()) > 0);
  PUBLISH(on.world, fresh(&on.root, NO_SERIALS), fresh(&on.middle, SERIALS("10")));
  gw_chain *resumed = gw_chain_from_leaf(on.listener, on.client.certificate);
  CHECK(resumed != NULL && judge_at(&on, resumed, NOW).verdict == GW_VERDICT_REVOKED);
  gw_chain_free(resumed);
  close_stage(&on);
}

/* Nobody stands above an anchor; what only looks like one is looked up. */
static void a_namesake_of_an_anchor_is_none(void) {
  stage on;
  open_stage(&on, WHOLE_CHAIN, "10");
  identity namesake = identity_make("root", "07", &on.root, 0);
  PUBLISH(on.world, fresh(&on.root, SERIALS("07")), fresh(&on.middle, NO_SERIALS));
  X509 *certificates[] = {namesake.certificate, on.root.certificate};
  gw_chain *chains[] = {chain_of(on.listener, certificates, 2), gw_chain_from_leaf(on.listener, namesake.certificate)};
  for (int i = 0; i < 2; i++) {
    CHECK(chains[i] != NULL && judge_at(&on, chains[i], NOW).verdict == GW_VERDICT_REVOKED);
    gw_chain_free(chains[i]);
  }
  identity_free(&namesake);
  close_stage(&on);
}

/* A chain cut short would lack the very CA whose list has the client. */
static void a_resumed_client_of_more_cas_than_a_chain_holds_has_no_chain(void) {
  stage on;
  open_stage(&on, WHOLE_CHAIN, "10");
  for (int i = 0; i < 130; i++) {
    CHECK(register_ca(on.listener, &on.middle, 0) >= 0);
  }
  CHECK(gw_chain_from_leaf(on.listener, on.client.certificate) == NULL);
  close_stage(&on);
}

static void cas_that_name_each_other_as_parents_make_no_chain(void) {
  stage on;
  open_stage(&on, WHOLE_CHAIN, "10");
  identity ring = identity_make("ring", "06", &on.root, 1);
  CHECK(register_ca(on.listener, &ring, 2) == 2);
  identity below = identity_make("below", "11", &ring, 0);
  CHECK(gw_chain_from_leaf(on.listener, below.certificate) == NULL);
  identity_free(&below);
  identity_free(&ring);
  close_stage(&on);
}

static void after_a_key_rollover_every_key_of_the_name_has_to_agree(void) {
  stage on;
  open_stage(&on, WHOLE_CHAIN, "10");
  identity newer = identity_make("middle", "05", &on.root, 1);
  CHECK(register_ca(on.listener, &newer, 0) == 2);
  gw_chain *resumed = gw_chain_from_leaf(on.listener, on.client.certificate);
  CHECK(resumed != NULL);
  PUBLISH(on.world, fresh(&on.root, NO_SERIALS), fresh(&on.middle, NO_SERIALS));
  CHECK(judge_at(&on, resumed, NOW).verdict == GW_VERDICT_NO_LIST);
  PUBLISH(on.world, fresh(&on.root, NO_SERIALS), fresh(&on.middle, NO_SERIALS), fresh(&newer, NO_SERIALS));
  CHECK(judge_at(&on, resumed, NOW).verdict == GW_VERDICT_GOOD);
  PUBLISH(on.world, fresh(&on.root, NO_SERIALS), fresh(&on.middle, NO_SERIALS), fresh(&newer, SERIALS("10")));
  CHECK(judge_at(&on, resumed, NOW).verdict == GW_VERDICT_REVOKED);
  gw_chain_free(resumed);
  identity_free(&newer);
  close_stage(&on);
}

typedef struct {
  stage on;
  atomic_int done;
} contest;

static void *look_up_until_done(void *argument) {
  contest *between = argument;
  while (!atomic_load(&between->done)) {
    gw_verdict verdict = judge(&between->on);
    CHECK(verdict.verdict == GW_VERDICT_GOOD || verdict.verdict == GW_VERDICT_REVOKED);
    (void)sched_yield(); /* as in test_staple.c: valgrind */
  }
  return NULL;
}

/* Run under TSan: whoever looks up sees one of the two states, whole, and no table is unmapped under it. */
static void tables_are_swapped_under_running_lookups(void) {
  contest between;
  open_stage(&between.on, WHOLE_CHAIN, "10");
  atomic_init(&between.done, 0);
  gw_table *root = fresh(&between.on.root, NO_SERIALS);
  gw_cover first[] = {cover_of(root), cover_of(fresh(&between.on.middle, NO_SERIALS))};
  gw_cover second[] = {cover_of(root), cover_of(fresh(&between.on.middle, SERIALS("10")))};
  gw_error error;
  CHECK(gw_world_publish(between.on.world, first, 2, &error));
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) {
    CHECK(pthread_create(&threads[i], NULL, look_up_until_done, &between) == 0);
  }
  for (int i = 0; i < 500; i++) {
    CHECK(gw_world_publish(between.on.world, i % 2 == 0 ? second : first, 2, &error));
  }
  gw_table_free(first[1].table);
  gw_table_free(second[1].table);
  gw_table_free(root);
  atomic_store(&between.done, 1);
  for (int i = 0; i < 2; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
  }
  CHECK(judge(&between.on).verdict == GW_VERDICT_GOOD); /* the world keeps its own references */
  close_stage(&between.on);
}

int main(void) {
  use_system_openssl();
  RUN(an_issuer_is_its_name_and_its_key);
  RUN(of_many_covers_those_of_the_issuer_and_the_point_are_found);
  RUN(a_chain_covered_by_fresh_lists_is_good);
  RUN(any_serial_that_x509_can_hold_is_found);
  RUN(a_serial_is_not_taken_for_its_negative);
  RUN(a_revoked_intermediate_refuses_only_where_the_chain_is_checked);
  RUN(what_no_list_covers_is_let_in_by_policy_alone);
  RUN(revoked_wins_over_every_policy_and_every_gap);
  RUN(an_expired_list_revokes_but_does_not_cover);
  RUN(a_list_counts_until_its_grace_has_passed);
  RUN(a_list_without_next_update_does_not_expire);
  RUN(a_list_from_the_future_covers_nothing_yet);
  RUN(a_list_of_another_key_of_the_same_name_does_not_count);
  RUN(what_any_of_two_lists_revokes_is_revoked);
  RUN(publishing_nothing_leaves_nothing_covered);
  RUN(an_intermediate_that_the_client_sent_is_looked_up_by_its_key);
  RUN(a_client_that_is_its_own_trust_anchor_is_not_looked_up);
  RUN(a_resumed_client_finds_its_ca_however_its_name_is_encoded);
  RUN(a_namesake_of_an_anchor_is_none);
  RUN(a_resumed_client_of_more_cas_than_a_chain_holds_has_no_chain);
  RUN(cas_that_name_each_other_as_parents_make_no_chain);
  RUN(after_a_key_rollover_every_key_of_the_name_has_to_agree);
  RUN(tables_are_swapped_under_running_lookups);
  return 0;
}
