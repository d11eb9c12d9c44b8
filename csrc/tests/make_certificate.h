/* make_certificate.h - certificates put together from their elements, with no key and no signature: what OpenSSL would
 * not write can be written here. */
#ifndef GW_MAKE_CERTIFICATE_H
#define GW_MAKE_CERTIFICATE_H

#include "make_crl.h"

/* rdn_add appends a RelativeDistinguishedName of |tag| (SET, or what it is instead of one) with one common name. */
static inline void rdn_add(bytes *out, uint8_t tag, const char *common_name) {
  bytes attribute = {0}, set = {0};
  der_add(&attribute, 0x06, "\x55\x04\x03", 3);
  der_add(&attribute, 0x0c, common_name, strlen(common_name));
  der_wrap(&set, 0x30, &attribute);
  der_wrap(out, tag, &set);
}

/* name_add appends a Name of one common name. */
static inline void name_add(bytes *out, const char *common_name) {
  bytes rdns = {0};
  rdn_add(&rdns, 0x31, common_name);
  der_wrap(out, 0x30, &rdns);
}

/* uri_add and directory_add append a GeneralName. */
static inline void uri_add(bytes *out, const char *uri) { der_add(out, 0x86, uri, strlen(uri)); }

static inline void directory_add(bytes *out, const char *common_name) {
  bytes name = {0};
  name_add(&name, common_name);
  der_wrap(out, 0xa4, &name);
}

/* point_add appends a DistributionPoint: |full| names, or |relative|, a whole RDN of tag A1; the content of its
 * ReasonFlags; the names of |issuers|. What is NULL is left out, the rest freed. */
static inline void point_add(bytes *out, bytes *full, bytes *relative, const char *reasons, size_t reasons_length,
                             bytes *issuers) {
  bytes point = {0}, choice = {0};
  if (full != NULL) {
    der_wrap(&choice, 0xa0, full);
  } else if (relative != NULL) {
    bytes_add(&choice, relative->at, relative->length);
    bytes_free(relative);
  }
  if (choice.length > 0) {
    der_wrap(&point, 0xa0, &choice);
  }
  if (reasons != NULL) {
    der_add(&point, 0x81, reasons, reasons_length);
  }
  if (issuers != NULL) {
    der_wrap(&point, 0xa2, issuers);
  }
  der_wrap(out, 0x30, &point);
}

/* points_extension appends the extension CRLDistributionPoints with |points|, which it frees. */
static inline void points_extension(bytes *extensions, bytes *points) {
  bytes value = {0};
  der_wrap(&value, 0x30, points);
  extension_add(extensions, "\x55\x1d\x1f", -1, value.at, value.length);
  bytes_free(&value);
}

/* tbs_make gives the content of the tbsCertificate with serial 05, issued by "issuer" to "subject"; |extensions|, which
 * it frees, may be NULL. */
static inline bytes tbs_make(bytes *extensions) {
  bytes tbs = {0}, version = {0}, wrapped = {0};
  der_add(&version, 0x02, "\x02", 1);
  der_wrap(&tbs, 0xa0, &version);
  der_add(&tbs, 0x02, "\x05", 1);
  der_add(&tbs, 0x30, NULL, 0); /* signature */
  name_add(&tbs, "issuer");
  der_add(&tbs, 0x30, NULL, 0); /* validity */
  name_add(&tbs, "subject");
  der_add(&tbs, 0x30, "the key", 7);
  if (extensions != NULL) {
    der_wrap(&wrapped, 0x30, extensions);
    der_wrap(&tbs, 0xa3, &wrapped);
  }
  return tbs;
}

/* certificate_make wraps |tbs|, which it frees. */
static inline bytes certificate_make(bytes *tbs) {
  bytes content = {0}, certificate = {0};
  der_wrap(&content, 0x30, tbs);
  der_add(&content, 0x30, NULL, 0);
  der_add(&content, 0x03, "\x00", 1);
  der_wrap(&certificate, 0x30, &content);
  return certificate;
}

/* certificate_with makes a certificate with |extensions|, which it frees; NULL for none. */
static inline bytes certificate_with(bytes *extensions) {
  bytes tbs = tbs_make(extensions);
  return certificate_make(&tbs);
}

#endif
