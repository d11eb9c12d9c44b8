#include "world.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct gw_issuer {
  struct gw_issuer *next; /* in its bucket */
  uint64_t hash;
  size_t name_length, key_length;
  uint8_t octets[]; /* name, then key */
};

enum { BUCKETS = 1024 };

static pthread_mutex_t issuers_lock = PTHREAD_MUTEX_INITIALIZER;
static gw_issuer *issuers[BUCKETS];
static size_t issuers_count;

/* FNV-1a: the bucket only; equality is decided by the octets. */
static uint64_t hash_octets(uint64_t hash, const uint8_t *octets, size_t length) {
  for (size_t i = 0; i < length; i++) {
    hash = (hash ^ octets[i]) * UINT64_C(0x100000001b3);
  }
  return hash;
}

static int is_issuer(const gw_issuer *issuer, uint64_t hash, const uint8_t *name, size_t name_length,
                     const uint8_t *key, size_t key_length) {
  return issuer->hash == hash && issuer->name_length == name_length && issuer->key_length == key_length &&
         memcmp(issuer->octets, name, name_length) == 0 && memcmp(issuer->octets + name_length, key, key_length) == 0;
}

static gw_issuer *new_issuer(uint64_t hash, const uint8_t *name, size_t name_length, const uint8_t *key,
                             size_t key_length) {
  gw_issuer *issuer = malloc(sizeof *issuer + name_length + key_length);
  if (issuer == NULL) {
    return NULL;
  }
  *issuer = (gw_issuer){.hash = hash, .name_length = name_length, .key_length = key_length};
  memcpy(issuer->octets, name, name_length);
  memcpy(issuer->octets + name_length, key, key_length);
  return issuer;
}

const gw_issuer *gw_issuer_intern(const uint8_t *name, size_t name_length, const uint8_t *key, size_t key_length) {
  uint64_t hash = hash_octets(hash_octets(UINT64_C(0xcbf29ce484222325), name, name_length), key, key_length);
  gw_issuer **bucket = &issuers[hash % BUCKETS];
  pthread_mutex_lock(&issuers_lock);
  gw_issuer *issuer = *bucket;
  while (issuer != NULL && !is_issuer(issuer, hash, name, name_length, key, key_length)) {
    issuer = issuer->next;
  }
  if (issuer == NULL && issuers_count < GW_ISSUERS_MAX) {
    issuer = new_issuer(hash, name, name_length, key, key_length);
    if (issuer != NULL) {
      issuer->next = *bucket;
      *bucket = issuer;
      issuers_count++;
    }
  }
  pthread_mutex_unlock(&issuers_lock);
  return issuer;
}

struct item {
  const gw_issuer *issuer;
  gw_table *table; /* owned: one reference */
  int64_t this_update;
};

struct gw_snapshot {
  atomic_size_t references;
  size_t count;
  struct item items[]; /* sorted by the address of the issuer */
};

struct gw_world {
  pthread_mutex_t lock;  /* of |snapshot| */
  gw_snapshot *snapshot; /* owned: one reference; never NULL */
  uint64_t *counters;
};

static gw_snapshot *new_snapshot(size_t room) {
  gw_snapshot *snapshot = malloc(sizeof *snapshot + room * sizeof *snapshot->items);
  if (snapshot != NULL) {
    atomic_init(&snapshot->references, 1);
    snapshot->count = 0;
  }
  return snapshot;
}

gw_world *gw_world_new(uint64_t *counters) {
  gw_world *world = malloc(sizeof *world);
  if (world == NULL) {
    return NULL;
  }
  world->counters = counters;
  world->snapshot = new_snapshot(0);
  if (world->snapshot == NULL || pthread_mutex_init(&world->lock, NULL) != 0) {
    free(world->snapshot);
    free(world);
    return NULL;
  }
  return world;
}

void gw_world_free(gw_world *world) {
  if (world != NULL) {
    gw_snapshot_free(world->snapshot);
    pthread_mutex_destroy(&world->lock);
    free(world);
  }
}

uint64_t *gw_world_counters(const gw_world *world) { return world->counters; }

static int by_issuer(const void *left, const void *right) {
  const struct item *a = left, *b = right;
  uintptr_t x = (uintptr_t)a->issuer, y = (uintptr_t)b->issuer;
  if (x != y) {
    return x < y ? -1 : 1;
  }
  /* The later list of one issuer first: the others behind it are dropped. */
  return a->this_update == b->this_update ? 0 : a->this_update > b->this_update ? -1 : 1;
}

static int fill_snapshot(gw_snapshot *snapshot, gw_table *const *tables, size_t count, gw_error *error) {
  for (size_t i = 0; i < count; i++) {
    gw_table_meta meta;
    gw_table_get_meta(tables[i], &meta);
    const gw_issuer *issuer =
        gw_issuer_intern(meta.issuer_name, meta.issuer_name_length, meta.issuer_key, meta.issuer_key_length);
    if (issuer == NULL) {
      return gw_fail(error, "no room for another issuer; the tables in force stay");
    }
    gw_table_up_ref(tables[i]);
    snapshot->items[snapshot->count++] = (struct item){issuer, tables[i], meta.this_update};
  }
  qsort(snapshot->items, snapshot->count, sizeof *snapshot->items, by_issuer);
  size_t kept = 0;
  for (size_t i = 0; i < snapshot->count; i++) {
    if (kept > 0 && snapshot->items[kept - 1].issuer == snapshot->items[i].issuer) {
      gw_table_free(snapshot->items[i].table);
    } else {
      snapshot->items[kept++] = snapshot->items[i];
    }
  }
  snapshot->count = kept;
  return 1;
}

int gw_world_publish(gw_world *world, gw_table *const *tables, size_t count, gw_error *error) {
  gw_snapshot *snapshot = new_snapshot(count);
  if (snapshot == NULL) {
    return gw_fail(error, "no memory for %zu tables; the tables in force stay", count);
  }
  if (!fill_snapshot(snapshot, tables, count, error)) {
    gw_snapshot_free(snapshot);
    return 0;
  }
  pthread_mutex_lock(&world->lock);
  gw_snapshot *old = world->snapshot;
  world->snapshot = snapshot;
  pthread_mutex_unlock(&world->lock);
  gw_snapshot_free(old);
  return 1;
}

gw_snapshot *gw_world_snapshot(gw_world *world) {
  pthread_mutex_lock(&world->lock);
  gw_snapshot *snapshot = world->snapshot;
  atomic_fetch_add_explicit(&snapshot->references, 1, memory_order_relaxed);
  pthread_mutex_unlock(&world->lock);
  return snapshot;
}

void gw_snapshot_free(gw_snapshot *snapshot) {
  if (snapshot == NULL || atomic_fetch_sub_explicit(&snapshot->references, 1, memory_order_acq_rel) != 1) {
    return;
  }
  for (size_t i = 0; i < snapshot->count; i++) {
    gw_table_free(snapshot->items[i].table);
  }
  free(snapshot);
}

const gw_table *gw_snapshot_table(const gw_snapshot *snapshot, const gw_issuer *issuer) {
  size_t low = 0, high = snapshot->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if ((uintptr_t)snapshot->items[middle].issuer < (uintptr_t)issuer) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < snapshot->count && snapshot->items[low].issuer == issuer ? snapshot->items[low].table : NULL;
}
