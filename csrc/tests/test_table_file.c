/* test_table_file.c - a table says what it was made of, and survives what happens to files. */
#include "serials.h"
#include "table_file.h"

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
