#include "verify.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "certificate.h"
#include "counters.h"

typedef struct {
  X509 *x509; /* borrowed, of the listener's store or kept by who told of it */
  BIO *der; /* owned */
  gw_certificate certificate; /* inside |der|, like |identity| */
  gw_issuer identity;
  int parent; /* index, or -1 */
} authority;

enum { MOST_AUTHORITIES = 4096 };

struct gw_listener {
  gw_world *world;
  gw_rules rules;
  atomic_int count; /* of authorities: those before it do not change any more */
  authority authorities[MOST_AUTHORITIES];
};

/* A certificate that is looked up, and those after it. */
struct gw_chain {
  gw_chain *next;
  int count;               /* of certificates, from this one on */
  int trusted;             /* of the first: the client is a trust anchor itself, and nothing is looked up */
  int depth;               /* 0 is the client's own */
  int is_ca;
  gw_issuer issuer;        /* in the listener's or in |sent|; without a key: not known, so covered by no list */
  BIO *sent;               /* owned: the DER of a CA that only the client has */
  size_t points_count, serial_length;
  gw_point points[]; /* and behind them the serial: content of the DER INTEGER */
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

/* Reads |x509| into |certificate|. Returns its DER, which that borrows from, for the caller to free; or NULL. */
static BIO *read_certificate(X509 *x509, gw_certificate *certificate) {
  BIO *der = gw_openssl.BIO_new(gw_openssl.BIO_s_mem());
  char *octets = NULL;
  if (der != NULL && gw_openssl.i2d_X509_bio(der, x509) == 1) {
    long length = gw_openssl.BIO_get_mem_data(der, &octets);
    if (gw_certificate_read((const uint8_t *)octets, (size_t)length, certificate)) return der;
  }
  (void)gw_openssl.BIO_free(der); /* NULL is fine */
  return NULL;
}

/* The identity of a CA, octet for octet as it stands in its certificate. */
static gw_issuer identity_of(const gw_certificate *ca) {
  const gw_der *name = &ca->subject, *key = &ca->key;
  return (gw_issuer){name->bytes + name->at, gw_der_left(name), key->bytes + key->at, gw_der_left(key)};
}

/* --- listeners --- */

gw_listener *gw_listener_new(gw_world *world, const gw_rules *rules) {
  gw_listener *listener = calloc(1, sizeof *listener);
  if (listener == NULL) return NULL;
  listener->world = world;
  listener->rules = *rules;
  atomic_init(&listener->count, 0);
  return listener;
}

void gw_listener_free(gw_listener *listener) {
  if (listener == NULL) return;
  for (int i = 0; i < listener->count; i++) (void)gw_openssl.BIO_free(listener->authorities[i].der);
  free(listener);
}

const gw_rules *gw_listener_rules(const gw_listener *listener) { return &listener->rules; }

gw_world *gw_listener_world(const gw_listener *listener) { return listener->world; }

void gw_listener_count(const gw_listener *listener, int which, int64_t delta) {
  gw_count(gw_world_counters(listener->world), which, (uint64_t)delta);
}

int gw_listener_add_ca(gw_listener *listener, void *x509, int parent) {
  int index = listener->count;
  authority added = {.x509 = x509, .parent = parent};
  added.der = index < MOST_AUTHORITIES ? read_certificate(x509, &added.certificate) : NULL;
  if (added.der == NULL) return -1;
  added.identity = identity_of(&added.certificate);
  listener->authorities[index] = added;
  atomic_store_explicit(&listener->count, index + 1, memory_order_release);
  return index;
}

/* The listener's own CA that is |x509|, or NULL. */
static const authority *find_own(const gw_listener *listener, const X509 *x509) {
  int count = atomic_load_explicit(&listener->count, memory_order_acquire);
  for (int i = 0; i < count; i++) {
    if (listener->authorities[i].x509 == x509) return &listener->authorities[i];
  }
  return NULL;
}

/* --- chains --- */

void gw_chain_free(gw_chain *chain) {
  while (chain != NULL) {
    gw_chain *next = chain->next;
    if (chain->sent != NULL) (void)gw_openssl.BIO_free(chain->sent);
    free(chain);
    chain = next;
  }
}

/* Makes the link of |certificate|, without what it hangs on. NULL without memory, or where it cannot be read. */
static gw_chain *new_link(const gw_certificate *certificate) {
  gw_point points[GW_MOST_POINTS];
  const gw_der *serial = &certificate->serial;
  size_t count = gw_certificate_points(certificate, points, GW_MOST_POINTS), length = gw_der_left(serial);
  gw_chain *link = count == 0 ? NULL : malloc(sizeof *link + count * sizeof *points + length);
  if (link != NULL) {
    *link = (gw_chain){.is_ca = certificate->is_ca, .points_count = count, .serial_length = length};
    memcpy(link->points, points, count * sizeof *points);
    memcpy(link->points + count, serial->bytes + serial->at, length);
  }
  return link;
}

/* Puts |subject|, signed by |issuer| (NULL where that is not known), before those of |chain|. Returns 1, or 0 without
 * memory or room: the chain must not be used then, it would lack what revokes it. */
static int add_link(gw_chain **chain, const gw_listener *listener, X509 *subject, X509 *issuer, int depth) {
  int count = *chain == NULL ? 1 : (*chain)->count + 1;
  const authority *own = find_own(listener, subject), *above = find_own(listener, issuer);
  gw_certificate read;
  BIO *der = own == NULL ? read_certificate(subject, &read) : NULL;
  const gw_certificate *certificate = own != NULL ? &own->certificate : der != NULL ? &read : NULL;
  gw_chain *link = certificate == NULL || count > MAX_LINKS ? NULL : new_link(certificate);
  (void)gw_openssl.BIO_free(der);
  if (link == NULL) return 0;
  link->next = *chain;
  link->count = count;
  link->depth = depth;
  link->sent = above == NULL && issuer != NULL ? read_certificate(issuer, &read) : NULL;
  link->issuer = above != NULL ? above->identity : link->sent != NULL ? identity_of(&read) : (gw_issuer){0};
  *chain = link;
  return link->issuer.key != NULL || issuer == NULL;
}

int gw_chain_extend(gw_verification *verification, X509 *certificate, int depth) {
  const gw_listener *listener = verification->listener;
  X509 *issuer = verification->above;
  verification->above = certificate;
  /* No list covers the trust anchor (RFC 5280, section 6.1). */
  if (depth > 0 && (issuer == NULL || listener->rules.check != GW_CHECK_CHAIN)) return 1;
  if (!add_link(&verification->chain, listener, certificate, issuer, depth)) return 0;
  verification->chain->trusted = issuer == NULL && find_own(listener, certificate) != NULL;
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
  gw_certificate read;
  BIO *der = ca->parent < 0 && named ? read_certificate(leaf, &read) : NULL;
  gw_issuer identity = der != NULL ? identity_of(&read) : (gw_issuer){0};
  int same = der != NULL && gw_issuer_compare(&identity, &ca->identity) == 0;
  (void)gw_openssl.BIO_free(der);
  return same;
}

gw_chain *gw_chain_from_leaf(gw_listener *listener, X509 *leaf) {
  gw_chain *chain = NULL;
  X509_NAME *issuer = gw_openssl.X509_get_issuer_name(leaf);
  int trusted = 0, complete = 1;
  for (int i = atomic_load_explicit(&listener->count, memory_order_acquire); i-- > 0 && !trusted && complete;) {
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
    [GW_VERDICT_NO_ANSWER] = {GW_X509_V_ERR_OCSP_VERIFY_NEEDED, GW_COUNT_REFUSED_NO_ANSWER},
    [GW_VERDICT_NO_LIST] = {GW_X509_V_ERR_UNABLE_TO_GET_CRL, GW_COUNT_REFUSED_NO_LIST},
    [GW_VERDICT_REVOKED] = {GW_X509_V_ERR_CERT_REVOKED, GW_COUNT_REFUSED_REVOKED},
};

/* Of the reasons for which |cover|, of |link|'s issuer, may be asked about it (RFC 5280, section 6.3.3 (b) and (d)). */
static uint32_t reasons_of(const gw_cover *cover, const gw_chain *link) {
  uint32_t reasons = 0;
  if (cover->subjects == GW_ALL_SUBJECTS || cover->subjects == (link->is_ca ? GW_CAS_ONLY : GW_USERS_ONLY)) {
    for (const gw_point *point = link->points; point < link->points + link->points_count; point++) {
      if (cover->crl_issuer == point->crl_issuer && (cover->point == 0 || cover->point == point->name)) {
        reasons |= cover->reasons & point->reasons;
      }
    }
  }
  return reasons;
}

/* Whether |cover| has |link|'s serial: what its delta says goes before (section 6.3.3 (i) to (k)). */
static int lists(const gw_cover *cover, const gw_chain *link, gw_table_entry *entry) {
  const uint8_t *serial = (const uint8_t *)(link->points + link->points_count);
  if (cover->delta != NULL && gw_table_find(cover->delta, serial, link->serial_length, entry)) {
    return entry->reason != GW_REMOVE_FROM_CRL;
  }
  return gw_table_find(cover->table, serial, link->serial_length, entry);
}

/* What is found out about one certificate, list by list. */
typedef struct {
  uint32_t covered, expired; /* reasons for which there is a list that is fresh, that is not */
  int64_t ended;             /* when the last of those ended */
} coverage;

/* Asks the covers of one |point| about |link|. Returns 1 where one of them revokes it. */
static int ask(const gw_rules *rules, const gw_snapshot *snapshot, const gw_chain *link, uint64_t point, int64_t now,
               coverage *all, gw_table_entry *entry) {
  size_t count;
  const gw_cover *covers = gw_snapshot_covers(snapshot, &link->issuer, point, &count);
  for (const gw_cover *cover = covers; cover < covers + count; cover++) {
    uint32_t reasons = reasons_of(cover, link);
    if ((reasons != 0 || cover->reasons == 0) && lists(cover, link, entry)) return 1;
    if (cover->this_update > now + GW_CLOCK_SKEW) continue;
    if (cover->next_update != 0 && now - rules->grace > cover->next_update) {
      all->expired |= reasons;
      all->ended = reasons != 0 && cover->next_update > all->ended ? cover->next_update : all->ended;
    } else {
      all->covered |= reasons;
    }
  }
  return 0;
}

/* What responders say of one certificate that no list revokes. */
static void heed(const gw_rules *rules, const gw_chain *link, int64_t now, gw_verdict *verdict) {
  gw_answer answer;
  const uint8_t *serial = (const uint8_t *)(link->points + link->points_count);
  int due = gw_answers_find(rules->answers, &link->issuer, serial, link->serial_length, now, &answer);
  verdict->ask = answer.status == GW_ANSWER_MISSING ? GW_ASK_FIRST : due ? GW_ASK_LATER : GW_ASK_NOTHING;
  if (answer.status == GW_ANSWER_REVOKED) {
    verdict->verdict = GW_VERDICT_REVOKED;
    verdict->entry = answer.entry;
  } else if (answer.status == GW_ANSWER_GOOD) {
    verdict->verdict = GW_VERDICT_GOOD;
  } else if (rules->require_answer) {
    verdict->verdict = GW_VERDICT_NO_ANSWER;
    verdict->entry.reason = answer.status;
  }
}

/* What the lists of its issuer say of one certificate, without policy: those of no point in particular, then those of
 * its own. */
static gw_verdict judge_link(const gw_rules *rules, const gw_snapshot *snapshot, const gw_chain *link, int64_t now) {
  gw_verdict verdict = {.verdict = GW_VERDICT_NO_LIST, .depth = link->depth, .entry = {.reason = -1}};
  coverage all = {0};
  gw_table_entry entry; /* of the list that revokes; or else of a delta that takes back */
  int known = link->issuer.key != NULL, revoked = known && ask(rules, snapshot, link, 0, now, &all, &entry);
  for (size_t i = 0; known && i < link->points_count && !revoked; i++) {
    revoked = ask(rules, snapshot, link, link->points[i].name, now, &all, &entry);
  }
  if (revoked) {
    verdict.verdict = GW_VERDICT_REVOKED;
    verdict.entry = entry;
  } else if (all.covered == GW_ALL_REASONS) {
    verdict.verdict = GW_VERDICT_GOOD;
  } else if ((all.covered | all.expired) == GW_ALL_REASONS) {
    verdict.verdict = GW_VERDICT_STALE;
    verdict.next_update = all.ended;
  }
  if (!revoked && known && rules->answers != NULL) heed(rules, link, now, &verdict);
  return verdict;
}

int gw_chain_judge(const gw_listener *listener, const gw_snapshot *snapshot, const gw_chain *chain, int64_t now,
                   gw_verdict *verdict) {
  const gw_rules *rules = &listener->rules;
  int ask = GW_ASK_NOTHING;
  *verdict = (gw_verdict){.verdict = GW_VERDICT_GOOD, .entry = {.reason = -1}};
  for (const gw_chain *link = chain; link != NULL && !chain->trusted; link = link->next) {
    gw_verdict found = judge_link(rules, snapshot, link, now);
    ask = found.ask > ask ? found.ask : ask;
    if (found.verdict > verdict->verdict || (found.verdict == verdict->verdict && found.depth < verdict->depth)) {
      *verdict = found;
    }
  }
  gw_listener_count(listener, GW_COUNT_LOOKUPS, chain->trusted ? 0 : chain->count);
  int forgivable = verdict->verdict != GW_VERDICT_REVOKED && rules->on_unavailable != GW_UNAVAILABLE_REJECT;
  verdict->ask = ask;
  verdict->let_in = verdict->verdict == GW_VERDICT_GOOD || forgivable;
  verdict->error_code = CONSEQUENCES[verdict->verdict].error_code;
  return verdict->let_in;
}

int gw_judge(gw_world *world, const uint8_t *der, size_t length, const gw_issuer *issuer, int64_t grace, int64_t now,
             gw_verdict *verdict) {
  gw_certificate certificate;
  gw_chain *link = gw_certificate_read(der, length, &certificate) ? new_link(&certificate) : NULL;
  if (link == NULL) return 0;
  const gw_rules rules = {.grace = grace};
  gw_snapshot *snapshot = gw_world_snapshot(world);
  link->issuer = *issuer;
  *verdict = judge_link(&rules, snapshot, link, now);
  gw_snapshot_free(snapshot);
  gw_chain_free(link);
  return 1;
}

void gw_verdict_settle(const gw_listener *listener, gw_verdict *verdict) {
  if (gw_verdict_open(verdict)) {
    verdict->let_in = 1;
  } else if (verdict->verdict < GW_VERDICT_STALE || verdict->verdict > GW_VERDICT_REVOKED) {
    return;
  } else if (!verdict->let_in) {
    gw_listener_count(listener, CONSEQUENCES[verdict->verdict].counter, 1);
  } else if (listener->rules.on_unavailable == GW_UNAVAILABLE_ACCEPT) {
    gw_listener_count(listener, GW_COUNT_ACCEPTED_UNCHECKED, 1);
  }
}

/* --- the callback --- */

static int is_for(X509 *leaf, const gw_rules *rules) {
  gw_certificate read;
  BIO *der = read_certificate(leaf, &read);
  int all = der != NULL && gw_certificate_is_for(&read, rules->usages, rules->usages_length);
  (void)gw_openssl.BIO_free(der);
  return all;
}

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
  X509 *certificate = gw_openssl.X509_STORE_CTX_get_current_cert(ctx);
  if (ok && depth == 0 && listener->rules.usages_length > 0 && !is_for(certificate, &listener->rules)) {
    gw_openssl.X509_STORE_CTX_set_error(ctx, GW_X509_V_ERR_INVALID_PURPOSE);
    ok = 0;
  }
  if (ok && listener->rules.check == GW_CHECK_OFF) return 1;
  if (!ok || !gw_chain_extend(verification, certificate, depth)) {
    int error_code = ok ? GW_X509_V_ERR_INVALID_EXTENSION : gw_openssl.X509_STORE_CTX_get_error(ctx);
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
    gw_verdict_settle(listener, verdict);
  }
  if (!verdict->let_in) gw_openssl.X509_STORE_CTX_set_error(ctx, verdict->error_code);
  return verdict->let_in;
}

void gw_listener_arm(void *ssl_ctx, int mode) { gw_openssl.SSL_CTX_set_verify(ssl_ctx, mode, on_verify); }
