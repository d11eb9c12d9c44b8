/* test_answers.c - what responders said: found in a table that another process may be writing, and what follows from it
 * for a chain. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../answers.h"
#include "../counters.h"
#include "../verify.h"
#include "check.h"
#include "pki.h"
#include "system_openssl.h"

enum { BUCKETS = 4, ROUNDS = 20000 };

static const int64_t NOW = 1800000000;

static gw_answers *answers_new(void) {
  size_t slots = BUCKETS * GW_ANSWERS_IN_BUCKET;
  gw_answers *made = calloc(1, sizeof *made + slots * sizeof *made->slots);
  CHECK(made != NULL);
  made->seeds[0] = 1;
  made->seeds[1] = 2;
  made->buckets = BUCKETS;
  return made;
}

/* put does what gateway/native/answers.py does, into slot |way| of the bucket. */
static void put(gw_answers *answers, const gw_issuer *issuer, const char *serial, int way, int status, int64_t ends,
                int64_t due) {
  uint64_t words[GW_ANSWER_WORDS] = {0};
  uint64_t *slot = answers->slots[gw_answers_home(answers, issuer, (const uint8_t *)serial, strlen(serial), words)];
  slot += way * GW_ANSWER_WORDS;
  words[GW_ANSWER_STATUS] = (uint64_t)status | (1 + 1) << 8 | (uint64_t)NOW << 16;
  words[GW_ANSWER_DATE] = (uint64_t)(status - NOW);
  words[GW_ANSWER_ENDS] = (uint64_t)ends;
  words[GW_ANSWER_DUE] = (uint64_t)due;
  words[GW_ANSWER_ROUND] = answers->round;
  words[GW_ANSWER_SEAL] = gw_answer_seal(words);
  for (int i = 0; i < GW_ANSWER_WORDS; i++) {
    __atomic_store_n(&slot[i], words[i], __ATOMIC_RELAXED);
  }
}

static gw_issuer issuer_of(const char *name, const char *key) {
  return (gw_issuer){(const uint8_t *)name, strlen(name), (const uint8_t *)key, strlen(key)};
}

static int status_of(const gw_answers *answers, const gw_issuer *issuer, const char *serial, int due) {
  gw_answer answer;
  CHECK(gw_answers_find(answers, issuer, (const uint8_t *)serial, strlen(serial), NOW, &answer) == due);
  return answer.status;
}

static void an_answer_is_found_in_any_slot_of_its_bucket(void) {
  gw_answers *answers = answers_new();
  gw_issuer issuer = issuer_of("name", "key");
  for (int way = 0; way < GW_ANSWERS_IN_BUCKET; way++) {
    char serial[] = {(char)('a' + way), '\0'};
    CHECK(status_of(answers, &issuer, serial, 1) == GW_ANSWER_MISSING);
    put(answers, &issuer, serial, way, GW_ANSWER_GOOD, NOW + 1, NOW + 1);
    CHECK(status_of(answers, &issuer, serial, 0) == GW_ANSWER_GOOD);
  }
  free(answers);
}

static void it_is_of_the_name_the_key_and_the_serial(void) {
  gw_answers *answers = answers_new();
  gw_issuer issuer = issuer_of("name", "key"), name = issuer_of("nam", "ekey"), key = issuer_of("name", "kez");
  put(answers, &issuer, "s", 0, GW_ANSWER_GOOD, NOW + 1, NOW + 1);
  CHECK(status_of(answers, &issuer, "s", 0) == GW_ANSWER_GOOD);
  CHECK(status_of(answers, &issuer, "t", 1) == GW_ANSWER_MISSING);
  CHECK(status_of(answers, &name, "s", 1) == GW_ANSWER_MISSING);
  CHECK(status_of(answers, &key, "s", 1) == GW_ANSWER_MISSING);
  gw_answer answer; /* redundant leading octets do not matter */
  CHECK(gw_answers_find(answers, &issuer, (const uint8_t *)"\0s", 2, NOW, &answer) == 0);
  CHECK(answer.status == GW_ANSWER_GOOD && answer.entry.reason == 1);
  CHECK(answer.entry.revocation_date == GW_ANSWER_GOOD - NOW);
  free(answers);
}

static void it_counts_until_it_ends_and_is_due_before(void) {
  gw_answers *answers = answers_new();
  gw_issuer issuer = issuer_of("name", "key");
  put(answers, &issuer, "s", 0, GW_ANSWER_REVOKED, NOW, NOW);
  CHECK(status_of(answers, &issuer, "s", 1) == GW_ANSWER_MISSING);
  put(answers, &issuer, "s", 0, GW_ANSWER_REVOKED, NOW + 1, NOW);
  CHECK(status_of(answers, &issuer, "s", 1) == GW_ANSWER_REVOKED);
  put(answers, &issuer, "s", 0, GW_ANSWER_REVOKED, NOW + 1, NOW + 1);
  CHECK(status_of(answers, &issuer, "s", 0) == GW_ANSWER_REVOKED);
  answers->round++;
  CHECK(status_of(answers, &issuer, "s", 1) == GW_ANSWER_REVOKED);
  free(answers);
}

static void what_is_half_written_is_not_there(void) {
  gw_answers *answers = answers_new();
  gw_issuer issuer = issuer_of("name", "key");
  uint64_t key[2];
  put(answers, &issuer, "s", 0, GW_ANSWER_GOOD, NOW + 1, NOW + 1);
  uint64_t *slot = answers->slots[gw_answers_home(answers, &issuer, (const uint8_t *)"s", 1, key)];
  for (int i = 0; i < GW_ANSWER_WORDS; i++) {
    slot[i] ^= 1;
    CHECK(status_of(answers, &issuer, "s", 1) == GW_ANSWER_MISSING);
    slot[i] ^= 1;
  }
  CHECK(status_of(answers, &issuer, "s", 0) == GW_ANSWER_GOOD);
  free(answers);
}

typedef struct {
  gw_answers *answers;
  gw_issuer issuer;
  atomic_int over;
} writing;

static void *keep_writing(void *argument) {
  writing *with = argument;
  for (int i = 0; i < ROUNDS; i++) {
    int status = i % 2 == 0 ? GW_ANSWER_GOOD : GW_ANSWER_REVOKED;
    put(with->answers, &with->issuer, "s", 0, status, NOW + status, NOW + status);
  }
  atomic_store(&with->over, 1);
  return NULL;
}

static void who_reads_while_another_writes_finds_one_answer_or_none(void) {
  writing with = {.answers = answers_new(), .issuer = issuer_of("name", "key")};
  pthread_t writer;
  CHECK(pthread_create(&writer, NULL, keep_writing, &with) == 0);
  while (!atomic_load(&with.over)) {
    gw_answer answer;
    (void)gw_answers_find(with.answers, &with.issuer, (const uint8_t *)"s", 1, NOW, &answer);
    CHECK(answer.status == GW_ANSWER_MISSING || answer.entry.revocation_date == answer.status - NOW);
  }
  CHECK(pthread_join(writer, NULL) == 0);
  free(with.answers);
}

/* --- chains --- */

typedef struct {
  identity root, client;
  uint64_t counters[GW_COUNT_TOTAL];
  gw_answers *answers;
  gw_world *world;
  gw_listener *listener;
  gw_chain *chain;
} stage;

static void open_stage(stage *on, int require) {
  memset(on, 0, sizeof *on);
  on->answers = answers_new();
  on->root = identity_make("root", "01", NULL, 1);
  on->client = identity_make("client", "10", &on->root, 0);
  on->world = gw_world_new(on->counters);
  const gw_rules rules = {.check = GW_CHECK_CHAIN, .answers = on->answers, .require_answer = require};
  on->listener = gw_listener_new(on->world, &rules);
  CHECK(on->listener != NULL && register_ca(on->listener, &on->root, -1) == 0);
  gw_verification verified = {.listener = on->listener};
  CHECK(gw_chain_extend(&verified, on->root.certificate, 1) && gw_chain_extend(&verified, on->client.certificate, 0));
  on->chain = verified.chain;
}

static void close_stage(stage *on) {
  gw_chain_free(on->chain);
  gw_listener_free(on->listener);
  gw_world_free(on->world);
  identity_free(&on->client);
  identity_free(&on->root);
  free(on->answers);
}

static void answer_for(stage *on, const identity *by, const char *serial, int status, int64_t due) {
  unsigned char *name = NULL, *key = NULL;
  size_t name_length = (size_t)i2d_X509_NAME(X509_get_subject_name(by->certificate), &name);
  size_t key_length = (size_t)i2d_PUBKEY(by->key, &key);
  gw_issuer issuer = {name, name_length, key, key_length};
  put(on->answers, &issuer, serial, serial[0] % GW_ANSWERS_IN_BUCKET, status, NOW + 10, due);
  OPENSSL_free(name);
  OPENSSL_free(key);
}

static void answer(stage *on, int status, int64_t due) { answer_for(on, &on->root, "\x10", status, due); }

static gw_verdict judge(stage *on) {
  gw_snapshot *snapshot = gw_world_snapshot(on->world);
  gw_verdict verdict;
  (void)gw_chain_judge(on->listener, snapshot, on->chain, NOW, &verdict);
  gw_snapshot_free(snapshot);
  return verdict;
}

static void with_nothing_known_the_verdict_is_what_is_left_and_open(void) {
  static const int LEFT[][2] = {{GW_VERDICT_NO_LIST, GW_VERDICT_GOOD}, {GW_VERDICT_NO_ANSWER, GW_VERDICT_NO_ANSWER}};
  for (int require = 0; require <= 1; require++) {
    for (int listed = 0; listed <= 1; listed++) {
      stage on;
      open_stage(&on, require);
      if (listed) {
        PUBLISH(on.world, table_make(&on.root, NO_SERIALS, NOW - 60, NOW + 60));
      }
      gw_verdict verdict = judge(&on);
      CHECK(verdict.verdict == LEFT[require][listed] && verdict.ask == GW_ASK_FIRST && gw_verdict_open(&verdict));
      CHECK(verdict.let_in == (verdict.verdict == GW_VERDICT_GOOD));
      gw_verdict_settle(on.listener, &verdict); /* for now, and counted when that is over */
      CHECK(verdict.let_in && on.counters[GW_COUNT_REFUSED_NO_LIST] + on.counters[GW_COUNT_REFUSED_NO_ANSWER] == 0);
      close_stage(&on);
    }
  }
}

static void good_is_good_without_a_list_and_is_asked_for_again_in_time(void) {
  for (int require = 0; require <= 1; require++) {
    stage on;
    open_stage(&on, require);
    for (int64_t due = NOW; due <= NOW + 1; due++) {
      answer(&on, GW_ANSWER_GOOD, due);
      gw_verdict verdict = judge(&on);
      CHECK(verdict.verdict == GW_VERDICT_GOOD && verdict.let_in && !gw_verdict_open(&verdict));
      CHECK(verdict.ask == (due <= NOW ? GW_ASK_LATER : GW_ASK_NOTHING));
    }
    close_stage(&on);
  }
}

static void either_may_revoke(void) {
  stage on;
  open_stage(&on, 0);
  PUBLISH(on.world, table_make(&on.root, NO_SERIALS, NOW - 60, NOW + 60));
  answer(&on, GW_ANSWER_REVOKED, NOW + 10);
  gw_verdict verdict = judge(&on);
  CHECK(verdict.verdict == GW_VERDICT_REVOKED && !verdict.let_in && verdict.error_code == X509_V_ERR_CERT_REVOKED);
  CHECK(verdict.entry.reason == 1 && verdict.entry.revocation_date == GW_ANSWER_REVOKED - NOW);
  answer(&on, GW_ANSWER_GOOD, NOW + 10);
  PUBLISH(on.world, table_make(&on.root, SERIALS("10"), NOW - 60, NOW + 60));
  verdict = judge(&on);
  CHECK(verdict.verdict == GW_VERDICT_REVOKED && verdict.ask == GW_ASK_NOTHING);
  close_stage(&on);
}

static void a_request_in_vain_leaves_it_to_the_lists_or_to_nobody(void) {
  for (int status = GW_ANSWER_NONE; status <= GW_ANSWER_UNKNOWN; status++) {
    stage on;
    open_stage(&on, 1);
    PUBLISH(on.world, table_make(&on.root, NO_SERIALS, NOW - 60, NOW + 60));
    answer(&on, status, NOW + 10);
    gw_verdict verdict = judge(&on);
    CHECK(verdict.verdict == GW_VERDICT_NO_ANSWER && verdict.entry.reason == status && !gw_verdict_open(&verdict));
    CHECK(verdict.error_code == X509_V_ERR_OCSP_VERIFY_NEEDED);
    gw_verdict_settle(on.listener, &verdict);
    CHECK(!verdict.let_in && on.counters[GW_COUNT_REFUSED_NO_ANSWER] == 1);
    close_stage(&on);
    open_stage(&on, 0);
    PUBLISH(on.world, table_make(&on.root, NO_SERIALS, NOW - 60, NOW + 60));
    answer(&on, status, NOW + 10);
    CHECK(judge(&on).verdict == GW_VERDICT_GOOD);
    close_stage(&on);
  }
}

static void of_a_chain_the_worst_certificate_decides_and_each_is_asked_about(void) {
  stage on;
  open_stage(&on, 1);
  identity middle = identity_make("middle", "02", &on.root, 1), client = identity_make("client", "11", &middle, 0);
  X509 *certificates[] = {on.root.certificate, middle.certificate, client.certificate};
  gw_verification verified = {.listener = on.listener};
  for (int i = 0; i < 3; i++) {
    CHECK(gw_chain_extend(&verified, certificates[i], 2 - i));
  }
  gw_chain_free(on.chain);
  on.chain = verified.chain;
  gw_verdict verdict = judge(&on);
  CHECK(verdict.verdict == GW_VERDICT_NO_ANSWER && verdict.depth == 0 && gw_verdict_open(&verdict));
  answer_for(&on, &middle, "\x11", GW_ANSWER_GOOD, NOW); /* due, but the CA's is missing */
  verdict = judge(&on);
  CHECK(verdict.verdict == GW_VERDICT_NO_ANSWER && verdict.depth == 1 && gw_verdict_open(&verdict));
  answer_for(&on, &on.root, "\x02", GW_ANSWER_GOOD, NOW + 10);
  verdict = judge(&on);
  CHECK(verdict.verdict == GW_VERDICT_GOOD && verdict.ask == GW_ASK_LATER);
  answer_for(&on, &on.root, "\x02", GW_ANSWER_REVOKED, NOW + 10);
  verdict = judge(&on);
  CHECK(verdict.verdict == GW_VERDICT_REVOKED && verdict.depth == 1 && !gw_verdict_open(&verdict));
  close_stage(&on);
  identity_free(&client);
  identity_free(&middle);
}

int main(void) {
  use_system_openssl();
  RUN(an_answer_is_found_in_any_slot_of_its_bucket);
  RUN(it_is_of_the_name_the_key_and_the_serial);
  RUN(it_counts_until_it_ends_and_is_due_before);
  RUN(what_is_half_written_is_not_there);
  RUN(who_reads_while_another_writes_finds_one_answer_or_none);
  RUN(with_nothing_known_the_verdict_is_what_is_left_and_open);
  RUN(good_is_good_without_a_list_and_is_asked_for_again_in_time);
  RUN(either_may_revoke);
  RUN(a_request_in_vain_leaves_it_to_the_lists_or_to_nobody);
  RUN(of_a_chain_the_worst_certificate_decides_and_each_is_asked_about);
  return 0;
}
