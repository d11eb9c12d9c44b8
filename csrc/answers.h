/* answers.h - what OCSP responders have said of clients' certificates (RFC 6960), in memory that all processes share.
 *
 * A hash table of fixed size. One process writes (gateway/native/answers.py), any number read, and none waits for
 * another: a reader that meets a half-written slot finds nothing there. */
#ifndef GW_ANSWERS_H
#define GW_ANSWERS_H

#include <stddef.h>
#include <stdint.h>

#include "world.h"

enum {
  GW_ANSWER_MISSING, /* nobody has asked, or what was said has ended */
  GW_ANSWER_NONE,    /* asked in vain */
  GW_ANSWER_UNKNOWN, /* the responder does not know the certificate */
  GW_ANSWER_GOOD,
  GW_ANSWER_REVOKED
};

/* The words of a slot behind its key, which is two of them. Times are seconds since 1970. */
enum {
  GW_ANSWER_STATUS = 2, /* in the lowest octet; in the next one the CRLReason plus 1, or 0; above both thisUpdate */
  GW_ANSWER_DATE,       /* of the revocation */
  GW_ANSWER_ENDS,       /* from then on it counts no more */
  GW_ANSWER_DUE,        /* from then on a client that is connected is a reason to ask again */
  GW_ANSWER_ROUND,      /* the one in which the responder was asked */
  GW_ANSWER_SEAL,       /* the digest of all before it: words of two answers are none */
  GW_ANSWER_WORDS,
  GW_ANSWERS_IN_BUCKET = 8
};

/* The memory: zeros at first but for seeds and buckets. */
typedef struct {
  uint64_t seeds[2]; /* by chance, and told to nobody: who could foresee digests could make two that are the same */
  uint64_t buckets;
  uint64_t round;    /* what was asked in an earlier one is due */
  uint64_t none[4];  /* 0: a slot is a cache line */
  uint64_t slots[][GW_ANSWER_WORDS]; /* |buckets| times GW_ANSWERS_IN_BUCKET */
} gw_answers;

typedef struct {
  int status;              /* GW_ANSWER_... */
  gw_table_entry entry;    /* GW_ANSWER_REVOKED: when and why */
} gw_answer;

/* gw_answers_home makes the |key|, two words, of the certificate that |issuer| issued with this |serial| (content of a
 * DER INTEGER). Returns the first slot of its bucket: it is in none but those. */
size_t gw_answers_home(const gw_answers *answers, const gw_issuer *issuer, const uint8_t *serial, size_t length,
                       uint64_t *key);

/* gw_answer_seal returns what belongs into the GW_ANSWER_SEAL of these |words|. */
uint64_t gw_answer_seal(const uint64_t *words);

/* gw_answers_find copies what is known at |now| of a certificate, named as for gw_answers_home. Returns 1 when that is
 * missing or due. */
int gw_answers_find(const gw_answers *answers, const gw_issuer *issuer, const uint8_t *serial, size_t length,
                    int64_t now, gw_answer *answer);

#endif
