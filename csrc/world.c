#include "world.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  gw_issuer issuer; /* inside |table| */
  int64_t this_update;
  gw_table *table; /* owned: one reference */
} item;

struct gw_snapshot {
  atomic_size_t references;
  size_t count;
  item items[]; /* sorted by issuer, the later list of one issuer first */
};

struct gw_world {
  pthread_mutex_t lock;  /* of |snapshot| */
  gw_snapshot *snapshot; /* owned: one reference; never NULL */
  uint64_t *counters;
};

static int compare_octets(const uint8_t *a, size_t a_length, const uint8_t *b, size_t b_length) {
  return a_length == b_length ? memcmp(a, b, a_length) : a_length < b_length ? -1 : 1;
}

int gw_issuer_compare(const gw_issuer *a, const gw_issuer *b) {
  int order = compare_octets(a->key, a->key_length, b->key, b->key_length);
  return order != 0 ? order : compare_octets(a->name, a->name_length, b->name, b->name_length);
}

static int compare_items(const void *left, const void *right) {
  const item *a = left, *b = right;
  int order = gw_issuer_compare(&a->issuer, &b->issuer);
  return order != 0 ? order : (a->this_update < b->this_update) - (a->this_update > b->this_update);
}

static gw_snapshot *new_snapshot(gw_table *const *tables, size_t count) {
  gw_snapshot *snapshot = malloc(sizeof *snapshot + count * sizeof *snapshot->items);
  if (snapshot == NULL) {
    return NULL;
  }
  atomic_init(&snapshot->references, 1);
  snapshot->count = count;
  for (size_t i = 0; i < count; i++) {
    gw_table_meta meta;
    gw_table_get_meta(tables[i], &meta);
    gw_table_up_ref(tables[i]);
    gw_issuer issuer = {meta.issuer_name, meta.issuer_name_length, meta.issuer_key, meta.issuer_key_length};
    snapshot->items[i] = (item){issuer, meta.this_update, tables[i]};
  }
  qsort(snapshot->items, count, sizeof *snapshot->items, compare_items);
  return snapshot;
}

gw_world *gw_world_new(uint64_t *counters) {
  gw_world *world = malloc(sizeof *world);
  gw_snapshot *snapshot = new_snapshot(NULL, 0);
  if (world == NULL || snapshot == NULL || pthread_mutex_init(&world->lock, NULL) != 0) {
    free(snapshot);
    free(world);
    return NULL;
  }
  world->snapshot = snapshot;
  world->counters = counters;
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

int gw_world_publish(gw_world *world, gw_table *const *tables, size_t count, gw_error *error) {
  gw_snapshot *snapshot = new_snapshot(tables, count);
  if (snapshot == NULL) {
    return gw_fail(error, "no memory for %zu tables; the tables in force stay", count);
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
    if (gw_issuer_compare(&snapshot->items[middle].issuer, issuer) < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  /* The first of its issuer: the others behind it are older. */
  int found = low < snapshot->count && gw_issuer_compare(&snapshot->items[low].issuer, issuer) == 0;
  return found ? snapshot->items[low].table : NULL;
}
