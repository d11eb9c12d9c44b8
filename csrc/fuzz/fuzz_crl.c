/* fuzz_crl.c - nothing but a clean refusal may come of any bytes given as a CRL, and every serial that the walk
 * finds is found in the table that is compiled from it. Bytes that are no CRL are tried as the entries of one: a
 * mutation that changes a length would else seldom get that far. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "crl_walk.h"
#include "make_crl.h"
#include "revoked.h"

static void expect(int condition) {
  if (!condition) {
    abort();
  }
}

static void every_serial_is_found(const gw_table *table, const uint8_t *entries, size_t length) {
  size_t position = 0;
  gw_crl_entry entry;
  gw_table_entry found;
  while (gw_crl_next_entry(entries, length, &position, &entry, NULL)) {
    expect(gw_table_find(table, entry.serial, entry.serial_length, &found));
    expect(found.revocation_date <= entry.revocation_date);
  }
  expect(position == length);
}

static void every_index_is_found(const gw_table *table, size_t longest) {
  uint8_t *serial = malloc(longest + 1);
  expect(serial != NULL);
  for (uint64_t i = 0; i < gw_table_count(table); i++) {
    size_t length = longest;
    expect(gw_table_at(table, i, serial, &length, NULL));
    expect(gw_table_find(table, serial, length, NULL));
  }
  free(serial);
}

/* Returns 1 when |der| is a CertificateList, compiled or not. */
static int try_list(const uint8_t *der, size_t length) {
  gw_crl_parts parts;
  gw_error error = {""};
  if (!gw_crl_split(der, length, &parts, &error)) {
    expect(error.text[0] != '\0');
    return 0;
  }
  gw_table_meta meta = {.signature = der + parts.signature_at, .signature_length = parts.signature_length};
  uint64_t count;
  int fd = memfd_create("fuzz", MFD_CLOEXEC);
  expect(fd >= 0);
  if (gw_table_compile(der, length, &parts, &meta, fd, &count, &error)) {
    gw_table *table = gw_table_open(fd, 1, &error);
    expect(table != NULL);
    expect(gw_table_count(table) == count);
    every_serial_is_found(table, der + parts.entries_at, parts.entries_length);
    every_index_is_found(table, length);
    gw_table_free(table);
  } else {
    expect(error.text[0] != '\0');
  }
  close(fd);
  return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length) {
  if (!try_list(data, length)) {
    bytes entries = {0};
    bytes_add(&entries, data, length);
    bytes list = list_make(&entries, 0);
    expect(try_list(list.at, list.length));
    bytes_free(&list);
    bytes_free(&entries);
  }
  return 0;
}
