/* crl_walk.h - the entries of a certificate list (RFC 5280, section 5.1), read one after the other without copying.
 *
 * |entries| is what stands inside revokedCertificates. Foreign bytes: every function here is safe on any input,
 * allocates nothing and keeps no pointer past the call unless it says so. */
#ifndef GW_CRL_WALK_H
#define GW_CRL_WALK_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* One entry, without whose certificate it is: the first of an indirect list that names another issuer counts for all
 * that follow (RFC 5280, section 5.3.3). |serial| borrows from the entries. */
typedef struct {
  const uint8_t *serial;   /* content octets of userCertificate, trimmed */
  size_t serial_length;    /* at least 1 */
  int64_t revocation_date; /* seconds since 1970, UTC; of the years 0 to 9999 */
  int reason;              /* CRLReason 0..10, or -1 where there is none */
  size_t issuer_at, issuer_end; /* GeneralNames of certificateIssuer, offsets into the entries; 0 where there is none */
} gw_crl_entry;

/* gw_crl_next_entry reads the entry at |*position| (an offset into |entries|, 0 to begin with) and moves on. Returns 1
 * with |entry| filled, or 0: at the end with |error->text| empty, else with what is wrong. A critical entry extension
 * that is neither reasonCode nor certificateIssuer makes the list unusable (RFC 5280, section 5.3). */
int gw_crl_next_entry(const uint8_t *entries, size_t length, size_t *position, gw_crl_entry *entry, gw_error *error);

/* gw_crl_next_issuer goes on from |*position| to the next entry that names an issuer; |*begin| is where it begins.
 * Returns as gw_crl_next_entry does. */
int gw_crl_next_issuer(const uint8_t *entries, size_t length, size_t *position, size_t *begin, gw_crl_entry *entry,
                       gw_error *error);

/* gw_crl_trim drops redundant leading octets of a two's complement integer: 00 00 01 is 01, 00 FF is not FF. */
static inline void gw_crl_trim(const uint8_t **serial, size_t *length) {
  while (*length > 1 && ((*serial)[0] == 0x00 || (*serial)[0] == 0xff) && ((*serial)[0] ^ (*serial)[1]) < 0x80) {
    (*serial)++;
    (*length)--;
  }
}

#endif
