/* fuzz_crl.c - nothing but a clean refusal may come of any bytes given as the entries of a CRL, and every serial that
 * the walk finds is found in the table that is compiled from them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "crl_walk.h"
#include "make_table.h"

static void every_serial_is_found(const gw_table *table, const uint8_t *entries, size_t length) {
  size_t position = 0;
  gw_crl_entry entry;
  gw_table_entry found;
  while (gw_crl_next_entry(entries, length, &position, &entry, NULL)) {
    CHECK(gw_table_find(table, entry.serial, entry.serial_length, &found));
    /* What is revoked is not undone by what takes it back, however early that is dated. */
    int weaker = entry.reason == GW_REMOVE_FROM_CRL && found.reason != GW_REMOVE_FROM_CRL;
    CHECK(weaker || found.revocation_date <= entry.revocation_date);
    CHECK(found.reason != GW_REMOVE_FROM_CRL || entry.reason == GW_REMOVE_FROM_CRL);
  }
  CHECK(position == length);
}

/* Each issuer is found where an entry begins that names one, in their order, and the walk ends where the other does. */
static void every_issuer_is_found(const uint8_t *entries, size_t length) {
  size_t position = 0, walked = 0, begin;
  gw_crl_entry entry, same;
  gw_error error = {""}, other = {""};
  while (gw_crl_next_issuer(entries, length, &position, &begin, &entry, &error)) {
    CHECK(begin < position && position <= length);
    CHECK(begin < entry.issuer_at && entry.issuer_at < entry.issuer_end && entry.issuer_end <= position);
    CHECK(entries[entry.issuer_at] == 0x30);
    while (walked < begin) { /* those before it name none */
      CHECK(gw_crl_next_entry(entries, length, &walked, &same, NULL) && same.issuer_end == 0);
    }
    CHECK(walked == begin && gw_crl_next_entry(entries, length, &walked, &same, NULL) && walked == position);
    CHECK(same.issuer_at == entry.issuer_at && same.issuer_end == entry.issuer_end && same.serial == entry.serial);
  }
  while (gw_crl_next_entry(entries, length, &walked, &same, &other)) {
    CHECK(same.issuer_end == 0);
  }
  CHECK(walked == position && begin == position && strcmp(error.text, other.text) == 0);
}

static void as_many_end_as_are_counted(const gw_table *table) {
  const gw_table_record *record;
  uint64_t ends = 0;
  for (uint64_t slot = 0; (record = gw_table_at(table, slot)) != NULL; slot++) {
    ends += record->facts != 0;
    CHECK(record->link != 0 || record->facts == 0);
  }
  CHECK(ends == gw_table_count(table));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length) {
  gw_table_meta meta = {.signature = data, .signature_length = length < 8 ? length : 8, .indirect = 1};
  gw_error error = {""};
  uint64_t count;
  every_issuer_is_found(data, length);
  int fd = table_file(data, length, &meta, &count, &error);
  if (fd < 0) {
    CHECK(error.text[0] != '\0');
    return 0;
  }
  gw_table *table = gw_table_open(fd, 1, &error);
  CHECK(table != NULL && gw_table_count(table) == count && close(fd) == 0);
  every_serial_is_found(table, data, length);
  as_many_end_as_are_counted(table);
  gw_table_free(table);
  return 0;
}
