#include "verify.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "counters.h"

typedef struct {
  const void *x509; /* borrowed from the listener's store; compared, never followed */
  const gw_issuer *identity;
  uint8_t *name, *serial; /* owned */
  size_t name_length, serial_length;
  int parent; /* index, or -1 */
} authority;

struct gw_listener {
  gw_world *world;
  gw_rules rules;
  authority *authorities;
  int count;
};

typedef struct {
  const gw_issuer *issuer; /* NULL: not known, so covered by no list */
  const uint8_t *serial;   /* content of the DER INTEGER; inside the same block */
  size_t serial_length;
  int depth;
} link;

struct gw_chain {
  size_t count;
  link links[];
};

/* Longer than any chain that OpenSSL builds (its default depth is 100). */
enum { MAX_LINKS = 128 };

static _Thread_local gw_verification *current;

void gw_verify_begin(gw_verification *verification) { current = verification; }

void gw_verify_end(void) { current = NULL; }

/* --- listeners --- */

gw_listener *gw_listener_new(gw_world *world, const gw_rules *rules) {
  gw_listener *listener = calloc(1, sizeof *listener);
  if (listener != NULL) {
    listener->world = world;
    listener->rules = *rules;
  }
  return listener;
}

static void clear_authority(authority *ca) {
  free(ca->name);
  free(ca->serial);
}

void gw_listener_free(gw_listener *listener) {
  if (listener != NULL) {
    for (int i = 0; i < listener->count; i++) {
      clear_authority(&listener->authorities[i]);
    }
    free(listener->authorities);
    free(listener);
  }
}

const gw_rules *gw_listener_rules(const gw_listener *listener) { return &listener->rules; }

gw_world *gw_listener_world(const gw_listener *listener) { return listener->world; }

/* Never NULL for an empty input, so that NULL means no memory. */
static uint8_t *copy_octets(const uint8_t *octets, size_t length) {
  uint8_t *copy = malloc(length + 1);
  if (copy != NULL) {
    memcpy(copy, octets, length);
  }
  return copy;
}

int gw_listener_add_ca(gw_listener *listener, void *x509, const uint8_t *name, size_t name_length, const uint8_t *key,
                       size_t key_length, const uint8_t *serial, size_t serial_length, int parent, gw_error *error) {
  size_t room = (size_t)listener->count + 1;
  authority *grown = realloc(listener->authorities, room * sizeof *grown);
  if (grown == NULL) {
    (void)gw_fail(error, "no memory");
    return -1;
  }
  listener->authorities = grown;
  authority ca = {.x509 = x509,
                  .identity = gw_issuer_intern(name, name_length, key, key_length),
                  .name = copy_octets(name, name_length),
                  .name_length = name_length,
                  .serial = copy_octets(serial, serial_length),
                  .serial_length = serial_length,
                  .parent = parent};
  if (ca.identity == NULL || ca.name == NULL || ca.serial == NULL) {
    clear_authority(&ca);
    (void)gw_fail(error, "no memory, or more than %d issuers", GW_ISSUERS_MAX);
    return -1;
  }
  listener->authorities[listener->count] = ca;
  return listener->count++;
}

/* --- what OpenSSL's objects say --- */

uint8_t *gw_x509_der(X509 *x509, size_t *length) {
  BIO *bio = gw_openssl.BIO_new(gw_openssl.BIO_s_mem());
  if (bio == NULL) {
    return NULL;
  }
  uint8_t *der = NULL;
  char *data = NULL;
  if (gw_openssl.i2d_X509_bio(bio, x509) == 1) {
    long size = gw_openssl.BIO_get_mem_data(bio, &data);
    if (size > 0) {
      *length = (size_t)size;
      der = copy_octets((const uint8_t *)data, *length);
    }
  }
  (void)gw_openssl.BIO_free(bio);
  return der;
}

/* The DER of |name|, malloc'd, or NULL. */
static uint8_t *name_der(X509_NAME *name, size_t *length) {
  int size = gw_openssl.i2d_X509_NAME(name, NULL);
  if (size <= 0) {
    return NULL;
  }
  uint8_t *der = malloc((size_t)size);
  unsigned char *end = der; /* i2d moves it behind what it wrote */
  if (der != NULL && gw_openssl.i2d_X509_NAME(name, &end) != size) {
    free(der);
    return NULL;
  }
  *length = (size_t)size;
  return der;
}

/* The identity of a CA that the client sent, or NULL where it cannot be read. */
static const gw_issuer *identity_of(X509 *ca) {
  const gw_issuer *issuer = NULL;
  size_t name_length = 0;
  uint8_t *name = name_der(gw_openssl.X509_get_subject_name(ca), &name_length);
  EVP_PKEY *key = gw_openssl.X509_get_pubkey(ca);
  BIO *bio = gw_openssl.BIO_new(gw_openssl.BIO_s_mem());
  if (name != NULL && key != NULL && bio != NULL && gw_openssl.i2d_PUBKEY_bio(bio, key) == 1) {
    char *data = NULL;
    long size = gw_openssl.BIO_get_mem_data(bio, &data);
    if (size > 0) {
      issuer = gw_issuer_intern(name, name_length, (const uint8_t *)data, (size_t)size);
    }
  }
  if (bio != NULL) {
    (void)gw_openssl.BIO_free(bio);
  }
  gw_openssl.EVP_PKEY_free(key);
  free(name);
  return issuer;
}

/* The identity of the CA in |x509|: by pointer where it is the listener's own. */
static const gw_issuer *issuer_identity(const gw_listener *listener, X509 *x509) {
  for (int i = 0; i < listener->count; i++) {
    if (listener->authorities[i].x509 == x509) {
      return listener->authorities[i].identity;
    }
  }
  return identity_of(x509);
}

/* Room that the serial of |x509| takes at most as content of a DER INTEGER. */
static size_t serial_room(X509 *x509) {
  int length = gw_openssl.ASN1_STRING_length(gw_openssl.X509_get_serialNumber(x509));
  return length > 0 ? (size_t)length + 1 : 1;
}

/* Writes the serial of |x509| to |octets| as content of a DER INTEGER (X.690,
 * section 8.3); returns its length. OpenSSL keeps sign and magnitude apart. */
static size_t write_serial(X509 *x509, uint8_t *octets) {
  ASN1_INTEGER *serial = gw_openssl.X509_get_serialNumber(x509);
  int signed_length = gw_openssl.ASN1_STRING_length(serial);
  size_t length = signed_length > 0 ? (size_t)signed_length : 0;
  octets[0] = 0;
  if (length > 0) {
    memcpy(octets + 1, gw_openssl.ASN1_STRING_get0_data(serial), length);
  }
  if (gw_openssl.ASN1_STRING_type(serial) == GW_V_ASN1_NEG_INTEGER) {
    unsigned carry = 1;
    for (size_t i = length + 1; i-- > 0;) {
      carry += (uint8_t)~octets[i];
      octets[i] = (uint8_t)carry;
      carry >>= 8;
    }
  }
  return length + 1; /* a redundant leading octet does not matter to the lookup */
}

/* --- chains --- */

static gw_chain *new_chain(size_t count, size_t octets) {
  gw_chain *chain = malloc(sizeof *chain + count * sizeof *chain->links + octets);
  if (chain != NULL) {
    chain->count = 0;
  }
  return chain;
}

void gw_chain_free(gw_chain *chain) { free(chain); }

gw_chain *gw_chain_from_verified(gw_listener *listener, Cryptography_STACK_OF_X509 *certs) {
  int total = gw_openssl.sk_X509_num(certs);
  if (total < 1 || total > MAX_LINKS) {
    return NULL;
  }
  /* The last one is the trust anchor, which no list covers (RFC 5280, section 6.1). */
  size_t count = (size_t)total - 1;
  if (listener->rules.check == GW_CHECK_LEAF && count > 1) {
    count = 1;
  }
  size_t room = 0;
  for (size_t i = 0; i < count; i++) {
    room += serial_room(gw_openssl.sk_X509_value(certs, (int)i));
  }
  gw_chain *chain = new_chain(count, room);
  if (chain == NULL) {
    return NULL;
  }
  uint8_t *octets = (uint8_t *)(chain->links + count);
  for (size_t i = 0; i < count; i++) {
    X509 *subject = gw_openssl.sk_X509_value(certs, (int)i);
    size_t length = write_serial(subject, octets);
    chain->links[chain->count++] = (link){
        .issuer = issuer_identity(listener, gw_openssl.sk_X509_value(certs, (int)i + 1)),
        .serial = octets,
        .serial_length = length,
        .depth = (int)i,
    };
    octets += length;
  }
  return chain;
}

/* A chain in the making, of octets that somebody else owns. */
typedef struct {
  link links[MAX_LINKS];
  size_t count;
} draft;

/* Returns 1, or 0 when there is no room: the chain must not be used then, it would lack what revokes it. */
static int add_link(draft *draft, link link) {
  if (draft->count == MAX_LINKS) {
    return 0;
  }
  draft->links[draft->count++] = link;
  return 1;
}

/* Adds the CA |index| and those above it, each to be looked up at its own issuer. A loop ends for lack of room. */
static int add_parents(const gw_listener *listener, int index, draft *draft) {
  int depth = 1;
  for (int parent; (parent = listener->authorities[index].parent) >= 0; index = parent) {
    const authority *ca = &listener->authorities[index];
    if (parent >= listener->count || !add_link(draft, (link){listener->authorities[parent].identity, ca->serial,
                                                             ca->serial_length, depth++})) {
      return 0;
    }
  }
  return 1;
}

/* Whether |leaf| is itself one of the listener's anchors: then there is nobody above it to revoke it. Its key, which
 * OpenSSL takes long to encode, is asked for only where an anchor has its name. */
static int is_anchor(const gw_listener *listener, X509 *leaf) {
  const gw_issuer *identity = NULL;
  size_t length = 0;
  int found = 0;
  uint8_t *name = name_der(gw_openssl.X509_get_subject_name(leaf), &length);
  for (int i = 0; name != NULL && i < listener->count && !found; i++) {
    const authority *ca = &listener->authorities[i];
    if (ca->parent < 0 && ca->name_length == length && memcmp(ca->name, name, length) == 0) {
      identity = identity != NULL ? identity : identity_of(leaf);
      found = identity != NULL && ca->identity == identity;
    }
  }
  free(name);
  return found;
}

static int draft_from_leaf(const gw_listener *listener, X509 *leaf, const uint8_t *issuer, size_t issuer_length,
                           const uint8_t *serial, size_t serial_length, draft *draft) {
  for (int i = 0; i < listener->count; i++) {
    const authority *ca = &listener->authorities[i];
    if (ca->name_length != issuer_length || memcmp(ca->name, issuer, issuer_length) != 0) {
      continue;
    }
    if (ca->parent < 0 && is_anchor(listener, leaf)) {
      draft->count = 0;
      return 1;
    }
    if (!add_link(draft, (link){ca->identity, serial, serial_length, 0}) ||
        (listener->rules.check == GW_CHECK_CHAIN && !add_parents(listener, i, draft))) {
      return 0;
    }
  }
  return draft->count > 0 || add_link(draft, (link){NULL, serial, serial_length, 0});
}

static gw_chain *chain_of(const draft *draft) {
  size_t room = 0;
  for (size_t i = 0; i < draft->count; i++) {
    room += draft->links[i].serial_length;
  }
  gw_chain *chain = new_chain(draft->count, room);
  if (chain == NULL) {
    return NULL;
  }
  uint8_t *octets = (uint8_t *)(chain->links + draft->count);
  for (; chain->count < draft->count; chain->count++) {
    const link *from = &draft->links[chain->count];
    memcpy(octets, from->serial, from->serial_length);
    chain->links[chain->count] = (link){from->issuer, octets, from->serial_length, from->depth};
    octets += from->serial_length;
  }
  return chain;
}

gw_chain *gw_chain_from_leaf(gw_listener *listener, X509 *leaf) {
  gw_chain *chain = NULL;
  size_t issuer_length = 0;
  uint8_t *issuer = name_der(gw_openssl.X509_get_issuer_name(leaf), &issuer_length);
  uint8_t *serial = malloc(serial_room(leaf));
  if (issuer != NULL && serial != NULL) {
    draft draft = {.count = 0};
    size_t serial_length = write_serial(leaf, serial);
    if (draft_from_leaf(listener, leaf, issuer, issuer_length, serial, serial_length, &draft)) {
      chain = chain_of(&draft);
    }
  }
  free(issuer);
  free(serial);
  return chain;
}

/* --- verdicts --- */

/* What one certificate's list says of it, without policy. */
static int judge_link(const gw_rules *rules, const gw_snapshot *snapshot, const link *certificate, int64_t now,
                      gw_verdict *verdict) {
  const gw_table *table = certificate->issuer == NULL ? NULL : gw_snapshot_table(snapshot, certificate->issuer);
  if (table == NULL) {
    return GW_VERDICT_NO_LIST;
  }
  if (gw_table_find(table, certificate->serial, certificate->serial_length, &verdict->entry)) {
    return GW_VERDICT_REVOKED;
  }
  gw_table_meta meta;
  gw_table_get_meta(table, &meta);
  if (meta.this_update > now + GW_CLOCK_SKEW) {
    return GW_VERDICT_NO_LIST;
  }
  if (meta.next_update != 0 && now - rules->grace > meta.next_update) {
    verdict->next_update = meta.next_update;
    return GW_VERDICT_STALE;
  }
  return GW_VERDICT_GOOD;
}

/* The more a verdict weighs, the earlier it decides. */
static int weight(int kind) {
  switch (kind) {
    case GW_VERDICT_REVOKED:
      return 3;
    case GW_VERDICT_NO_LIST:
      return 2;
    case GW_VERDICT_STALE:
      return 1;
    default:
      return 0;
  }
}

static int error_of(int kind) {
  switch (kind) {
    case GW_VERDICT_REVOKED:
      return GW_X509_V_ERR_CERT_REVOKED;
    case GW_VERDICT_NO_LIST:
      return GW_X509_V_ERR_UNABLE_TO_GET_CRL;
    case GW_VERDICT_STALE:
      return GW_X509_V_ERR_CRL_HAS_EXPIRED;
    default:
      return 0;
  }
}

int gw_chain_judge(const gw_listener *listener, const gw_snapshot *snapshot, const gw_chain *chain, int64_t now,
                   gw_verdict *verdict) {
  gw_verdict worst = {.verdict = GW_VERDICT_GOOD, .entry = {.reason = -1}};
  for (size_t i = 0; i < chain->count; i++) {
    gw_verdict found = {.entry = {.reason = -1}, .depth = chain->links[i].depth};
    found.verdict = judge_link(&listener->rules, snapshot, &chain->links[i], now, &found);
    if (weight(found.verdict) > weight(worst.verdict)) {
      worst = found;
    }
  }
  gw_count(gw_world_counters(listener->world), GW_COUNT_LOOKUPS, chain->count);
  worst.error_code = error_of(worst.verdict);
  worst.let_in = worst.verdict == GW_VERDICT_GOOD ||
                 (worst.verdict != GW_VERDICT_REVOKED && listener->rules.on_unavailable != GW_UNAVAILABLE_REJECT);
  *verdict = worst;
  return worst.let_in;
}

/* --- the callback --- */

/* Ends the handshake: OpenSSL sends the alert that belongs to |error_code|. */
static int refuse(X509_STORE_CTX *ctx, gw_verification *verification, int error_code) {
  if (verification->leaf_der == NULL) {
    X509 *leaf = gw_openssl.X509_STORE_CTX_get0_cert(ctx);
    if (leaf != NULL) {
      verification->leaf_der = gw_x509_der(leaf, &verification->leaf_der_length);
    }
  }
  gw_openssl.X509_STORE_CTX_set_error(ctx, error_code);
  return 0;
}

static int refuse_untrusted(X509_STORE_CTX *ctx, gw_verification *verification, int error_code) {
  verification->verdict = (gw_verdict){.verdict = GW_VERDICT_UNTRUSTED,
                                       .depth = gw_openssl.X509_STORE_CTX_get_error_depth(ctx),
                                       .error_code = error_code,
                                       .entry = {.reason = -1}};
  return refuse(ctx, verification, error_code);
}

/* The chain that OpenSSL has just verified, or NULL. */
static gw_chain *verified_chain(gw_listener *listener, X509_STORE_CTX *ctx) {
  Cryptography_STACK_OF_X509 *certs = gw_openssl.X509_STORE_CTX_get1_chain(ctx);
  if (certs == NULL) {
    return NULL;
  }
  gw_chain *chain = gw_chain_from_verified(listener, certs);
  for (int i = gw_openssl.sk_X509_num(certs); i-- > 0;) {
    gw_openssl.X509_free(gw_openssl.sk_X509_value(certs, i));
  }
  gw_openssl.sk_X509_free(certs);
  return chain;
}

void gw_verdict_count(const gw_listener *listener, const gw_verdict *verdict) {
  static const int refused[] = {[GW_VERDICT_REVOKED] = GW_COUNT_REFUSED_REVOKED,
                                [GW_VERDICT_NO_LIST] = GW_COUNT_REFUSED_NO_LIST,
                                [GW_VERDICT_STALE] = GW_COUNT_REFUSED_STALE};
  if (verdict->verdict < GW_VERDICT_REVOKED || verdict->verdict > GW_VERDICT_STALE) {
    return;
  }
  if (!verdict->let_in) {
    gw_count(gw_world_counters(listener->world), refused[verdict->verdict], 1);
  } else if (listener->rules.on_unavailable == GW_UNAVAILABLE_ACCEPT) {
    gw_count(gw_world_counters(listener->world), GW_COUNT_ACCEPTED_UNCHECKED, 1);
  }
}

/* OpenSSL calls it for each error it finds, and, once all signatures are
 * verified, for each certificate from the anchor down with |ok| = 1: at depth 0
 * the whole chain is good in OpenSSL's eyes. Whatever goes wrong here refuses. */
static int on_verify(int ok, X509_STORE_CTX *ctx) {
  gw_verification *verification = current;
  if (verification == NULL) {
    gw_openssl.X509_STORE_CTX_set_error(ctx, GW_X509_V_ERR_UNSPECIFIED);
    return 0;
  }
  if (!ok) {
    return refuse_untrusted(ctx, verification, gw_openssl.X509_STORE_CTX_get_error(ctx));
  }
  gw_listener *listener = verification->listener;
  if (gw_openssl.X509_STORE_CTX_get_error_depth(ctx) > 0 || listener->rules.check == GW_CHECK_OFF) {
    return 1;
  }
  gw_chain_free(verification->chain);
  verification->chain = verified_chain(listener, ctx);
  if (verification->chain == NULL) {
    return refuse_untrusted(ctx, verification, GW_X509_V_ERR_OUT_OF_MEM);
  }
  gw_snapshot *snapshot = gw_world_snapshot(listener->world);
  int let_in = gw_chain_judge(listener, snapshot, verification->chain, time(NULL), &verification->verdict);
  gw_snapshot_free(snapshot);
  gw_verdict_count(listener, &verification->verdict);
  if (!let_in) {
    return refuse(ctx, verification, verification->verdict.error_code);
  }
  if (verification->verdict.verdict != GW_VERDICT_GOOD) {
    X509 *leaf = gw_openssl.X509_STORE_CTX_get0_cert(ctx);
    verification->leaf_der = leaf == NULL ? NULL : gw_x509_der(leaf, &verification->leaf_der_length);
  }
  return 1;
}

void gw_listener_arm(void *ssl_ctx, int mode) { gw_openssl.SSL_CTX_set_verify(ssl_ctx, mode, on_verify); }
