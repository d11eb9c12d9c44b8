/* serials.h - lists of serial numbers and their tables, for tests. */
#ifndef GW_SERIALS_H
#define GW_SERIALS_H

#include "make_crl.h"
#include "make_table.h"

static const char DATE[] = "260101000000Z";
static const int64_t DATE_SECONDS = 1767225600;

static const gw_table_meta META = {.issuer_name = (const uint8_t *)"name", .issuer_name_length = 4,
                                   .issuer_key = (const uint8_t *)"the key", .issuer_key_length = 7,
                                   .signature = (const uint8_t *)"signature", .signature_length = 9,
                                   .number = (const uint8_t *)"\x05", .number_length = 1,
                                   .this_update = -7, .next_update = 1798761600};

/* compile_to compiles |entries| to a new memory file and returns that, or -1 with |error|. */
static inline int compile_to(const bytes *entries, uint64_t *count, gw_error *error) {
  return table_file(entries->at, entries->length, &META, count, error);
}

/* table_of compiles |entries|, which it frees, and opens the result. */
static inline gw_table *table_of(bytes *entries) {
  gw_table *table = table_open(entries->at, entries->length, &META);
  bytes_free(entries);
  return table;
}

static inline void add(bytes *entries, const void *serial, size_t length) { entry_add(entries, serial, length, DATE, NULL); }

static inline int finds(const gw_table *table, const void *serial, size_t length) {
  gw_table_entry entry = {0, 0};
  int found = gw_table_find(table, serial, length, &entry);
  CHECK(found == gw_table_find(table, serial, length, NULL));
  return found;
}

/* numbered writes the serial number |i| of a distribution, 16 octets; its last bit tells members from strangers. */
enum distribution { RANDOM, SEQUENTIAL, CLUSTERED, HIGH_OCTETS };

static inline void numbered(enum distribution distribution, uint64_t i, int member, uint8_t serial[16]) {
  uint64_t state = i, number = i << 1 | (uint64_t)member;
  memset(serial, 0x55, 16);
  for (size_t at = 0; at < 8; at++) {
    uint8_t octet = (uint8_t)(number >> 8 * at);
    if (distribution == HIGH_OCTETS) {
      serial[at] = at == 7 ? 0x01 : octet;
    } else {
      serial[15 - at] = octet;
    }
  }
  if (distribution == RANDOM) {
    uint64_t high = next_random(&state) & INT64_MAX;
    memcpy(serial + 1, &high, 7);
  } else if (distribution == CLUSTERED) {
    serial[2] = (uint8_t)(i % 7); /* seven runs, far from each other */
  }
}

/* Every serial that ends in a slot is found, and there are as many as are counted. */
static inline void check_every_slot(const gw_table *table) {
  const gw_table_record *record;
  uint64_t found = 0, slot = 0;
  for (; (record = gw_table_at(table, slot)) != NULL; slot++) {
    uint8_t serial[256];
    size_t at = sizeof serial;
    found += record->facts != 0;
    for (const gw_table_record *piece = record; record->facts != 0;) {
      size_t before = piece->link / 32;
      at -= piece->link % 32;
      memcpy(serial + at, piece->octets, piece->link % 32);
      if (before == 0) {
        CHECK(finds(table, serial + at, sizeof serial - at));
        break;
      }
      piece = gw_table_at(table, before - 1);
      CHECK(piece != NULL && piece->link % 32 == sizeof piece->octets && at >= sizeof piece->octets);
    }
  }
  CHECK(found == gw_table_count(table));
  CHECK(gw_table_at(table, slot + 1) == NULL && gw_table_at(table, UINT64_MAX) == NULL);
}

#endif
