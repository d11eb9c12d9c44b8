/* fuzz_table.c - no bytes given as a table file make a lookup read outside the map.
 *
 * Magic, format and checksum of the header are put right first, or nothing would
 * get past them. The rest of the last page is poisoned, so that AddressSanitizer
 * sees the first byte read behind the file. */
#include <sanitizer/asan_interface.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "revoked.h"
#include "table_file.h"

static void expect(int condition) {
  if (!condition) {
    abort();
  }
}

/* repair makes |file| one whose header is believed, if its counts can be. Returns the length it needs, or 0. */
static size_t repair(uint8_t *file, size_t room) {
  gw_table_image image = {.map = file};
  gw_table_header *header = &image.header;
  memcpy(header, file, sizeof *header);
  memcpy(header->magic, GW_TABLE_MAGIC, sizeof header->magic);
  header->format = GW_TABLE_FORMAT;
  memcpy(file, header, sizeof *header);
  if (!gw_table_lay_out(&image) || image.total > room) {
    return 0;
  }
  header->header_checksum = gw_table_header_checksum(&image);
  memcpy(file, header, sizeof *header);
  return image.total;
}

static void look_up(const gw_table *table, const uint8_t *data, size_t length) {
  gw_table_entry entry;
  gw_table_meta meta;
  gw_table_get_meta(table, &meta);
  expect(meta.issuer_name_length + meta.number_length <= 2 * GW_TABLE_LARGEST_BLOB);
  for (size_t width = 1; width <= 40 && width <= length; width++) {
    for (size_t at = 0; at + width <= length && at < 512; at += width) {
      (void)gw_table_find(table, data + at, width, &entry);
    }
  }
  const gw_table_record *record;
  for (uint64_t slot = 0; (record = gw_table_at(table, slot)) != NULL && slot < 256; slot++) {
    for (size_t width = 1; width <= sizeof record->octets; width++) {
      (void)gw_table_find(table, record->octets, width, &entry);
    }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length) {
  enum { ROOM = 1 << 20 };
  static uint8_t file[ROOM];
  gw_error error;
  memset(file, 0, sizeof file);
  memcpy(file, data, length < ROOM ? length : ROOM);
  size_t total = repair(file, ROOM);
  int fd = memfd_create("fuzz", MFD_CLOEXEC);
  expect(fd >= 0);
  size_t written = total > 0 ? total : length;
  expect(write(fd, total > 0 ? file : data, written) == (ssize_t)written);
  gw_table *table = gw_table_open(fd, 0, &error);
  expect((table != NULL) == (total > 0));
  if (table != NULL) {
    gw_table_meta meta;
    gw_table_get_meta(table, &meta);
    const uint8_t *end = meta.number + meta.number_length;
    size_t rest = -total % (size_t)getpagesize();
    __asan_poison_memory_region(end, rest);
    look_up(table, data, length);
    __asan_unpoison_memory_region(end, rest);
    gw_table_free(table);
  }
  close(fd);
  return 0;
}
