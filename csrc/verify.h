/* verify.h - may this certificate come in? The listeners' rules and the verify callback.
 *
 * A `gw_listener` has the rules of one listener and the CAs that it trusts. A
 * `gw_chain` is what is remembered of a verified client: enough to look it up
 * again when it resumes a session or when the tables change, without any object
 * of OpenSSL. */
#ifndef GW_VERIFY_H
#define GW_VERIFY_H

#include <stddef.h>
#include <stdint.h>

#include "answers.h"
#include "error.h"
#include "openssl_table.h"
#include "revoked.h"
#include "world.h"

enum { GW_CHECK_OFF, GW_CHECK_LEAF, GW_CHECK_CHAIN };
enum { GW_UNAVAILABLE_REJECT, GW_UNAVAILABLE_ACCEPT, GW_UNAVAILABLE_WAIT };

/* Of several certificates, the one with the greatest of these decides. */
enum {
  GW_VERDICT_NONE,       /* nothing was asked: no client certificate, or check = off */
  GW_VERDICT_GOOD,       /* covered by fresh lists, in none of them */
  GW_VERDICT_STALE,      /* the list of a certificate of the chain has expired, grace included */
  GW_VERDICT_NO_LIST,    /* one is covered by no list */
  GW_VERDICT_NO_ANSWER,  /* one is to be good in a responder's eyes, and none says so */
  GW_VERDICT_REVOKED,    /* one is in a list */
  GW_VERDICT_UNTRUSTED   /* OpenSSL refused the chain before revocation was asked: see error_code */
};

/* Whether a responder is to be asked. */
enum {
  GW_ASK_NOTHING,
  GW_ASK_LATER, /* what is known counts, and it is time to ask again */
  GW_ASK_FIRST  /* nothing is known: the verdict is what is left if nobody answers */
};

typedef struct {
  int verdict;
  int let_in;               /* 1 when policy lets it in all the same (accept), or for now (wait) */
  int ask;                  /* GW_ASK_... */
  int depth;                /* of the certificate that decided; 0 is the client's own */
  int error_code;           /* X509_V_ERR_..., 0 when none */
  gw_table_entry entry;     /* GW_VERDICT_REVOKED: when and why; GW_VERDICT_NO_ANSWER: reason is the GW_ANSWER_... */
  int64_t next_update;      /* GW_VERDICT_STALE: of the list that has expired */
} gw_verdict;

typedef struct gw_listener gw_listener;

typedef struct {
  int check;              /* GW_CHECK_... */
  int on_unavailable;     /* GW_UNAVAILABLE_... */
  int64_t grace;          /* seconds past nextUpdate for which a list still counts */
  int disconnect_revoked; /* whether live connections of a certificate that is revoked now are ended */
  uint64_t *connections;  /* gauge of its connections, borrowed; may be NULL */
  const uint8_t *usages;  /* what a client's extendedKeyUsage must name, see gw_certificate_is_for; borrowed */
  size_t usages_length;   /* 0: it may lack that extension */
  const gw_answers *answers; /* of OCSP responders, borrowed: good there is good; NULL where none is asked */
  int require_answer;     /* whether nothing else is good */
} gw_rules;

/* gw_listener_new makes a listener with a copy of |rules|; |world| is borrowed
 * and must outlive it. NULL without memory. gw_listener_free releases it. */
gw_listener *gw_listener_new(gw_world *world, const gw_rules *rules);
void gw_listener_free(gw_listener *listener);
const gw_rules *gw_listener_rules(const gw_listener *listener);
gw_world *gw_listener_world(const gw_listener *listener);

/* gw_listener_count counts in the page of its world (counters.h). */
void gw_listener_count(const gw_listener *listener, int which, int64_t delta);

/* gw_listener_add_ca tells of a CA certificate that stands in the listener's
 * store, or that was learnt. |x509| is the X509 object in that store, kept alive
 * as long as chains are made: those that OpenSSL builds end in this very object, so
 * that its identity costs a pointer comparison. |parent| is the index of the CA that
 * issued it, or -1 for one that issued itself. Returns its index (from 0), or -1
 * without memory or room or where it cannot be read. One thread may add while
 * others judge. */
int gw_listener_add_ca(gw_listener *listener, void *x509, int parent);

/* gw_listener_arm sets the verify callback of this extension on |ssl_ctx|, with
 * |mode| (SSL_VERIFY_PEER and so on). */
void gw_listener_arm(void *ssl_ctx, int mode);

/* What is remembered of a verified client; malloc'd, owned by the connection. It
 * borrows from its listener, which must outlive it. */
typedef struct gw_chain gw_chain;
void gw_chain_free(gw_chain *chain);

/* gw_chain_from_leaf makes the chain of the leaf alone, as a resumed session has
 * it: the issuers are the listener's CAs of the leaf's issuer name, and where
 * there are several, each has to agree. NULL without memory, or with more of them
 * than a chain holds: the client must be refused then. */
gw_chain *gw_chain_from_leaf(gw_listener *listener, X509 *leaf);

/* A list whose thisUpdate is further ahead than this, in seconds, is not in force yet. */
enum { GW_CLOCK_SKEW = 300 };

/* gw_chain_judge looks every certificate of |chain| up in the lists that cover it
 * (RFC 5280, section 6.3.3) and applies the listener's policy at |now| (seconds
 * since 1970). Revoked in any list decides, whatever the policy; then uncovered,
 * then stale. With `wait` a client that is
 * not covered is let in for now: it is for the caller to wait and judge again.
 * Returns |verdict->let_in|. */
int gw_chain_judge(const gw_listener *listener, const gw_snapshot *snapshot, const gw_chain *chain, int64_t now,
                   gw_verdict *verdict);

/* gw_judge asks the lists in force about the one certificate in |der|, whose issuer is |issuer|, whatever any listener's
 * policy: the verdict is good, revoked, stale or no list. Returns 1, or 0: no memory, or it is no certificate in DER. */
int gw_judge(gw_world *world, const uint8_t *der, size_t length, const gw_issuer *issuer, int64_t grace, int64_t now,
             gw_verdict *verdict);

/* gw_verify_begin and gw_verify_end say for which connection the thread runs
 * OpenSSL: between them the verify callback stores its verdict, and the chain
 * (ownership passes to the caller at gw_verify_end). */
typedef struct {
  gw_listener *listener;
  gw_verdict verdict;
  gw_chain *chain;
  X509 *above; /* the callback's: the certificate that it was called for before */
} gw_verification;
void gw_verify_begin(gw_verification *verification);
void gw_verify_end(void);

/* gw_chain_extend takes the next |certificate| of a chain that OpenSSL has
 * verified, from the trust anchor down to the leaf, which has |depth| 0. Returns
 * 1, or 0 without memory or room or where a certificate cannot be read: the chain
 * must not be used then. The certificate must live as long as the verification. */
int gw_chain_extend(gw_verification *verification, X509 *certificate, int depth);

/* gw_verdict_open: whether a responder has to be asked before the verdict counts, however it stands. */
static inline int gw_verdict_open(const gw_verdict *verdict) {
  return verdict->ask == GW_ASK_FIRST && verdict->verdict != GW_VERDICT_REVOKED;
}

/* gw_verdict_settle counts a verdict that is acted upon: refused, or let in
 * unchecked. Who is let in to wait counts when that is over; who has an open one is. */
void gw_verdict_settle(const gw_listener *listener, gw_verdict *verdict);

#endif
