#include "verify.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "counters.h"
#include "der.h"

typedef struct {
  X509 *x509;          /* borrowed from the listener's store */
  gw_issuer *identity; /* owned */
  int parent;          /* index, or -1 */
} authority;

struct gw_listener {
  gw_world *world;
  gw_rules rules;
  authority *authorities;
  int count;
};

/* A certificate that is looked up, and those after it. */
struct gw_chain {
  gw_chain *next;
  int count;               /* of certificates, from this one on */
  int trusted;             /* of the first: the client is a trust anchor itself, and nothing is looked up */
  int depth;               /* 0 is the client's own */
  const gw_issuer *issuer; /* the listener's or |sent|; NULL: not known, so covered by no list */
  gw_issuer *sent;         /* owned: the identity of a CA that only the client has */
  size_t serial_length;
  uint8_t serial[]; /* content of the DER INTEGER */
};

/* Longer than any chain that OpenSSL builds (its default depth is 100). */
enum { MAX_LINKS = 128 };

static _Thread_local gw_verification *current;

void gw_verify_begin(gw_verification *verification) {
  verification->above = NULL;
  current = verification;
}

void gw_verify_end(void) { current = NULL; }

/* --- what OpenSSL's certificates say --- */

uint8_t *gw_x509_der(X509 *x509, size_t *length) {
  uint8_t *der = NULL;
  BIO *bio = gw_openssl.BIO_new(gw_openssl.BIO_s_mem());
  if (x509 != NULL && bio != NULL && gw_openssl.i2d_X509_bio(bio, x509) == 1) {
    char *data = NULL;
    long size = gw_openssl.BIO_get_mem_data(bio, &data);
    der = size > 0 ? malloc((size_t)size) : NULL;
    if (der != NULL) {
      *length = (size_t)size;
      memcpy(der, data, *length);
    }
  }
  (void)gw_openssl.BIO_free(bio);
  return der;
}

/* find_identity finds the subject and the key, whole elements both, of the certificate in |whole|. Returns 1, or 0. */
static int find_identity(gw_der whole, gw_der *subject, gw_der *key) {
  enum { INTEGER = 0x02, SEQUENCE = 0x30, VERSION = 0xa0 };
  gw_der certificate, tbs, skipped;
  if (!gw_der_take(&whole, SEQUENCE, &certificate) || !gw_der_take(&certificate, SEQUENCE, &tbs)) {
    return 0;
  }
  (void)gw_der_take(&tbs, VERSION, &skipped); /* not there in v1 */
  /* serialNumber, signature, issuer, validity (RFC 5280, section 4.1). */
  if (!gw_der_take(&tbs, INTEGER, &skipped) || !gw_der_take(&tbs, SEQUENCE, &skipped) ||
      !gw_der_take(&tbs, SEQUENCE, &skipped) || !gw_der_take(&tbs, SEQUENCE, &skipped)) {
    return 0;
  }
  *subject = *key = tbs;
  if (!gw_der_take(&tbs, SEQUENCE, &skipped)) {
    return 0;
  }
  subject->end = key->at = tbs.at;
  if (!gw_der_take(&tbs, SEQUENCE, &skipped)) {
    return 0;
  }
  key->end = tbs.at;
  return 1;
}

/* The identity of the CA |x509|, octet for octet as it stands there, malloc'd; or NULL. */
static gw_issuer *identity_of(X509 *x509) {
  gw_issuer *issuer = NULL;
  gw_der subject, key;
  size_t length = 0;
  uint8_t *der = gw_x509_der(x509, &length);
  if (der != NULL && find_identity((gw_der){der, 0, length}, &subject, &key)) {
    size_t name_length = gw_der_left(&subject), key_length = gw_der_left(&key);
    issuer = malloc(sizeof *issuer + name_length + key_length);
    if (issuer != NULL) {
      uint8_t *octets = memcpy(issuer + 1, der + subject.at, name_length + key_length); /* one behind the other */
      *issuer = (gw_issuer){octets, name_length, octets + name_length, key_length};
    }
  }
  free(der);
  return issuer;
}

/* Writes |serial| as the content of a DER INTEGER (X.690, section 8.3) of |length|, one more than that of |serial|,
 * which keeps sign and magnitude apart. A redundant leading octet does not matter to the lookup. */
static void write_serial(ASN1_INTEGER *serial, uint8_t *octets, size_t length) {
  const unsigned char *magnitude = gw_openssl.ASN1_STRING_get0_data(serial);
  int negative = gw_openssl.ASN1_STRING_type(serial) == GW_V_ASN1_NEG_INTEGER;
  unsigned carry = negative ? 1 : 0;
  for (size_t i = length; i-- > 0; carry >>= 8) {
    uint8_t octet = i == 0 ? 0 : magnitude[i - 1];
    carry += negative ? (uint8_t)~octet : octet;
    octets[i] = (uint8_t)carry;
  }
}

/* --- listeners --- */

gw_listener *gw_listener_new(gw_world *world, const gw_rules *rules) {
  gw_listener *listener = malloc(sizeof *listener);
  if (listener != NULL) {
    *listener = (gw_listener){.world = world, .rules = *rules};
  }
  return listener;
}

void gw_listener_free(gw_listener *listener) {
  if (listener != NULL) {
    for (int i = 0; i < listener->count; i++) {
      free(listener->authorities[i].identity);
    }
    free(listener->authorities);
    free(listener);
  }
}

const gw_rules *gw_listener_rules(const gw_listener *listener) { return &listener->rules; }

gw_world *gw_listener_world(const gw_listener *listener) { return listener->world; }

int gw_listener_add_ca(gw_listener *listener, void *x509, int parent) {
  gw_issuer *identity = identity_of(x509);
  size_t size = ((size_t)listener->count + 1) * sizeof(authority);
  authority *grown = identity == NULL ? NULL : realloc(listener->authorities, size);
  if (grown == NULL) {
    free(identity);
    return -1;
  }
  listener->authorities = grown;
  grown[listener->count] = (authority){x509, identity, parent};
  return listener->count++;
}

/* The identity of the CA |x509| where that is the listener's own, else NULL. */
static const gw_issuer *own_identity(const gw_listener *listener, const X509 *x509) {
  for (int i = 0; i < listener->count; i++) {
    if (listener->authorities[i].x509 == x509) {
      return listener->authorities[i].identity;
    }
  }
  return NULL;
}

/* --- chains --- */

void gw_chain_free(gw_chain *chain) {
  while (chain != NULL) {
    gw_chain *next = chain->next;
    free(chain->sent);
    free(chain);
    chain = next;
  }
}

/* Puts |subject|, signed by |issuer| (NULL where that is not known), before those of |chain|. Returns 1, or 0 without
 * memory or room: the chain must not be used then, it would lack what revokes it. */
static int add_link(gw_chain **chain, const gw_listener *listener, X509 *subject, X509 *issuer, int depth) {
  int count = *chain == NULL ? 1 : (*chain)->count + 1;
  ASN1_INTEGER *serial = gw_openssl.X509_get_serialNumber(subject);
  size_t length = (size_t)gw_openssl.ASN1_STRING_length(serial) + 1;
  gw_chain *link = count > MAX_LINKS ? NULL : malloc(sizeof *link + length);
  if (link == NULL) {
    return 0;
  }
  *link = (gw_chain){.next = *chain, .count = count, .depth = depth, .serial_length = length};
  write_serial(serial, link->serial, length);
  link->issuer = own_identity(listener, issuer);
  if (link->issuer == NULL && issuer != NULL) {
    link->issuer = link->sent = identity_of(issuer);
  }
  *chain = link;
  return link->issuer != NULL || issuer == NULL;
}

int gw_chain_extend(gw_verification *verification, X509 *certificate, int depth) {
  const gw_listener *listener = verification->listener;
  X509 *issuer = verification->above;
  verification->above = certificate;
  /* No list covers the trust anchor (RFC 5280, section 6.1). */
  if (depth > 0 && (issuer == NULL || listener->rules.check != GW_CHECK_CHAIN)) {
    return 1;
  }
  if (!add_link(&verification->chain, listener, certificate, issuer, depth)) {
    return 0;
  }
  verification->chain->trusted = issuer == NULL && own_identity(listener, certificate) != NULL;
  return 1;
}

/* Adds |leaf|, signed by the listener's CA |index|, and the CAs above it. A loop of CAs ends for lack of room. */
static int add_path(gw_chain **chain, const gw_listener *listener, X509 *leaf, int index) {
  X509 *subject = leaf;
  for (int depth = 0; index >= 0 && (depth == 0 || listener->rules.check == GW_CHECK_CHAIN); depth++) {
    if (index >= listener->count || !add_link(chain, listener, subject, listener->authorities[index].x509, depth)) {
      return 0;
    }
    subject = listener->authorities[index].x509;
    index = listener->authorities[index].parent;
  }
  return 1;
}

/* Whether |leaf| is itself the anchor |ca|, of the name of its issuer: then there is nobody above it to revoke it. Its
 * key, which takes some time to find, is asked for only where its own name is that name, too. */
static int is_anchor(const authority *ca, X509 *leaf, X509_NAME *issuer) {
  int named = gw_openssl.X509_NAME_cmp(gw_openssl.X509_get_subject_name(leaf), issuer) == 0;
  gw_issuer *identity = ca->parent < 0 && named ? identity_of(leaf) : NULL;
  int same = identity != NULL && gw_issuer_compare(identity, ca->identity) == 0;
  free(identity);
  return same;
}

gw_chain *gw_chain_from_leaf(gw_listener *listener, X509 *leaf) {
  gw_chain *chain = NULL;
  X509_NAME *issuer = gw_openssl.X509_get_issuer_name(leaf);
  int trusted = 0, complete = 1;
  for (int i = listener->count; i-- > 0 && !trusted && complete;) {
    const authority *ca = &listener->authorities[i];
    if (gw_openssl.X509_NAME_cmp(gw_openssl.X509_get_subject_name(ca->x509), issuer) == 0) {
      trusted = is_anchor(ca, leaf, issuer);
      complete = trusted || add_path(&chain, listener, leaf, i);
    }
  }
  if (!complete || (chain == NULL && !add_link(&chain, listener, leaf, NULL, 0))) {
    gw_chain_free(chain);
    return NULL;
  }
  chain->trusted = trusted;
  return chain;
}

/* --- verdicts --- */

/* What follows from a verdict that refuses. */
static const struct {
  int error_code, counter;
} CONSEQUENCES[] = {
    [GW_VERDICT_STALE] = {GW_X509_V_ERR_CRL_HAS_EXPIRED, GW_COUNT_REFUSED_STALE},
    [GW_VERDICT_NO_LIST] = {GW_X509_V_ERR_UNABLE_TO_GET_CRL, GW_COUNT_REFUSED_NO_LIST},
    [GW_VERDICT_REVOKED] = {GW_X509_V_ERR_CERT_REVOKED, GW_COUNT_REFUSED_REVOKED},
};

/* What the list of its issuer says of one certificate, without policy. */
static gw_verdict judge_link(const gw_rules *rules, const gw_snapshot *snapshot, const gw_chain *link, int64_t now) {
  gw_verdict verdict = {.verdict = GW_VERDICT_NO_LIST, .depth = link->depth, .entry = {.reason = -1}};
  const gw_table *table = link->issuer == NULL ? NULL : gw_snapshot_table(snapshot, link->issuer);
  if (table == NULL) {
    return verdict;
  }
  gw_table_meta meta;
  gw_table_get_meta(table, &meta);
  int in_force = meta.this_update <= now + GW_CLOCK_SKEW;
  if (gw_table_find(table, link->serial, link->serial_length, &verdict.entry)) {
    verdict.verdict = GW_VERDICT_REVOKED;
  } else if (in_force && meta.next_update != 0 && now - rules->grace > meta.next_update) {
    verdict.verdict = GW_VERDICT_STALE;
    verdict.next_update = meta.next_update;
  } else if (in_force) {
    verdict.verdict = GW_VERDICT_GOOD;
  }
  return verdict;
}

int gw_chain_judge(const gw_listener *listener, const gw_snapshot *snapshot, const gw_chain *chain, int64_t now,
                   gw_verdict *verdict) {
  const gw_rules *rules = &listener->rules;
  *verdict = (gw_verdict){.verdict = GW_VERDICT_GOOD, .entry = {.reason = -1}};
  for (const gw_chain *link = chain; link != NULL && !chain->trusted; link = link->next) {
    gw_verdict found = judge_link(rules, snapshot, link, now);
    if (found.verdict > verdict->verdict || (found.verdict == verdict->verdict && found.depth < verdict->depth)) {
      *verdict = found;
    }
  }
  gw_count(gw_world_counters(listener->world), GW_COUNT_LOOKUPS, chain->trusted ? 0 : (uint64_t)chain->count);
  int forgivable = verdict->verdict != GW_VERDICT_REVOKED && rules->on_unavailable != GW_UNAVAILABLE_REJECT;
  verdict->let_in = verdict->verdict == GW_VERDICT_GOOD || forgivable;
  verdict->error_code = CONSEQUENCES[verdict->verdict].error_code;
  return verdict->let_in;
}

void gw_verdict_count(const gw_listener *listener, const gw_verdict *verdict) {
  if (verdict->verdict < GW_VERDICT_STALE || verdict->verdict > GW_VERDICT_REVOKED) {
    return;
  }
  if (!verdict->let_in) {
    gw_count(gw_world_counters(listener->world), CONSEQUENCES[verdict->verdict].counter, 1);
  } else if (listener->rules.on_unavailable == GW_UNAVAILABLE_ACCEPT) {
    gw_count(gw_world_counters(listener->world), GW_COUNT_ACCEPTED_UNCHECKED, 1);
  }
}

/* --- the callback --- */

/* OpenSSL calls it for each error it finds, and, once it has found none, with |ok| = 1 for each certificate from the
 * anchor down: at depth 0 the whole chain is good in OpenSSL's eyes. Whatever goes wrong here refuses: the handshake
 * ends with the alert that belongs to the error. */
static int on_verify(int ok, X509_STORE_CTX *ctx) {
  gw_verification *verification = current;
  if (verification == NULL) {
    gw_openssl.X509_STORE_CTX_set_error(ctx, GW_X509_V_ERR_UNSPECIFIED);
    return 0;
  }
  gw_listener *listener = verification->listener;
  gw_verdict *verdict = &verification->verdict;
  int depth = gw_openssl.X509_STORE_CTX_get_error_depth(ctx);
  if (ok && listener->rules.check == GW_CHECK_OFF) {
    return 1;
  }
  if (!ok || !gw_chain_extend(verification, gw_openssl.X509_STORE_CTX_get_current_cert(ctx), depth)) {
    int error_code = ok ? GW_X509_V_ERR_OUT_OF_MEM : gw_openssl.X509_STORE_CTX_get_error(ctx);
    *verdict = (gw_verdict){
        .verdict = GW_VERDICT_UNTRUSTED, .depth = depth, .error_code = error_code, .entry = {.reason = -1}};
    gw_chain_free(verification->chain); /* a part of one must not be judged */
    verification->chain = NULL;
  } else if (depth > 0) {
    return 1;
  } else {
    gw_snapshot *snapshot = gw_world_snapshot(listener->world);
    (void)gw_chain_judge(listener, snapshot, verification->chain, time(NULL), verdict);
    gw_snapshot_free(snapshot);
    gw_verdict_count(listener, verdict);
  }
  if (verdict->verdict != GW_VERDICT_GOOD && verification->leaf_der == NULL) {
    X509 *leaf = gw_openssl.X509_STORE_CTX_get0_cert(ctx);
    verification->leaf_der = gw_x509_der(leaf, &verification->leaf_der_length);
  }
  if (!verdict->let_in) {
    gw_openssl.X509_STORE_CTX_set_error(ctx, verdict->error_code);
  }
  return verdict->let_in;
}

void gw_listener_arm(void *ssl_ctx, int mode) { gw_openssl.SSL_CTX_set_verify(ssl_ctx, mode, on_verify); }
