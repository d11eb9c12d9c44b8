/* revoked.h - the revocation table: one immutable file per CRL issuer and generation.
 *
 * Compiled once from a CRL that has been verified, then mapped read-only by all workers. A lookup reads one or two
 * cache lines, however many serials there are and whatever they look like (table_file.h says how). The file is of the
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
} gw_table_meta;

typedef struct {
  int64_t revocation_date; /* seconds since 1970, UTC */
  int reason;              /* CRLReason, or -1 */
} gw_table_entry;

typedef struct gw_table gw_table;

/* gw_table_compile writes the table of the entries of |parts| to |fd| (an empty regular file; the caller keeps it, and
 * has to fsync and rename). A serial that stands twice is kept once, with its earliest date. Returns 1 with |count|,
 * or 0 with |error|: bad entry, no memory, no disk. */
int gw_table_compile(const uint8_t *der, size_t length, const gw_crl_parts *parts, const gw_table_meta *meta, int fd,
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

/* gw_table_at copies the serial at |index| (content octets of its DER INTEGER, minimal) to |serial|, which has
 * |*length| octets of room, and sets |*length|. Returns 1, or 0 out of range or room. For people (inspect). */
int gw_table_at(const gw_table *table, uint64_t index, uint8_t *serial, size_t *length, gw_table_entry *entry);

#endif
