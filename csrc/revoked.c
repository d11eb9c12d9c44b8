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

/* check decides whether the |length| bytes of |image| can be used as a table: every access of a lookup stays inside a
 * map that has passed, whatever is in it behind the header. */
static int check(gw_table_image *image, size_t length, int deep, gw_error *error) {
  gw_table_header *header = &image->header;
  if (length < sizeof *header) {
    return gw_fail(error, "not a revocation table: %zu bytes", length);
  }
  memcpy(header, image->map, sizeof *header);
  if (memcmp(header->magic, GW_TABLE_MAGIC, sizeof header->magic) != 0) {
    return gw_fail(error, "not a revocation table");
  }
  if (header->format != GW_TABLE_FORMAT) {
    return gw_fail(error, "a revocation table of another version or kind of machine");
  }
  if (!gw_table_lay_out(image) || image->total != length) {
    return gw_fail(error, "damaged revocation table: %zu bytes do not fit its header", length);
  }
  if (gw_table_header_checksum(image) != header->header_checksum) {
    return gw_fail(error, "damaged revocation table: wrong checksum of the header");
  }
  if (deep && gw_table_body_checksum(image) != header->body_checksum) {
    return gw_fail(error, "damaged revocation table: wrong checksum of the body");
  }
  return 1;
}

gw_table *gw_table_open(int fd, int deep, gw_error *error) {
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0) {
    gw_fail(error, "not a revocation table: empty or not a regular file");
    return NULL;
  }
  size_t length = (size_t)status.st_size;
  /* Files are immutable and replaced by rename: one that shrinks while it is mapped would be a SIGBUS. */
  void *map = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
  gw_table *table = malloc(sizeof *table);
  if (map == MAP_FAILED || table == NULL) {
    gw_fail(error, "cannot map the revocation table: %s", strerror(errno));
  } else {
    (void)madvise(map, length, MADV_WILLNEED); /* advice: without it lookups are slow at first, not wrong */
    table->image.map = map;
    atomic_init(&table->references, 1);
    if (check(&table->image, length, deep, error)) {
      return table;
    }
  }
  free(table);
  if (map != MAP_FAILED) {
    (void)munmap(map, length); /* cannot fail: exactly what was mapped */
  }
  return NULL;
}

void gw_table_up_ref(gw_table *table) {
  if (table != NULL) {
    atomic_fetch_add_explicit(&table->references, 1, memory_order_relaxed);
  }
}

void gw_table_free(gw_table *table) {
  /* acq_rel: every lookup of every thread has happened before the unmapping. */
  if (table != NULL && atomic_fetch_sub_explicit(&table->references, 1, memory_order_acq_rel) == 1) {
    (void)munmap(table->image.map, table->image.total);
    free(table);
  }
}

uint64_t gw_table_count(const gw_table *table) { return table->image.header.count; }

void gw_table_get_meta(const gw_table *table, gw_table_meta *meta) {
  const gw_table_header *header = &table->image.header;
  const uint32_t *lengths = header->blob_lengths;
  const uint8_t *name = table->image.map + sizeof *header, *key = name + lengths[0], *signature = key + lengths[1];
  *meta = (gw_table_meta){name, lengths[0], key, lengths[1], signature, lengths[2], signature + lengths[2], lengths[3],
                          header->this_update, header->next_update};
}

/* unpack fills |entry|, if it is not NULL. A damaged reason is none. */
static void unpack(uint64_t facts, gw_table_entry *entry) {
  if (entry != NULL) {
    int reason = (int)(facts & 0xf) - 1;
    *entry = (gw_table_entry){(int64_t)(facts >> 4) + GW_TABLE_FIRST_DATE, reason <= 10 ? reason : -1};
  }
}

int gw_table_find(const gw_table *table, const uint8_t *serial, size_t length, gw_table_entry *entry) {
  const gw_table_image *image = &table->image;
  size_t slot;
  gw_table_trim(&serial, &length);
  uint64_t hash = gw_table_digest(serial, length, image->header.seed);
  if (length == 0 || !gw_table_seek(image, serial, length, hash, &slot)) {
    return 0; /* no octets are no INTEGER */
  }
  unpack(gw_table_record_at(image, slot)->facts, entry);
  return 1;
}

int gw_table_at(const gw_table *table, uint64_t index, uint8_t *serial, size_t *length, gw_table_entry *entry) {
  const gw_table_image *image = &table->image;
  uint64_t octets_length;
  if (index >= image->header.count || gw_table_order(image)[index] >= image->header.slots) {
    return 0;
  }
  const gw_table_record *record = gw_table_record_at(image, gw_table_order(image)[index]);
  const uint8_t *octets = gw_table_serial(image, record, &octets_length);
  if (octets == NULL || octets_length > *length) {
    return 0;
  }
  memcpy(serial, octets, octets_length);
  *length = octets_length;
  unpack(record->facts, entry);
  return 1;
}
