/* make_table.h - a table as a file in memory, for tests. No memory or file stops the test. */
#ifndef GW_MAKE_TABLE_H
#define GW_MAKE_TABLE_H

#include <sys/mman.h>
#include <unistd.h>

#include "../revoked.h"
#include "check.h"

/* table_file compiles |entries| to a new memory file, which the caller closes. Returns it with |count|, or -1 with
 * |error|. */
static inline int table_file(const uint8_t *entries, size_t length, const gw_table_meta *meta, uint64_t *count,
                             gw_error *error) {
  size_t size = gw_table_size(entries, length, meta, error);
  if (size == 0) {
    return -1;
  }
  uint8_t *table = calloc(1, size);
  CHECK(table != NULL);
  int fd = -1;
  if (gw_table_compile(entries, length, meta, table, size, count, error)) {
    fd = memfd_create("table", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, table, size) == (ssize_t)size);
  }
  free(table);
  return fd;
}

/* table_open compiles |entries|, which have to be good, and opens the result: a table of one reference. */
static inline gw_table *table_open(const uint8_t *entries, size_t length, const gw_table_meta *meta) {
  gw_error error = {""};
  uint64_t count;
  int fd = table_file(entries, length, meta, &count, &error);
  CHECK(fd >= 0);
  gw_table *table = gw_table_open(fd, 1, &error);
  CHECK(table != NULL && gw_table_count(table) == count && close(fd) == 0);
  return table;
}

#endif
