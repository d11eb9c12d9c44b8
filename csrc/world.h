/* world.h - the lists in force, as the lookups of one process see them.
 *
 * A `gw_world` points to one immutable `gw_snapshot` of covers, replaced as a
 * whole: a lookup takes a reference to the snapshot and is not disturbed by the
 * next one. The last reference releases the tables it held. */
#ifndef GW_WORLD_H
#define GW_WORLD_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "revoked.h"

/* A CA: name and key together, the DER of its Name and of its SubjectPublicKeyInfo.
 * Borrows the octets, which decide alone: two issuers are one when all of them are
 * the same. */
typedef struct {
  const uint8_t *name;
  size_t name_length;
  const uint8_t *key;
  size_t key_length;
} gw_issuer;

enum { GW_ALL_SUBJECTS, GW_USERS_ONLY, GW_CAS_ONLY };

/* What one list says of the certificates of one CA. A list that covers several CAs (after a key rollover; an indirect
 * one), or has several names, makes several of these: which they are is control's to find out, once for each list. */
typedef struct {
  gw_issuer issuer;    /* of the certificates */
  uint64_t crl_issuer; /* digest of the name of who signed where the list is indirect: for those alone that name it */
  uint64_t point;      /* digest of the distribution point's name; 0: of all */
  uint32_t reasons;    /* for which it was asked; 0: it revokes, and covers nothing */
  int subjects;        /* which of its certificates */
  int64_t this_update, next_update; /* seconds since 1970, UTC; next_update 0 where it never ends */
  gw_table *table;
  gw_table *delta; /* of later changes, or NULL; an entry of it with the reason removeFromCRL takes one of |table| back */
} gw_cover;

typedef struct gw_world gw_world;
typedef struct gw_snapshot gw_snapshot;

/* gw_issuer_compare returns 0 when |a| and |b| are one issuer, else less or more than 0: an order of all issuers. */
int gw_issuer_compare(const gw_issuer *a, const gw_issuer *b);

/* gw_world_new makes a world without lists, or NULL. gw_world_free releases it
 * (NULL is fine). |counters| is borrowed and may be NULL. */
gw_world *gw_world_new(uint64_t *counters);
void gw_world_free(gw_world *world);

/* gw_world_counters returns the page that the world was made with. */
uint64_t *gw_world_counters(const gw_world *world);

/* gw_world_publish puts |covers| in force, all at once. It copies them with the
 * octets of their issuers, and takes its own references to their tables. Returns
 * 1, or 0 with |error| and the old ones in force. Thread-safe. */
int gw_world_publish(gw_world *world, const gw_cover *covers, size_t count, gw_error *error);

/* gw_world_snapshot takes a reference to what is in force; gw_snapshot_free drops it. Thread-safe. */
gw_snapshot *gw_world_snapshot(gw_world *world);
void gw_snapshot_free(gw_snapshot *snapshot);

/* gw_snapshot_covers returns the first of the covers of |issuer| and |point|, which stand side by side, borrowed from
 * the snapshot, and how many there are. */
const gw_cover *gw_snapshot_covers(const gw_snapshot *snapshot, const gw_issuer *issuer, uint64_t point,
                                   size_t *count);

#endif
