/* test_revoked.c - the table finds exactly the serials of its list, and survives what happens to files. */
#include "revoked.h"

#include <sys/mman.h>
#include <unistd.h>

#include "make_crl.h"
#include "make_table.h"
#include "table_file.h"

static const char DATE[] = "260101000000Z";
static const int64_t DATE_SECONDS = 1767225600;

static const gw_table_meta META = {.issuer_name = (const uint8_t *)"name", .issuer_name_length = 4,
                                   .issuer_key = (const uint8_t *)"the key", .issuer_key_length = 7,
                                   .signature = (const uint8_t *)"signature", .signature_length = 9,
                                   .number = (const uint8_t *)"\x05", .number_length = 1,
                                   .this_update = -7, .next_update = 1798761600};

/* compile_to compiles |entries| to a new memory file and returns that, or -1 with |error|. */
static int compile_to(const bytes *entries, uint64_t *count, gw_error *error) {
  return table_file(entries->at, entries->length, &META, count, error);
}

/* table_of compiles |entries|, which it frees, and opens the result. */
static gw_table *table_of(bytes *entries) {
  gw_table *table = table_open(entries->at, entries->length, &META);
  bytes_free(entries);
  return table;
}

static void add(bytes *entries, const void *serial, size_t length) { entry_add(entries, serial, length, DATE, NULL); }

static int finds(const gw_table *table, const void *serial, size_t length) {
  gw_table_entry entry = {0, 0};
  int found = gw_table_find(table, serial, length, &entry);
  CHECK(found == gw_table_find(table, serial, length, NULL));
  return found;
}

/* Every serial that ends in a slot is found, and there are as many as are counted. */
static void check_every_slot(const gw_table *table) {
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

/* numbered writes the serial number |i| of a distribution, 16 octets; its last bit tells members from strangers. */
enum distribution { RANDOM, SEQUENTIAL, CLUSTERED, HIGH_OCTETS };

static void numbered(enum distribution distribution, uint64_t i, int member, uint8_t serial[16]) {
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

static void meta_comes_back_and_lives_with_the_table(void) {
  bytes entries = {0};
  gw_table *table = table_of(&entries);
  gw_table_meta meta;
  gw_table_get_meta(table, &meta);
  CHECK(meta.issuer_name_length == 4 && memcmp(meta.issuer_name, "name", 4) == 0);
  CHECK(meta.issuer_key_length == 7 && memcmp(meta.issuer_key, "the key", 7) == 0);
  CHECK(meta.signature_length == 9 && memcmp(meta.signature, "signature", 9) == 0);
  CHECK(meta.number_length == 1 && meta.number[0] == 5);
  CHECK(meta.this_update == -7 && meta.next_update == 1798761600);
  gw_table_free(table);
}

static void the_last_reference_unmaps(void) {
  bytes entries = {0};
  add(&entries, "\x01", 1);
  gw_table *table = table_of(&entries);
  gw_table_up_ref(table);
  gw_table_free(table);
  CHECK(finds(table, "\x01", 1));
  gw_table_free(table);
  gw_table_up_ref(NULL);
  gw_table_free(NULL);
}

static void a_bad_entry_is_refused_with_its_place(void) {
  bytes entries = {0};
  gw_error error;
  uint64_t count;
  add(&entries, "\x01", 1);
  entry_add(&entries, "\x02", 1, "261301000000Z", NULL);
  CHECK(compile_to(&entries, &count, &error) == -1);
  CHECK(strstr(error.text, "byte 25 of revokedCertificates: ") != NULL && strstr(error.text, "revocationDate") != NULL);
  bytes_free(&entries);
}

static void meta_that_is_too_long_is_refused(void) {
  static const uint8_t NUMBER[GW_TABLE_LARGEST_BLOB + 1];
  gw_error error;
  uint64_t count;
  gw_table_meta meta = {.number = NUMBER, .number_length = sizeof NUMBER};
  CHECK(gw_table_size(NULL, 0, &meta, &error) == 0 && strstr(error.text, "longer than 65536") != NULL);
  CHECK(!gw_table_compile(NULL, 0, &meta, NULL, sizeof NUMBER, &count, &error));
  meta.number_length--;
  CHECK(gw_table_size(NULL, 0, &meta, &error) > GW_TABLE_LARGEST_BLOB);
}

static void a_table_of_another_size_is_refused(void) {
  bytes entries = {0};
  gw_error error;
  uint64_t count;
  for (uint8_t i = 1; i < 100; i++) {
    add(&entries, &i, 1);
  }
  size_t size = gw_table_size(entries.at, entries.length, &META, &error);
  uint64_t *table = calloc(1, size);
  CHECK(table != NULL);
  for (size_t wrong = 0; wrong <= size + 300; wrong++) { /* none of these is written to behind its end */
    uint8_t *shorter = calloc(1, wrong + 1);
    int good = gw_table_compile(entries.at, entries.length, &META, shorter, wrong, &count, &error);
    CHECK(shorter != NULL && (!good || wrong % 264 == size % 264));
    CHECK(good || strstr(error.text, "bytes") != NULL || strstr(error.text, "one hash") != NULL);
    free(shorter);
  }
  CHECK(gw_table_compile(entries.at, entries.length, &META, (uint8_t *)table, size, &count, &error) && count == 99);
  free(table);
  bytes_free(&entries);
}

/* file_with returns the table file of three serials, with |length| bytes, one of them changed where |at| is inside. */
static int file_with(size_t at, uint8_t change, long longer, size_t *length) {
  bytes entries = {0};
  gw_error error;
  uint64_t count;
  add(&entries, "\x01", 1);
  add(&entries, "\x02", 1);
  add(&entries, "0123456789012345678901234567890123456789", 40);
  int fd = compile_to(&entries, &count, &error);
  CHECK(fd >= 0);
  bytes_free(&entries);
  *length = (size_t)lseek(fd, 0, SEEK_END);
  uint8_t byte;
  if (at < *length) {
    CHECK(pread(fd, &byte, 1, (off_t)at) == 1);
    byte ^= change;
    CHECK(pwrite(fd, &byte, 1, (off_t)at) == 1);
  }
  CHECK(ftruncate(fd, (off_t)*length + longer) == 0);
  return fd;
}

/* Issuer name, key, signature and number of META. */
enum { BLOBS = 4 + 7 + 9 + 1 };

static void a_changed_byte_is_never_believed_when_checked_deeply(void) {
  size_t length = 1;
  for (size_t at = 0; at < length; at++) {
    for (unsigned bit = 0; bit < 8; bit += 7) {
      gw_error error = {""};
      int fd = file_with(at, (uint8_t)(1u << bit), 0, &length);
      CHECK(gw_table_open(fd, 1, &error) == NULL);
      CHECK(error.text[0] != '\0');
      gw_table *shallow = gw_table_open(fd, 0, &error); /* NULL for the header; for the body wrong answers at worst */
      CHECK((shallow == NULL) == (at < sizeof(gw_table_header) || at >= length - BLOBS));
      if (shallow != NULL) {
        (void)finds(shallow, "\x01", 1);
        (void)finds(shallow, "0123456789012345678901234567890123456789", 40);
        gw_table_free(shallow);
      }
      close(fd);
    }
  }
}

static void a_file_of_another_length_is_refused(void) {
  size_t length;
  static const long CHANGES[] = {-1, -64, 1, 64, 4096};
  for (size_t i = 0; i < 5; i++) {
    gw_error error = {""};
    int fd = file_with(SIZE_MAX, 0, CHANGES[i], &length);
    CHECK(gw_table_open(fd, 0, &error) == NULL && strstr(error.text, "do not fit") != NULL);
    close(fd);
  }
  int none = memfd_create("none", MFD_CLOEXEC);
  gw_error error = {""};
  CHECK(gw_table_open(none, 0, &error) == NULL && strstr(error.text, "empty") != NULL);
  CHECK(write(none, "revocation table", 16) == 16);
  CHECK(gw_table_open(none, 0, &error) == NULL && strstr(error.text, "16 bytes") != NULL);
  CHECK(gw_table_open(-1, 0, &error) == NULL);
  close(none);
}

static void a_body_of_garbage_never_leads_out_of_the_map(void) {
  uint64_t state = 3;
  for (int round = 0; round < 300; round++) {
    bytes entries = {0};
    gw_error error;
    uint64_t count;
    uint8_t serial[40] = {0};
    for (uint64_t i = 0; i < 200; i++) {
      numbered(RANDOM, i, 1, serial);
      add(&entries, serial, i % 5 == 0 ? 30 : 16);
    }
    int fd = compile_to(&entries, &count, &error);
    CHECK(fd >= 0);
    bytes_free(&entries);
    off_t length = lseek(fd, 0, SEEK_END);
    for (off_t at = sizeof(gw_table_header); at + BLOBS < length; at += 8) {
      uint64_t garbage = next_random(&state) >> (round % 4 * 16);
      CHECK(pwrite(fd, &garbage, 8, at) == 8);
    }
    gw_table *table = gw_table_open(fd, 0, &error);
    CHECK(table != NULL);
    for (uint64_t i = 0; i < 200; i++) {
      gw_table_entry entry = {0, 0};
      numbered(RANDOM, i, 1, serial);
      (void)gw_table_find(table, serial, i % 5 == 0 ? 30 : 16, &entry);
      CHECK(entry.reason >= -1 && entry.reason <= 10);
      const gw_table_record *record = gw_table_at(table, i);
      CHECK(record != NULL);
      (void)gw_table_find(table, record->octets, sizeof record->octets, &entry);
      CHECK(entry.reason >= -1 && entry.reason <= 10);
    }
    gw_table_free(table);
    close(fd);
  }
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
  RUN(every_member_is_found_and_no_stranger);
  RUN(random_short_serials_agree_with_a_set);
  RUN(serials_that_belong_into_one_group_are_found);
  RUN(serials_that_were_chosen_to_meet_are_refused);
  RUN(meta_comes_back_and_lives_with_the_table);
  RUN(the_last_reference_unmaps);
  RUN(a_bad_entry_is_refused_with_its_place);
  RUN(meta_that_is_too_long_is_refused);
  RUN(a_table_of_another_size_is_refused);
  RUN(a_changed_byte_is_never_believed_when_checked_deeply);
  RUN(a_file_of_another_length_is_refused);
  RUN(a_body_of_garbage_never_leads_out_of_the_map);
  return 0;
}
