/* revoked.h - the revocation table: one immutable file per CRL issuer and generation.
 *
 * Compiled once from a CRL that has been verified, then mapped read-only by all workers. A lookup reads a few cache
 * lines, however many serials there are and whatever they look like (table_file.h says how). The file is of the
 * machine that wrote it: native byte order, checked when it is opened. */
#ifndef GW_REVOKED_H
#define GW_REVOKED_H

#include <stddef.h>
#include <stdint.h>

#include "crl_walk.h"
#include "error.h"

/* What is known of a list besides its entries. Pointers borrow: from the caller for gw_table_compile, from the mapping
 * (as long as the table lives) for gw_table_get_meta. */
typedef struct {
  const uint8_t *issuer_name; /* DER of the issuer's subject Name */
  size_t issuer_name_length;
  const uint8_t *issuer_key; /* DER of its SubjectPublicKeyInfo */
  size_t issuer_key_length;
  const uint8_t *signature; /* the CRL's signature: binds the file to the list it was made from */
  size_t signature_length;
  const uint8_t *number; /* CRL number, big-endian magnitude; length 0 where there is none */
  size_t number_length;
  int64_t this_update, next_update; /* seconds since 1970, UTC; next_update 0 where there is none */
  int indirect;                     /* to compile: entries may name their issuer */
} gw_table_meta;

typedef struct {
  int64_t revocation_date; /* seconds since 1970, UTC */
  int reason;              /* CRLReason, or -1 */
} gw_table_entry;

enum { GW_REMOVE_FROM_CRL = 8 }; /* of a delta: no longer revoked (RFC 5280, section 5.3.1) */

/* A slot: a piece of a serial, all of it as long as it has 20 octets or fewer. */
typedef struct {
  uint64_t facts; /* 0 where no serial ends, else seconds from the first date, then four bits: reason + 2 */
  uint32_t link;  /* 32 * (the slot of the piece before + 1, or 0) + how many octets follow; 0 where the slot is free */
  uint8_t octets[20];
} gw_table_record;

#define GW_TABLE_FIRST_DATE (-INT64_C(62167219200)) /* the year 0 */

typedef struct gw_table gw_table;

/* gw_table_size checks all |entries|, what stands inside revokedCertificates, and returns how many bytes their table
 * has; or 0 with |error|: a bad entry, or too much. */
size_t gw_table_size(const uint8_t *entries, size_t length, const gw_table_meta *meta, gw_error *error);

/* gw_table_compile writes the table of |entries| to |table|: zeros, aligned for a uint64_t, as many bytes as
 * gw_table_size says. Whose certificates the entries are of does not matter here: a table is of one CA. A serial that
 * stands twice is kept once, with its earliest date; one revoked and taken back is revoked. Returns 1 with the |count| of
 * distinct serials; or 0 with |error|: a bad entry, another |size|, or serials that were chosen to slow it down. */
int gw_table_compile(const uint8_t *entries, size_t length, const gw_table_meta *meta, uint8_t *table, size_t size,
                     uint64_t *count, gw_error *error);

/* gw_table_open maps the table in |fd| (which may be closed afterwards). The header is always checked; with |deep| the
 * checksum over the whole file too. Returns a table with one reference, or NULL with |error|. */
gw_table *gw_table_open(int fd, int deep, gw_error *error);

/* gw_table_up_ref takes, gw_table_free drops a reference; the last one unmaps. NULL is fine. Thread-safe. */
void gw_table_up_ref(gw_table *table);
void gw_table_free(gw_table *table);

/* gw_table_count returns the number of distinct serials. */
uint64_t gw_table_count(const gw_table *table);

/* gw_table_get_meta fills |meta| with pointers into the mapping. */
void gw_table_get_meta(const gw_table *table, gw_table_meta *meta);

/* gw_table_find returns 1 when the certificate with this serial is in the table and, if |entry| is not NULL, when and
 * why; else 0. |serial| is the content of a DER INTEGER; redundant leading octets do not matter. */
int gw_table_find(const gw_table *table, const uint8_t *serial, size_t length, gw_table_entry *entry);

/* gw_table_at returns the record in |slot|, free or not, as long as the table lives; or NULL behind the last one. For
 * people (inspect). */
const gw_table_record *gw_table_at(const gw_table *table, uint64_t slot);

#endif
