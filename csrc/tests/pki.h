/* pki.h - certificates, lists and tables for tests, made when the test runs.
 *
 * Whatever fails stops the test. An `identity` owns certificate and key;
 * identity_free releases them. */
#ifndef GW_PKI_H
#define GW_PKI_H

#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../certificate.h"
#include "../verify.h"
#include "check.h"
#include "make_table.h"

typedef struct {
  EVP_PKEY *key;
  X509 *certificate;
} identity;

static inline void identity_free(identity *one) {
  X509_free(one->certificate);
  EVP_PKEY_free(one->key);
  *one = (identity){NULL, NULL};
}

/* set_serial puts the number written in hexadecimal (with a sign where it is negative) into |serial|. */
static inline void set_serial(ASN1_INTEGER *serial, const char *hexadecimal) {
  BIGNUM *number = NULL;
  CHECK(BN_hex2bn(&number, hexadecimal) > 0 && BN_to_ASN1_INTEGER(number, serial) == serial);
  BN_free(number);
}

static inline void add_extension(X509 *certificate, int nid, const char *value) {
  X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
  CHECK(extension != NULL && X509_add_ext(certificate, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

/* identity_with_key signs a certificate of |key|, which becomes its own, by |issuer|, or by itself where that is NULL. */
static inline identity identity_with_key(const char *name, const char *serial, const identity *issuer, int is_ca,
                                         EVP_PKEY *key) {
  identity made = {key, X509_new()};
  CHECK(made.key != NULL && made.certificate != NULL && X509_set_version(made.certificate, 2) == 1);
  set_serial(X509_get_serialNumber(made.certificate), serial);
  CHECK(X509_gmtime_adj(X509_getm_notBefore(made.certificate), -3600) != NULL);
  CHECK(X509_gmtime_adj(X509_getm_notAfter(made.certificate), 3600) != NULL);
  X509_NAME *subject = X509_get_subject_name(made.certificate);
  CHECK(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0) == 1);
  X509 *above = issuer == NULL ? made.certificate : issuer->certificate;
  CHECK(X509_set_issuer_name(made.certificate, X509_get_subject_name(above)) == 1);
  CHECK(X509_set_pubkey(made.certificate, made.key) == 1);
  if (is_ca) {
    add_extension(made.certificate, NID_basic_constraints, "critical,CA:TRUE");
  }
  CHECK(X509_sign(made.certificate, issuer == NULL ? made.key : issuer->key, EVP_sha256()) > 0);
  return made;
}

/* identity_make does so with a key of P-256. */
static inline identity identity_make(const char *name, const char *serial, const identity *issuer, int is_ca) {
  return identity_with_key(name, serial, issuer, is_ca, EVP_EC_gen("P-256"));
}

/* serials that a list holds; the end is NULL. */
#define SERIALS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NO_SERIALS ((const char *const[]){NULL})

/* entry_der appends an entry of revokedCertificates with this serial to |der|, which has |length| bytes; freed with
 * OPENSSL_free. Returns the new length. */
static inline size_t entry_der(const char *hexadecimal, unsigned char **der, size_t length) {
  X509_REVOKED *entry = X509_REVOKED_new();
  ASN1_INTEGER *serial = ASN1_INTEGER_new();
  ASN1_TIME *moment = ASN1_TIME_set(NULL, time(NULL) - 60);
  CHECK(entry != NULL && serial != NULL && moment != NULL);
  set_serial(serial, hexadecimal);
  CHECK(X509_REVOKED_set_serialNumber(entry, serial) == 1 && X509_REVOKED_set_revocationDate(entry, moment) == 1);
  int more = i2d_X509_REVOKED(entry, NULL);
  CHECK(more > 0 && (*der = OPENSSL_realloc(*der, length + (size_t)more)) != NULL);
  unsigned char *end = *der + length;
  CHECK(i2d_X509_REVOKED(entry, &end) == more);
  ASN1_INTEGER_free(serial);
  ASN1_TIME_free(moment);
  X509_REVOKED_free(entry);
  return length + (size_t)more;
}

/* table_make compiles a list of |issuer| into a table of one reference. */
static inline gw_table *table_make(const identity *issuer, const char *const *serials, int64_t this_update,
                                   int64_t next_update) {
  unsigned char *entries = NULL, *name = NULL, *key = NULL;
  size_t length = 0;
  for (; *serials != NULL; serials++) {
    length = entry_der(*serials, &entries, length);
  }
  int name_length = i2d_X509_NAME(X509_get_subject_name(issuer->certificate), &name);
  int key_length = i2d_PUBKEY(issuer->key, &key);
  CHECK(name_length > 0 && key_length > 0);
  gw_table_meta meta = {.issuer_name = name,
                        .issuer_name_length = (size_t)name_length,
                        .issuer_key = key,
                        .issuer_key_length = (size_t)key_length,
                        .signature = (const uint8_t *)"signature",
                        .signature_length = 9,
                        .this_update = this_update,
                        .next_update = next_update};
  gw_table *table = table_open(entries, length, &meta);
  OPENSSL_free(entries);
  OPENSSL_free(name);
  OPENSSL_free(key);
  return table;
}

/* cover_of is what a list without any limits says of its issuer's certificates. It borrows from |table|. */
static inline gw_cover cover_of(gw_table *table) {
  gw_table_meta meta;
  gw_table_get_meta(table, &meta);
  return (gw_cover){.issuer = {meta.issuer_name, meta.issuer_name_length, meta.issuer_key, meta.issuer_key_length},
                    .reasons = GW_ALL_REASONS,
                    .this_update = meta.this_update,
                    .next_update = meta.next_update,
                    .table = table};
}

/* publish puts |count| tables in force and gives up the caller's references. */
static inline void publish(gw_world *world, size_t count, gw_table *const *tables) {
  gw_cover covers[16] = {{.reasons = 0}};
  gw_error error = {""};
  CHECK(count <= sizeof covers / sizeof *covers);
  for (size_t i = 0; i < count; i++) {
    covers[i] = cover_of(tables[i]);
  }
  CHECK(gw_world_publish(world, covers, count, &error));
  for (size_t i = 0; i < count; i++) {
    gw_table_free(tables[i]);
  }
}
#define PUBLISH(world, ...) \
  publish((world), sizeof((gw_table *[]){__VA_ARGS__}) / sizeof(gw_table *), (gw_table *[]){__VA_ARGS__})

/* register_ca tells |listener| of |ca|; returns its index. */
static inline int register_ca(gw_listener *listener, const identity *ca, int parent) {
  int index = gw_listener_add_ca(listener, ca->certificate, parent);
  CHECK(index >= 0);
  return index;
}

#endif
