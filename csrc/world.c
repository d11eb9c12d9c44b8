#include "world.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct gw_snapshot {
  atomic_size_t references;
  size_t count;
  gw_cover covers[]; /* by issuer and point; a reference to each table; behind them the octets of the issuers */
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

static int compare_places(const gw_cover *cover, const gw_issuer *issuer, uint64_t point) {
  int order = gw_issuer_compare(&cover->issuer, issuer);
  return order != 0 ? order : (cover->point > point) - (cover->point < point);
}

static int compare_covers(const void *left, const void *right) {
  const gw_cover *other = right;
  return compare_places(left, &other->issuer, other->point);
}

static const uint8_t *copy(uint8_t **room, const uint8_t *octets, size_t length) {
  uint8_t *copied = *room;
  if (length > 0) memcpy(copied, octets, length); /* of nothing there may be no pointer */
  *room += length;
  return copied;
}

static gw_snapshot *new_snapshot(const gw_cover *covers, size_t count) {
  size_t octets = 0;
  for (size_t i = 0; i < count; i++) octets += covers[i].issuer.name_length + covers[i].issuer.key_length;
  gw_snapshot *snapshot = malloc(sizeof *snapshot + count * sizeof *covers + octets);
  if (snapshot == NULL) return NULL;
  atomic_init(&snapshot->references, 1);
  snapshot->count = count;
  uint8_t *room = (uint8_t *)(snapshot->covers + count);
  for (size_t i = 0; i < count; i++) {
    gw_cover *cover = &snapshot->covers[i];
    *cover = covers[i];
    cover->issuer.name = copy(&room, cover->issuer.name, cover->issuer.name_length);
    cover->issuer.key = copy(&room, cover->issuer.key, cover->issuer.key_length);
    gw_table_up_ref(cover->table);
    gw_table_up_ref(cover->delta);
  }
  if (count > 0) qsort(snapshot->covers, count, sizeof *covers, compare_covers);
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
  if (world == NULL) return;
  gw_snapshot_free(world->snapshot);
  pthread_mutex_destroy(&world->lock);
  free(world);
}

uint64_t *gw_world_counters(const gw_world *world) { return world->counters; }

int gw_world_publish(gw_world *world, const gw_cover *covers, size_t count, gw_error *error) {
  gw_snapshot *snapshot = new_snapshot(covers, count);
  if (snapshot == NULL) return gw_fail(error, "no memory for %zu lists; those in force stay", count);
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
  if (snapshot == NULL || atomic_fetch_sub_explicit(&snapshot->references, 1, memory_order_acq_rel) != 1) return;
  for (size_t i = 0; i < snapshot->count; i++) {
    gw_table_free(snapshot->covers[i].table);
    gw_table_free(snapshot->covers[i].delta);
  }
  free(snapshot);
}

const gw_cover *gw_snapshot_covers(const gw_snapshot *snapshot, const gw_issuer *issuer, uint64_t point,
                                   size_t *count) {
  size_t low = 0, high = snapshot->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (compare_places(&snapshot->covers[middle], issuer, point) < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  while (high < snapshot->count && compare_places(&snapshot->covers[high], issuer, point) == 0) high++;
  *count = high - low;
  return &snapshot->covers[low];
}
