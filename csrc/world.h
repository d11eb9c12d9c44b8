/* world.h - the tables in force, as the lookups of one process see them.
 *
 * A `gw_world` points to one immutable `gw_snapshot` of tables, replaced as a
 * whole: a lookup takes a reference to the snapshot and is not disturbed by the
 * next one. The last reference releases the tables it held. */
#ifndef GW_WORLD_H
#define GW_WORLD_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "revoked.h"

/* A CRL issuer: name and key together, the DER of its Name and of its
 * SubjectPublicKeyInfo (RFC 5280, section 6.3: a list of another key of the same
 * name does not count). Borrows the octets, which decide alone: two issuers are
 * one when all of them are the same. */
typedef struct {
  const uint8_t *name;
  size_t name_length;
  const uint8_t *key;
  size_t key_length;
} gw_issuer;

typedef struct gw_world gw_world;
typedef struct gw_snapshot gw_snapshot;

/* gw_issuer_compare returns 0 when |a| and |b| are one issuer, else less or more than 0: an order of all issuers. */
int gw_issuer_compare(const gw_issuer *a, const gw_issuer *b);

/* gw_world_new makes a world without tables, or NULL. gw_world_free releases it
 * (NULL is fine). |counters| is borrowed and may be NULL. */
gw_world *gw_world_new(uint64_t *counters);
void gw_world_free(gw_world *world);

/* gw_world_counters returns the page that the world was made with. */
uint64_t *gw_world_counters(const gw_world *world);

/* gw_world_publish makes |tables| the tables in force, all at once. It takes
 * its own references; the caller keeps its own. Of two tables of one issuer the
 * one with the later thisUpdate counts. Returns 1, or 0 with |error| and the old
 * ones in force. Thread-safe. */
int gw_world_publish(gw_world *world, gw_table *const *tables, size_t count, gw_error *error);

/* gw_world_snapshot takes a reference to the tables in force; gw_snapshot_free drops it. Thread-safe. */
gw_snapshot *gw_world_snapshot(gw_world *world);
void gw_snapshot_free(gw_snapshot *snapshot);

/* gw_snapshot_table returns the table of |issuer|, borrowed from the snapshot, or NULL. */
const gw_table *gw_snapshot_table(const gw_snapshot *snapshot, const gw_issuer *issuer);

#endif
