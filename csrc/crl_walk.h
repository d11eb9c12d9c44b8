/* crl_walk.h - the DER of a CertificateList (RFC 5280, section 5.1), walked without copying. Foreign bytes: every
 * function here is safe on any input, allocates nothing and keeps no pointer past the call unless it says so. */
#ifndef GW_CRL_WALK_H
#define GW_CRL_WALK_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* Offsets and lengths into the DER of one CertificateList, in bytes. */
typedef struct {
  size_t tbs_at, tbs_length;             /* tbsCertList, whole TLV: what the signature covers */
  size_t tbs_content_at;                 /* first byte inside tbsCertList */
  size_t revoked_at, revoked_length;     /* revokedCertificates, whole TLV; both 0 where there is none */
  size_t entries_at, entries_length;     /* what stands inside it */
  size_t after_revoked_at;               /* first byte of tbsCertList behind revokedCertificates (or where it would be) */
  size_t signature_algorithm_at, signature_algorithm_length; /* outer signatureAlgorithm, whole TLV */
  size_t signature_at, signature_length; /* octets of signatureValue, without the unused-bits octet */
  size_t total_length;                   /* length of the CertificateList; always the length given */
} gw_crl_parts;

/* One entry of revokedCertificates. Pointers borrow from the DER. */
typedef struct {
  const uint8_t *serial; /* content octets of userCertificate as they stand there */
  size_t serial_length;  /* at least 1 */
  int64_t revocation_date; /* seconds since 1970, UTC */
  int reason;            /* CRLReason 0..10, or -1 where there is none */
} gw_crl_entry;

/* gw_crl_split finds the parts of the CertificateList in |der|. Returns 1, or 0 with |error| for anything that is not
 * exactly one well-formed DER CertificateList (trailing bytes included). It does not look inside names, extensions or
 * entries. */
int gw_crl_split(const uint8_t *der, size_t length, gw_crl_parts *parts, gw_error *error);

/* gw_crl_next_entry reads the entry at |*position| (an offset into |entries|, 0 to begin with) and moves on. Returns 1
 * with |entry| filled, or 0: at the end with |error->text| empty, else with what is wrong. A critical entry extension
 * that is not reasonCode makes the list unusable (RFC 5280, section 5.3): certificateIssuer is named as an indirect
 * CRL. */
int gw_crl_next_entry(const uint8_t *entries, size_t length, size_t *position, gw_crl_entry *entry, gw_error *error);

#endif
