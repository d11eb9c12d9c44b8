/* test_revoked_spread.c - the table finds the serials of its list, however they are spread over its groups. */
#include "serials.h"
#include "table_file.h"

static void every_member_is_found_and_no_stranger(void) {
  enum { COUNT = 50000 };
  uint8_t serial[16];
  for (int distribution = RANDOM; distribution <= HIGH_OCTETS; distribution++) {
    bytes entries = {0};
    for (uint64_t i = 0; i < COUNT; i++) {
      numbered((enum distribution)distribution, i, 1, serial);
      add(&entries, serial, sizeof serial);
    }
    gw_table *table = table_of(&entries);
    CHECK(gw_table_count(table) == COUNT);
    for (uint64_t i = 0; i < COUNT; i++) {
      numbered((enum distribution)distribution, i, 1, serial);
      CHECK(finds(table, serial, sizeof serial));
      numbered((enum distribution)distribution, i, 0, serial);
      CHECK(!finds(table, serial, sizeof serial));
    }
    check_every_slot(table);
    gw_table_free(table);
  }
}

/* All short serials, as the reference a set of what was put in. */
static void random_short_serials_agree_with_a_set(void) {
  static uint8_t set[1 << 16];
  uint64_t state = 7;
  for (int round = 0; round < 20; round++) {
    bytes entries = {0};
    memset(set, 0, sizeof set);
    for (size_t i = 0; i < (size_t)round * 400; i++) {
      uint16_t value = (uint16_t)next_random(&state);
      uint8_t serial[] = {(uint8_t)(value & 0x8000 ? 0xff : 0), (uint8_t)(value >> 8), (uint8_t)value};
      add(&entries, serial + i % 2, 3 - i % 2); /* with and without a redundant octet */
      set[value] = 1;
    }
    gw_table *table = table_of(&entries);
    uint64_t count = 0;
    for (uint32_t value = 0; value < sizeof set; value++) {
      uint8_t serial[] = {(uint8_t)(value >> 8), (uint8_t)value};
      CHECK(finds(table, serial, 2) == set[value]);
      count += set[value];
    }
    CHECK(gw_table_count(table) == count);
    gw_table_free(table);
  }
}

/* gather adds |wanted| serials, numbered from |*i| on, that all belong into the last group of a table of |entries|. */
static void gather(bytes *list, size_t wanted, size_t entries, uint64_t *i) {
  gw_table_image image = {.header.groups = entries * 3 / 2 / GW_TABLE_GROUP + 1,
                          .header.seed = gw_table_digest((const uint8_t *)"signature", 9, 1)};
  uint8_t serial[16];
  for (size_t found = 0; found < wanted; ++*i) {
    numbered(RANDOM, *i, 1, serial);
    if (gw_table_home(&image, gw_table_hash(&image, sizeof serial, serial)) == image.header.groups - 1) {
      add(list, serial, sizeof serial);
      found++;
    }
  }
}

static void serials_that_belong_into_one_group_are_found(void) {
  enum { FEW = 300 };
  bytes entries = {0}, twice = {0}, strangers = {0};
  gw_crl_entry entry;
  uint64_t i = 0;
  size_t position = 0;
  gather(&entries, FEW, 2 * FEW, &i);
  gather(&strangers, 50, 2 * FEW, &i);
  bytes_add(&twice, entries.at, entries.length);
  bytes_add(&twice, entries.at, entries.length);
  gw_table *table = table_of(&twice);
  CHECK(gw_table_count(table) == FEW);
  check_every_slot(table);
  while (gw_crl_next_entry(entries.at, entries.length, &position, &entry, NULL)) {
    CHECK(finds(table, entry.serial, entry.serial_length));
  }
  for (position = 0; gw_crl_next_entry(strangers.at, strangers.length, &position, &entry, NULL);) {
    CHECK(!finds(table, entry.serial, entry.serial_length));
  }
  bytes_free(&entries);
  bytes_free(&strangers);
  gw_table_free(table);
}

static void serials_that_were_chosen_to_meet_are_refused(void) {
  enum { MANY = GW_TABLE_REACH * GW_TABLE_GROUP + 8 };
  bytes entries = {0};
  gw_error error;
  uint64_t count, i = 0;
  gather(&entries, MANY, MANY, &i);
  CHECK(compile_to(&entries, &count, &error) == -1);
  CHECK(strstr(error.text, "one hash") != NULL);
  bytes_free(&entries);
}

int main(void) {
  RUN(every_member_is_found_and_no_stranger);
  RUN(random_short_serials_agree_with_a_set);
  RUN(serials_that_belong_into_one_group_are_found);
  RUN(serials_that_were_chosen_to_meet_are_refused);
  return 0;
}
