#include "revoked.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "table_file.h"

struct gw_table {
  atomic_uint references;
  gw_table_image image;
};

/* check_header decides whether |map| can be used as a table: every access of a
 * lookup stays inside a map that has passed, whatever the rest of it holds. */
static int check_header(const uint8_t *map, size_t length, gw_table_image *image, gw_error *error) {
  gw_table_header *header = &image->header;
  if (length < sizeof *header) {
    return gw_fail(error, "not a revocation table: %zu bytes", length);
  }
  memcpy(header, map, sizeof *header);
  if (memcmp(header->magic, GW_TABLE_MAGIC, sizeof header->magic) != 0) {
    return gw_fail(error, "not a revocation table");
  }
  if (header->format != GW_TABLE_FORMAT) {
    return gw_fail(error, "a revocation table of another version or kind of machine");
  }
  if (!gw_table_lay_out(header, &image->layout) || image->layout.total != length) {
    return gw_fail(error, "damaged revocation table: %zu bytes do not fit its header", length);
  }
  if (gw_table_header_checksum(map, &image->layout) != header->header_checksum) {
    return gw_fail(error, "damaged revocation table: wrong checksum of the header");
  }
  return 1;
}

/* map_file maps all of |fd|. Files are immutable and replaced by rename: one
 * that shrinks while it is mapped would be a SIGBUS. */
static uint8_t *map_file(int fd, size_t *length, gw_error *error) {
  struct stat status;
  if (fstat(fd, &status) != 0) {
    gw_fail(error, "cannot open the revocation table: %s", strerror(errno));
    return NULL;
  }
  if (!S_ISREG(status.st_mode) || status.st_size <= 0) {
    gw_fail(error, "not a revocation table: empty or not a regular file");
    return NULL;
  }
  *length = (size_t)status.st_size;
  void *map = mmap(NULL, *length, PROT_READ, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) {
    gw_fail(error, "cannot map the revocation table: %s", strerror(errno));
    return NULL;
  }
  (void)madvise(map, *length, MADV_WILLNEED); /* advice: without it lookups are slow at first, not wrong */
  return map;
}

static int check_body(const gw_table_image *image, gw_error *error) {
  if (gw_table_body_checksum(image->map, &image->layout) != image->header.body_checksum) {
    return gw_fail(error, "damaged revocation table: wrong checksum of the body");
  }
  return 1;
}

gw_table *gw_table_open(int fd, int deep, gw_error *error) {
  size_t length;
  gw_table *table = malloc(sizeof *table);
  if (table == NULL) {
    gw_fail(error, "no memory for a revocation table");
    return NULL;
  }
  uint8_t *map = map_file(fd, &length, error);
  if (map == NULL) {
    free(table);
    return NULL;
  }
  int good = check_header(map, length, &table->image, error);
  if (good) {
    gw_table_place(&table->image, map);
    good = !deep || check_body(&table->image, error);
  }
  if (!good) {
    (void)munmap(map, length); /* cannot fail: exactly what was mapped */
    free(table);
    return NULL;
  }
  atomic_init(&table->references, 1);
  return table;
}

void gw_table_up_ref(gw_table *table) {
  if (table != NULL) {
    atomic_fetch_add_explicit(&table->references, 1, memory_order_relaxed);
  }
}

void gw_table_free(gw_table *table) {
  /* acq_rel: every lookup of every thread has happened before the unmapping. */
  if (table != NULL && atomic_fetch_sub_explicit(&table->references, 1, memory_order_acq_rel) == 1) {
    (void)munmap(table->image.map, table->image.layout.total);
    free(table);
  }
}

uint64_t gw_table_count(const gw_table *table) {
  return (uint64_t)table->image.header.hot_count + table->image.header.long_count;
}

void gw_table_get_meta(const gw_table *table, gw_table_meta *meta) {
  const gw_table_header *header = &table->image.header;
  const uint8_t *name = table->image.map + sizeof *header;
  const uint8_t *key = name + header->name_length;
  const uint8_t *signature = key + header->key_length;
  *meta = (gw_table_meta){name, header->name_length, key, header->key_length, signature, header->signature_length,
                          signature + header->signature_length, header->number_length,
                          header->this_update, header->next_update};
}

/* unpack fills |entry|, or, where that is NULL, does not even read |facts|: that
 * would be a third cache miss. A damaged reason is none. */
static void unpack(const uint64_t *facts, gw_table_entry *entry) {
  if (entry != NULL) {
    int reason = (int)(*facts & 0xf) - 1;
    entry->revocation_date = (int64_t)(*facts >> 4) + GW_TABLE_FIRST_DATE;
    entry->reason = reason <= 10 ? reason : -1;
  }
}

/* narrow halves |*begin|..|*end| around |key| until it is short enough to scan. */
static void narrow(const gw_table_image *image, const uint32_t *key, size_t *begin, size_t *end) {
  while (*end - *begin > GW_TABLE_SCAN_AT_MOST) {
    size_t middle = *begin + (*end - *begin) / 2;
    if (memcmp(gw_table_key_at(image, middle), key, image->header.width) <= 0) {
      *begin = middle;
    } else {
      *end = middle;
    }
  }
}

static int find_key(const gw_table_image *image, const uint32_t *key, gw_table_entry *entry) {
  size_t bucket = gw_table_bucket(key, image->words, image->header.bucket_bits);
  size_t begin = image->directory[bucket], end = image->directory[bucket + 1];
  if (end > image->header.hot_count || begin > end) {
    return 0; /* a damaged directory must not lead out of the map */
  }
  narrow(image, key, &begin, &end);
  size_t match = end;
  /* To the end even when found: where a match stands cannot be predicted, and a
   * wrong guess would cost more than the few keys that are left. */
  for (size_t index = begin; index < end; index++) {
    match = gw_table_same_key(gw_table_key_at(image, index), key, image->words) ? index : match;
  }
  if (match == end) {
    return 0;
  }
  unpack(&image->facts[match], entry);
  return 1;
}

static int find_long(const gw_table_image *image, const uint8_t *serial, size_t length, gw_table_entry *entry) {
  size_t begin = 0, end = image->header.long_count;
  while (begin < end) {
    size_t middle = begin + (end - begin) / 2;
    int order = gw_table_compare_long(image, &image->long_index[middle], serial, length);
    if (order == 0) {
      unpack(&image->long_index[middle].facts, entry);
      return 1;
    }
    if (order < 0) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return 0;
}

int gw_table_find(const gw_table *table, const uint8_t *serial, size_t length, gw_table_entry *entry) {
  const gw_table_image *image = &table->image;
  uint32_t key[GW_TABLE_WORDS];
  if (length == 0) {
    return 0; /* not an INTEGER */
  }
  gw_table_trim(&serial, &length);
  if (length > GW_TABLE_WIDEST) {
    return find_long(image, serial, length, entry);
  }
  if (length > image->header.width) {
    return 0;
  }
  gw_table_key(serial, length, image->words, key);
  return find_key(image, key, entry);
}

int gw_table_at(const gw_table *table, uint64_t index, uint8_t *serial, size_t *length, gw_table_entry *entry) {
  const gw_table_image *image = &table->image;
  const uint8_t *octets;
  size_t octets_length;
  const uint64_t *facts;
  if (index < image->header.hot_count) {
    octets = (const uint8_t *)gw_table_key_at(image, index);
    octets_length = image->header.width;
    facts = &image->facts[index];
    gw_table_trim(&octets, &octets_length);
  } else if (index < gw_table_count(table)) {
    const gw_table_long *record = &image->long_index[index - image->header.hot_count];
    octets = gw_table_long_at(image, record);
    octets_length = record->length;
    facts = &record->facts;
  } else {
    return 0;
  }
  if (octets == NULL || octets_length > *length) {
    return 0;
  }
  memcpy(serial, octets, octets_length);
  *length = octets_length;
  unpack(facts, entry);
  return 1;
}
