#include "revoked.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
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
  if (length < sizeof *header || memcmp(image->map, GW_TABLE_MAGIC, sizeof header->magic) != 0) {
    return gw_fail(error, "not a revocation table: %zu bytes of something else", length);
  }
  memcpy(header, image->map, sizeof *header);
  if (header->format != GW_TABLE_FORMAT) {
    return gw_fail(error, "a revocation table of another version or kind of machine");
  }
  if (!gw_table_lay_out(image) || image->total != length) {
    return gw_fail(error, "damaged revocation table: %zu bytes do not fit its header", length);
  }
  if (gw_table_header_checksum(image) != header->header_checksum ||
      (deep && gw_table_body_checksum(image) != header->body_checksum)) {
    return gw_fail(error, "damaged revocation table: wrong checksum");
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
    if (check(&table->image, length, deep, error)) return table;
  }
  free(table);
  if (map != MAP_FAILED) (void)munmap(map, length); /* cannot fail: exactly what was mapped */
  return NULL;
}

void gw_table_up_ref(gw_table *table) {
  if (table != NULL) atomic_fetch_add_explicit(&table->references, 1, memory_order_relaxed);
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
  const uint64_t *lengths = header->blob_lengths;
  const uint8_t *name = table->image.map + table->image.blobs_at, *key = name + lengths[0];
  const uint8_t *signature = key + lengths[1];
  *meta = (gw_table_meta){name, lengths[0], key, lengths[1], signature, lengths[2], signature + lengths[2], lengths[3],
                          header->this_update, header->next_update, 0};
}

int gw_table_find(const gw_table *table, const uint8_t *serial, size_t length, gw_table_entry *entry) {
  gw_crl_trim(&serial, &length);
  const gw_table_record *record = gw_table_reach(&table->image, serial, length, NULL);
  if (record == NULL || record->facts == 0) return 0; /* or the first pieces of a longer one */
  if (entry != NULL) {
    int reason = (int)(record->facts & 0xf) - 2; /* a damaged one is none */
    entry->revocation_date = (int64_t)(record->facts >> 4) + GW_TABLE_FIRST_DATE;
    entry->reason = reason >= 0 && reason <= 10 ? reason : -1;
  }
  return 1;
}

const gw_table_record *gw_table_at(const gw_table *table, uint64_t slot) {
  const gw_table_image *image = &table->image;
  return slot < image->header.groups * GW_TABLE_GROUP ? &gw_table_records(image)[slot] : NULL;
}
