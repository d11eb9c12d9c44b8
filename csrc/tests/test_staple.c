/* What a client that asks for a certificate status is given (RFC 6066, section 8). */
#include <openssl/ocsp.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "../staple.h"
#include "tls_ends.h"

static const int VERSIONS[] = {TLS1_2_VERSION, TLS1_3_VERSION};

typedef struct {
  gateway door;
  gw_staple *slot;
  const char *verified; /* the signatures that clients can, NULL for all */
} stage;

static void open_stage(stage *on) {
  gateway_open(&on->door, (gw_rules){.check = GW_CHECK_OFF}, SSL_VERIFY_NONE);
  on->verified = NULL;
  on->slot = gw_staple_new(on->door.counters, on->door.server.certificate, NULL);
  CHECK(on->slot != NULL && gw_staple_attach(on->slot, on->door.context) == 1);
}

static void close_stage(stage *on) {
  gateway_close(&on->door);
  gw_staple_free(on->slot);
}

/* An OCSP response of |status|, in real DER: OpenSSL's client drops what is not. */
typedef struct {
  unsigned char *der;
  size_t length;
} response;

static response response_make(int status) {
  OCSP_RESPONSE *made = OCSP_response_create(status, NULL);
  CHECK(made != NULL);
  response answer = {NULL, 0};
  int length = i2d_OCSP_RESPONSE(made, &answer.der);
  CHECK(length > 0);
  answer.length = (size_t)length;
  OCSP_RESPONSE_free(made);
  return answer;
}

static void put(stage *on, const response *answer, int64_t seconds) {
  gw_staple_set(on->slot, answer->der, (int)answer->length, time(NULL) + seconds);
}

/* given returns 1 when a client of |version| that asks (or not) is given exactly |expected| (NULL for nothing). */
static int given(stage *on, int version, int asks, const response *expected) {
  client end;
  client_open(&end, &on->door, version, NULL, NULL);
  CHECK(on->verified == NULL || SSL_set1_sigalgs_list(end.ssl, on->verified) == 1);
  if (asks) {
    CHECK(SSL_set_tlsext_status_type(end.ssl, TLSEXT_STATUSTYPE_ocsp) == 1);
  }
  CHECK(shake(&end) == GW_HANDSHAKE_DONE);
  const unsigned char *der = NULL;
  long length = SSL_get_tlsext_status_ocsp_resp(end.ssl, &der);
  int same = expected == NULL ? der == NULL
                              : length == (long)expected->length && memcmp(der, expected->der, expected->length) == 0;
  (void)client_close(&end);
  return same;
}

static void the_response_in_force_is_stapled_for_those_who_ask(void) {
  for (int i = 0; i < 2; i++) {
    stage on;
    open_stage(&on);
    response answer = response_make(OCSP_RESPONSE_STATUS_TRYLATER);
    put(&on, &answer, 3600);
    CHECK(given(&on, VERSIONS[i], 1, &answer) && on.door.counters[GW_COUNT_STAPLED] == 1);
    CHECK(given(&on, VERSIONS[i], 0, NULL) && on.door.counters[GW_COUNT_STAPLED] == 1);
    OPENSSL_free(answer.der);
    close_stage(&on);
  }
}

static void an_empty_slot_staples_nothing_and_lets_the_handshake_be(void) {
  for (int i = 0; i < 2; i++) {
    stage on;
    open_stage(&on);
    CHECK(given(&on, VERSIONS[i], 1, NULL) && on.door.counters[GW_COUNT_STAPLED] == 0);
    close_stage(&on);
  }
}

static void an_expired_response_is_not_stapled(void) {
  for (int i = 0; i < 2; i++) {
    stage on;
    open_stage(&on);
    response answer = response_make(OCSP_RESPONSE_STATUS_TRYLATER);
    put(&on, &answer, 0); /* expires now: not in force any more */
    CHECK(given(&on, VERSIONS[i], 1, NULL) && on.door.counters[GW_COUNT_STAPLED] == 0);
    OPENSSL_free(answer.der);
    close_stage(&on);
  }
}

static void a_new_response_takes_the_place_of_the_old_one(void) {
  for (int i = 0; i < 2; i++) {
    stage on;
    open_stage(&on);
    response old = response_make(OCSP_RESPONSE_STATUS_TRYLATER), new = response_make(OCSP_RESPONSE_STATUS_UNAUTHORIZED);
    put(&on, &old, 3600);
    CHECK(given(&on, VERSIONS[i], 1, &old));
    put(&on, &new, 3600);
    CHECK(given(&on, VERSIONS[i], 1, &new));
    gw_staple_set(on.slot, NULL, 0, 0);
    CHECK(given(&on, VERSIONS[i], 1, NULL));
    OPENSSL_free(old.der);
    OPENSSL_free(new.der);
    close_stage(&on);
  }
}

static void what_was_replaced_may_be_released_and_so_may_what_was_given(void) {
  stage on;
  client end;
  open_stage(&on);
  response answer = response_make(OCSP_RESPONSE_STATUS_TRYLATER);
  response given_away = response_make(OCSP_RESPONSE_STATUS_TRYLATER);
  put(&on, &given_away, 3600);
  client_open(&end, &on.door, TLS1_3_VERSION, NULL, NULL); /* and is still at it when it is replaced */
  CHECK(SSL_set_tlsext_status_type(end.ssl, TLSEXT_STATUSTYPE_ocsp) == 1);
  client_steps(&end);
  CHECK(gw_conn_handshake(end.conn, &end.error) == GW_HANDSHAKE_WANT_READ);
  put(&on, &answer, 3600);
  memset(given_away.der, 0, given_away.length);
  OPENSSL_free(given_away.der);
  CHECK(shake(&end) == GW_HANDSHAKE_DONE && on.door.counters[GW_COUNT_STAPLED] == 1);
  const unsigned char *der = NULL;
  CHECK(SSL_get_tlsext_status_ocsp_resp(end.ssl, &der) == (long)answer.length);
  CHECK(memcmp(der, answer.der, answer.length) == 0);
  (void)client_close(&end);
  CHECK(given(&on, TLS1_3_VERSION, 1, &answer));
  OPENSSL_free(answer.der);
  close_stage(&on);
}

static void a_certificate_without_a_slot_is_given_nothing(void) {
  stage on;
  open_stage(&on);
  gw_staple *other = gw_staple_new(on.door.counters, on.door.root.certificate, NULL);
  response answer = response_make(OCSP_RESPONSE_STATUS_TRYLATER);
  CHECK(other != NULL && gw_staple_attach(other, on.door.context) == 1);
  gw_staple_set(other, answer.der, (int)answer.length, time(NULL) + 3600);
  CHECK(given(&on, TLS1_3_VERSION, 1, NULL) && on.door.counters[GW_COUNT_STAPLED] == 0);
  OPENSSL_free(answer.der);
  gw_staple_free(other);
  close_stage(&on);
}

/* Two certificates in one context, of two kinds of key: each has a slot, and a client of the one gets nothing of the
 * other, nor of one that is in another context. */
static void a_certificate_is_given_the_response_of_its_own_slot(void) {
  static const char *const VERIFIED[] = {"ECDSA+SHA256", "RSA-PSS+SHA256:RSA+SHA256"};
  for (int i = 0; i < 2; i++) {
    stage on;
    open_stage(&on);
    EVP_PKEY *key = EVP_RSA_gen(2048);
    identity other = identity_with_key("other", "05", &on.door.root, 0, key);
    CHECK(SSL_CTX_use_certificate(on.door.context, other.certificate) == 1);
    CHECK(SSL_CTX_use_PrivateKey(on.door.context, other.key) == 1);
    gw_staple *elsewhere = gw_staple_new(on.door.counters, on.door.root.certificate, on.slot);
    gw_staple *first = gw_staple_new(on.door.counters, other.certificate, elsewhere);
    CHECK(elsewhere != NULL && first != NULL && gw_staple_attach(first, on.door.context) == 1);
    response answers[] = {response_make(OCSP_RESPONSE_STATUS_TRYLATER), response_make(OCSP_RESPONSE_STATUS_UNAUTHORIZED)};
    gw_staple_set(elsewhere, answers[0].der, (int)answers[0].length, time(NULL) + 3600);
    on.verified = VERIFIED[0];
    CHECK(given(&on, VERSIONS[i], 1, NULL));
    put(&on, &answers[0], 3600);
    CHECK(given(&on, VERSIONS[i], 1, &answers[0]));
    on.verified = VERIFIED[1];
    CHECK(given(&on, VERSIONS[i], 1, NULL));
    gw_staple_set(first, answers[1].der, (int)answers[1].length, time(NULL) + 3600);
    CHECK(given(&on, VERSIONS[i], 1, &answers[1]));
    OPENSSL_free(answers[0].der);
    OPENSSL_free(answers[1].der);
    gw_staple_free(first);
    gw_staple_free(elsewhere);
    identity_free(&other);
    close_stage(&on);
  }
}

typedef struct {
  stage on;
  response answers[2];
  atomic_int done;
} contest;

static void *swap_until_done(void *argument) {
  contest *between = argument;
  for (int i = 0; !atomic_load(&between->done); i++) {
    put(&between->on, &between->answers[i % 2], 3600);
    (void)sched_yield(); /* under valgrind threads take turns, and one that never waits never ends its turn */
  }
  return NULL;
}

/* Run under TSan: a handshake gets one response or the other, whole. */
static void responses_are_swapped_under_running_handshakes(void) {
  contest between;
  open_stage(&between.on);
  between.answers[0] = response_make(OCSP_RESPONSE_STATUS_TRYLATER);
  between.answers[1] = response_make(OCSP_RESPONSE_STATUS_UNAUTHORIZED);
  atomic_init(&between.done, 0);
  put(&between.on, &between.answers[0], 3600);
  pthread_t swapper;
  CHECK(pthread_create(&swapper, NULL, swap_until_done, &between) == 0);
  for (int i = 0; i < 40; i++) {
    client end;
    client_open(&end, &between.on.door, TLS1_3_VERSION, NULL, NULL);
    CHECK(SSL_set_tlsext_status_type(end.ssl, TLSEXT_STATUSTYPE_ocsp) == 1 && shake(&end) == GW_HANDSHAKE_DONE);
    const unsigned char *der = NULL;
    long length = SSL_get_tlsext_status_ocsp_resp(end.ssl, &der);
    int known = 0;
    for (int j = 0; j < 2; j++) {
      known |= length == (long)between.answers[j].length && memcmp(der, between.answers[j].der, (size_t)length) == 0;
    }
    CHECK(known);
    (void)client_close(&end);
  }
  atomic_store(&between.done, 1);
  CHECK(pthread_join(swapper, NULL) == 0);
  OPENSSL_free(between.answers[0].der);
  OPENSSL_free(between.answers[1].der);
  close_stage(&between.on);
}

int main(void) {
  use_system_openssl();
  RUN(the_response_in_force_is_stapled_for_those_who_ask);
  RUN(an_empty_slot_staples_nothing_and_lets_the_handshake_be);
  RUN(an_expired_response_is_not_stapled);
  RUN(a_new_response_takes_the_place_of_the_old_one);
  RUN(a_certificate_without_a_slot_is_given_nothing);
  RUN(a_certificate_is_given_the_response_of_its_own_slot);
  RUN(what_was_replaced_may_be_released_and_so_may_what_was_given);
  RUN(responses_are_swapped_under_running_handshakes);
  return 0;
}
