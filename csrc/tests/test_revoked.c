/* test_revoked.c - the table finds exactly the serials of its list, whatever integers they are. */
#include "serials.h"

static void empty_list_finds_nothing(void) {
  bytes entries = {0};
  gw_table *table = table_of(&entries);
  CHECK(gw_table_count(table) == 0);
  CHECK(!finds(table, "\x00", 1));
  CHECK(!finds(table, "\x01", 1));
  CHECK(!finds(table, "0123456789012345678901234567890123456789", 40));
  check_every_slot(table);
  gw_table_free(table);
}

static void no_octets_are_no_serial(void) {
  bytes entries = {0};
  add(&entries, "\x00", 1);
  gw_table *table = table_of(&entries);
  CHECK(!finds(table, "", 0));
  CHECK(finds(table, "\x00", 1));
  gw_table_free(table);
}

static void serials_are_integers_not_octets(void) {
  bytes entries = {0};
  add(&entries, "\x00\xff", 2); /* 255 */
  add(&entries, "\x00\x00\x01", 3);
  add(&entries, "\x80", 1); /* -128 */
  gw_table *table = table_of(&entries);
  CHECK(gw_table_count(table) == 3);
  CHECK(finds(table, "\x00\xff", 2) && finds(table, "\x00\x00\x00\x00\x00\x00\xff", 7));
  CHECK(!finds(table, "\xff", 1) && !finds(table, "\xff\xff\xff", 3));
  CHECK(finds(table, "\x01", 1) && finds(table, "\x00\x01", 2));
  CHECK(finds(table, "\x80", 1) && finds(table, "\xff\xff\x80", 3) && !finds(table, "\x00\x80", 2));
  CHECK(!finds(table, "\x00", 1) && !finds(table, "\x01\x00", 2));
  CHECK(!finds(table, "\x01\x00\x00\x00\x00\x00\x00\x01", 8));
  check_every_slot(table);
  gw_table_free(table);
}

static void zero_and_negative_serials_are_ordinary(void) {
  bytes entries = {0};
  add(&entries, "\x00", 1);
  add(&entries, "\xff", 1);
  add(&entries, "\x80\x00\x00\x00\x00\x00\x00\x00\x00", 9);
  gw_table *table = table_of(&entries);
  CHECK(finds(table, "\x00", 1) && finds(table, "\xff", 1) && finds(table, "\xff\xff", 2));
  CHECK(finds(table, "\x80\x00\x00\x00\x00\x00\x00\x00\x00", 9));
  CHECK(!finds(table, "\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00", 10));
  check_every_slot(table);
  gw_table_free(table);
}

static void a_serial_of_any_length_is_found(void) {
  uint8_t serial[200];
  for (size_t widest = 1; widest <= 60; widest++) { /* with and without long serials */
    bytes entries = {0};
    for (size_t length = 1; length <= widest; length++) {
      memset(serial, 0x11, sizeof serial);
      add(&entries, serial, length);
    }
    gw_table *table = table_of(&entries);
    CHECK(gw_table_count(table) == widest);
    for (size_t length = 1; length <= sizeof serial; length++) {
      CHECK(finds(table, serial, length) == (length <= widest));
    }
    serial[0] = 0x12;
    for (size_t length = 1; length <= sizeof serial; length++) {
      CHECK(!finds(table, serial, length));
    }
    check_every_slot(table);
    gw_table_free(table);
  }
}

static void long_serials_are_found_by_every_octet(void) {
  enum { LENGTH = 40, COUNT = 500 };
  static uint8_t serials[COUNT][LENGTH];
  uint64_t state = 1;
  bytes entries = {0};
  for (size_t i = 0; i < COUNT; i++) {
    for (size_t at = 0; at < LENGTH; at++) {
      serials[i][at] = (uint8_t)(at == 0 ? 0x9f : next_random(&state) % 3);
    }
    add(&entries, serials[i], LENGTH - i % 16);
    add(&entries, serials[i], LENGTH - i % 16);
  }
  gw_table *table = table_of(&entries);
  CHECK(gw_table_count(table) == COUNT);
  for (size_t i = 0; i < COUNT; i++) {
    size_t length = LENGTH - i % 16;
    CHECK(finds(table, serials[i], length));
    serials[i][length - 1] ^= 4;
    CHECK(!finds(table, serials[i], length));
  }
  check_every_slot(table);
  gw_table_free(table);
}

static void a_serial_is_not_the_beginning_of_a_longer_one(void) {
  uint8_t serial[100];
  memset(serial, 0x11, sizeof serial);
  bytes entries = {0};
  add(&entries, serial, 60);
  gw_table *table = table_of(&entries);
  CHECK(gw_table_count(table) == 1);
  for (size_t length = 1; length <= sizeof serial; length++) {
    CHECK(finds(table, serial, length) == (length == 60));
  }
  check_every_slot(table);
  gw_table_free(table);
  add(&entries, serial, 60);
  add(&entries, serial, 40); /* later, and a piece of it is there */
  table = table_of(&entries);
  CHECK(gw_table_count(table) == 2);
  for (size_t length = 1; length <= sizeof serial; length++) {
    CHECK(finds(table, serial, length) == (length == 60 || length == 40));
  }
  check_every_slot(table);
  gw_table_free(table);
}

static void date_and_reason_come_back(void) {
  bytes entries = {0}, extensions = {0};
  extension_add(&extensions, "\x55\x1d\x15", -1, "\x0a\x01\x0a", 3);
  entry_add(&entries, "\x05", 1, "00000101000000Z", &extensions);
  entry_add(&entries, "\x06", 1, "99991231235959Z", NULL);
  entry_add(&entries, "\x07zzzzzzzzzzzzzzzzzzzzzzzzzzzzz", 30, DATE, NULL);
  gw_table *table = table_of(&entries);
  gw_table_entry entry;
  CHECK(gw_table_find(table, (const uint8_t *)"\x05", 1, &entry));
  CHECK(entry.revocation_date == -62167219200 && entry.reason == 10);
  CHECK(gw_table_find(table, (const uint8_t *)"\x06", 1, &entry));
  CHECK(entry.revocation_date == 253402300799 && entry.reason == -1);
  CHECK(gw_table_find(table, (const uint8_t *)"\x07zzzzzzzzzzzzzzzzzzzzzzzzzzzzz", 30, &entry));
  CHECK(entry.revocation_date == DATE_SECONDS && entry.reason == -1);
  gw_table_free(table);
}

static void duplicates_are_kept_once_with_the_earliest_date(void) {
  static const char *const DATES[] = {"260103000000Z", "260101000000Z", "260102000000Z"};
  static const char LONG[] = "\x07zzzzzzzzzzzzzzzzzzzzzzzzzzzzz";
  bytes entries = {0};
  for (size_t i = 0; i < 3000; i++) {
    uint8_t serial[] = {0, (uint8_t)(i % 1000 >> 8), (uint8_t)(i % 1000)}; /* written with redundant octets */
    entry_add(&entries, serial, 3, DATES[i / 1000], NULL);
    entry_add(&entries, LONG, 30, DATES[i / 1000], NULL);
  }
  gw_table *table = table_of(&entries);
  CHECK(gw_table_count(table) == 1001);
  gw_table_entry entry;
  for (size_t i = 0; i < 1000; i++) {
    uint8_t serial[] = {0, (uint8_t)(i >> 8), (uint8_t)i};
    CHECK(gw_table_find(table, serial, 3, &entry) && entry.revocation_date == DATE_SECONDS);
  }
  CHECK(gw_table_find(table, (const uint8_t *)LONG, 30, &entry) && entry.revocation_date == DATE_SECONDS);
  check_every_slot(table);
  gw_table_free(table);
}

/* As a delta may have it: on hold and taken back, in this order or the other, whatever the dates. */
static void what_is_revoked_weighs_more_than_what_is_taken_back(void) {
  static const char HOLD[] = "\x0a\x01\x06", REMOVE[] = "\x0a\x01\x08";
  static const char *const DATES[] = {"260101000000Z", "260102000000Z", "260103000000Z"};
  for (unsigned order = 0; order < 8; order++) { /* which of three entries takes back */
    for (int later = 0; later < 2; later++) {
      bytes entries = {0};
      int64_t earliest = INT64_MAX;
      for (int i = 0; i < 3; i++) {
        bytes extensions = {0};
        int day = later ? i : 2 - i, back = (order >> i & 1) != 0;
        extension_add(&extensions, "\x55\x1d\x15", -1, back ? REMOVE : HOLD, 3);
        entry_add(&entries, "\x05", 1, DATES[day], &extensions);
        if ((!back || order == 7) && DATE_SECONDS + day * 86400 < earliest) {
          earliest = DATE_SECONDS + day * 86400;
        }
      }
      gw_table *table = table_of(&entries);
      gw_table_entry entry;
      CHECK(gw_table_count(table) == 1 && gw_table_find(table, (const uint8_t *)"\x05", 1, &entry));
      CHECK(entry.reason == (order == 7 ? GW_REMOVE_FROM_CRL : 6) && entry.revocation_date == earliest);
      gw_table_free(table);
    }
  }
}

/* Nobody would look at the certificates of other issuers, and the issuer's own of the same serials would be revoked. */
static void entries_that_name_an_issuer_are_refused_unless_the_list_is_indirect(void) {
  bytes entries = {0}, extensions = {0};
  gw_error error;
  gw_table_meta meta = META;
  add(&entries, "\x01", 1);
  extension_add(&extensions, "\x55\x1d\x1d", 0xff, "\x30\x03\x82\x01x", 5);
  entry_add(&entries, "\x02", 1, DATE, &extensions);
  CHECK(gw_table_size(entries.at, entries.length, &meta, &error) == 0);
  CHECK(strstr(error.text, "certificateIssuer") != NULL && strstr(error.text, "not indirect") != NULL);
  meta.indirect = 1;
  gw_table *table = table_open(entries.at, entries.length, &meta);
  CHECK(gw_table_count(table) == 2 && finds(table, "\x01", 1) && finds(table, "\x02", 1));
  gw_table_free(table);
  bytes_free(&entries);
}

int main(void) {
  RUN(empty_list_finds_nothing);
  RUN(no_octets_are_no_serial);
  RUN(serials_are_integers_not_octets);
  RUN(zero_and_negative_serials_are_ordinary);
  RUN(a_serial_of_any_length_is_found);
  RUN(long_serials_are_found_by_every_octet);
  RUN(a_serial_is_not_the_beginning_of_a_longer_one);
  RUN(date_and_reason_come_back);
  RUN(duplicates_are_kept_once_with_the_earliest_date);
  RUN(what_is_revoked_weighs_more_than_what_is_taken_back);
  RUN(entries_that_name_an_issuer_are_refused_unless_the_list_is_indirect);
  return 0;
}
