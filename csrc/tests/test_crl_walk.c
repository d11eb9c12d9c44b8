/* test_crl_walk.c - what the walk over a CertificateList accepts, what it refuses, and that it says why. */
#include "crl_walk.h"
#include "make_crl.h"

static const uint8_t SERIAL[] = {0x01, 0x02, 0x03};
static const char REASON_CODE[] = "\x55\x1d\x15";
static const char CERTIFICATE_ISSUER[] = "\x55\x1d\x1d";
static const char UNKNOWN[] = "\x55\x1d\x7f";

/* split_text returns "" where |list| splits, else the error; it has to. */
static const char *split_text(const bytes *list, gw_crl_parts *parts) {
  static gw_error error;
  error.text[0] = '\0';
  int good = gw_crl_split(list->at, list->length, parts, &error);
  CHECK(good == (error.text[0] == '\0'));
  return error.text;
}

/* read_one reads |entries|, of one entry; returns "" or the error, which names a byte. Frees. */
static const char *read_one(bytes *entries, gw_crl_entry *entry) {
  static gw_error error;
  size_t position = 0;
  error.text[0] = '\0';
  int good = gw_crl_next_entry(entries->at, entries->length, &position, entry, &error);
  CHECK(good == (error.text[0] == '\0'));
  CHECK(position == (good ? entries->length : 0));
  CHECK(good || strncmp(error.text, "byte ", 5) == 0);
  bytes_free(entries);
  return error.text;
}

static const char *read_date(const char *date, int64_t *seconds) {
  bytes entries = {0};
  gw_crl_entry entry = {0};
  entry_add(&entries, SERIAL, sizeof SERIAL, date, NULL);
  const char *text = read_one(&entries, &entry);
  *seconds = entry.revocation_date;
  return text;
}

static const char *read_extension(const char *oid, int critical, const void *value, size_t length, int *reason) {
  bytes entries = {0}, extensions = {0};
  gw_crl_entry entry = {0};
  extension_add(&extensions, oid, critical, value, length);
  entry_add(&entries, SERIAL, sizeof SERIAL, "260101000000Z", &extensions);
  const char *text = read_one(&entries, &entry);
  *reason = entry.reason;
  return text;
}

static void parts_point_to_what_they_name(void) {
  bytes entries = {0};
  gw_crl_parts parts;
  entry_add(&entries, SERIAL, sizeof SERIAL, "260101000000Z", NULL);
  for (int without = 0; without < 16; without++) {
    bytes list = list_make(&entries, without);
    CHECK(strcmp(split_text(&list, &parts), "") == 0);
    CHECK(parts.total_length == list.length);
    CHECK(list.at[parts.tbs_at] == 0x30);
    CHECK(parts.tbs_at + parts.tbs_length == parts.signature_algorithm_at);
    CHECK(parts.signature_length == 9 && memcmp(list.at + parts.signature_at, "signature", 9) == 0);
    CHECK(parts.signature_at + parts.signature_length == list.length);
    if (without & LIST_NO_REVOKED) {
      CHECK(parts.revoked_at == 0 && parts.revoked_length == 0 && parts.entries_length == 0);
    } else {
      CHECK(parts.entries_length == entries.length);
      CHECK(memcmp(list.at + parts.entries_at, entries.at, entries.length) == 0);
      CHECK(parts.revoked_at + parts.revoked_length == parts.after_revoked_at);
    }
    size_t tbs_end = parts.tbs_at + parts.tbs_length;
    CHECK(without & LIST_NO_EXTENSIONS ? parts.after_revoked_at == tbs_end : list.at[parts.after_revoked_at] == 0xa0);
    bytes_free(&list);
  }
  bytes_free(&entries);
}

static void empty_revokedCertificates_has_no_entries(void) {
  bytes none = {0}, list = list_make(&none, 0);
  gw_crl_parts parts;
  gw_crl_entry entry;
  gw_error error = {"not empty"};
  size_t position = 0;
  CHECK(strcmp(split_text(&list, &parts), "") == 0);
  CHECK(parts.revoked_length == 2 && parts.entries_length == 0);
  CHECK(!gw_crl_next_entry(list.at + parts.entries_at, parts.entries_length, &position, &entry, &error));
  CHECK(error.text[0] == '\0');
  bytes_free(&list);
}

static void every_truncation_and_every_trailing_byte_is_refused(void) {
  bytes entries = {0};
  gw_crl_parts parts;
  entry_add(&entries, SERIAL, sizeof SERIAL, "260101000000Z", NULL);
  bytes list = list_make(&entries, 0);
  size_t whole = list.length;
  for (list.length = 0; list.length < whole; list.length++) {
    bytes copy = {0}; /* of exactly this length: a read behind it is seen by ASan and valgrind */
    bytes_add(&copy, list.at, list.length);
    CHECK(strcmp(split_text(&copy, &parts), "") != 0);
    bytes_free(&copy);
  }
  bytes_add(&list, "", 1);
  CHECK(strstr(split_text(&list, &parts), "1 bytes too many") != NULL);
  bytes_free(&list);
  bytes_free(&entries);
}

/* Replaces the first |length| bytes |from| in a list of no entries by |to|. */
static const char *split_changed(const char *from, const char *to, size_t length) {
  bytes none = {0}, list = list_make(&none, 0);
  gw_crl_parts parts;
  uint8_t *at = memmem(list.at, list.length, from, length);
  CHECK(at != NULL);
  memcpy(at, to, length);
  const char *text = split_text(&list, &parts);
  bytes_free(&list);
  return text;
}

static void a_list_that_is_not_by_the_book_is_refused(void) {
  CHECK(strstr(split_changed("\x02\x01\x01", "\x02\x01\x00", 3), "v2") != NULL);
  CHECK(strstr(split_changed("\xce\x3d\x04\x03\x02", "\xce\x3d\x04\x03\x03", 5), "differs") != NULL);
  CHECK(strstr(split_changed("\0signature", "\1signature", 10), "whole octets") != NULL);
  CHECK(strstr(split_changed("\xa0\x0e", "\xa1\x0e", 2), "too many") != NULL);
  CHECK(strcmp(split_changed("\x17\x0d", "\x18\x0d", 2), "") == 0); /* either Time may stand there */
}

static void lengths_that_are_not_DER_are_refused(void) {
  static const char *const LISTS[] = {"\x30\x80\x00\x00", "\x30\x81\x02\x05\x00", "\x30\x82\x00\x02\x05\x00",
                                      "\x30\x85\x00\x00\x00\x00\x02", "\x30\xff", "\x3f\x02\x05\x00"};
  static const size_t LENGTHS[] = {4, 5, 6, 7, 2, 4};
  gw_crl_parts parts;
  for (size_t i = 0; i < 6; i++) {
    bytes list = {0};
    bytes_add(&list, LISTS[i], LENGTHS[i]);
    CHECK(strstr(split_text(&list, &parts), "byte 0: CertificateList expected") != NULL);
    bytes_free(&list);
  }
}

static void serial_is_given_as_it_stands(void) {
  static const char *const SERIALS[] = {"\x00", "\xff", "\x00\xff", "\x00\x00\x01", "\xff\xff"};
  static const size_t LENGTHS[] = {1, 1, 2, 3, 2};
  for (size_t i = 0; i < 5; i++) {
    bytes entries = {0};
    gw_crl_entry entry;
    size_t position = 0;
    entry_add(&entries, SERIALS[i], LENGTHS[i], "260101000000Z", NULL);
    CHECK(gw_crl_next_entry(entries.at, entries.length, &position, &entry, NULL));
    CHECK(entry.serial_length == LENGTHS[i] && memcmp(entry.serial, SERIALS[i], LENGTHS[i]) == 0);
    CHECK(entry.reason == -1);
    bytes_free(&entries);
  }
}

static void serial_without_content_is_refused(void) {
  bytes entries = {0};
  gw_crl_entry entry;
  entry_add(&entries, "", 0, "260101000000Z", NULL);
  CHECK(strstr(read_one(&entries, &entry), "without content") != NULL);
}

static void dates_are_read_to_the_second(void) {
  static const struct {
    const char *text;
    int64_t seconds;
  } DATES[] = {{"700101000000Z", 0},           {"491231235959Z", 2524607999},   {"500101000000Z", -631152000},
               {"000229120000Z", 951825600},   {"20260101000000Z", 1767225600}, {"19691231235959Z", -1},
               {"00000101000000Z", -62167219200}, {"00010101000000Z", -62135596800}, {"21000228235959Z", 4107542399},
               {"99991231235959Z", 253402300799}};
  for (size_t i = 0; i < sizeof DATES / sizeof *DATES; i++) {
    int64_t seconds;
    CHECK(strcmp(read_date(DATES[i].text, &seconds), "") == 0);
    CHECK(seconds == DATES[i].seconds);
  }
}

static void dates_that_are_not_strict_are_refused(void) {
  static const char *const DATES[] = {
      "2601010000Z",     "260101000000+",   "260101000000z",   "261301000000Z",     "260001000000Z",
      "260100000000Z",   "260230000000Z",   "270229000000Z",   "260101240000Z",     "260101006000Z",
      "260101000060Z",   "26o101000000Z",   "-60101000000Z",   "21000229000000Z",   "20260101000000.5Z",
      "20260101000000",  "2026010100Z",     "260101000000+0000", "20260101000000+00", ""};
  for (size_t i = 0; i < sizeof DATES / sizeof *DATES; i++) {
    int64_t seconds;
    CHECK(strstr(read_date(DATES[i], &seconds), "revocationDate") != NULL);
  }
}

static void every_reason_of_the_RFC_is_read(void) {
  for (int code = 0; code < 256; code++) {
    uint8_t value[] = {0x0a, 0x01, (uint8_t)code};
    int reason;
    for (int critical = 0; critical < 2; critical++) {
      const char *text = read_extension(REASON_CODE, critical ? 0xff : -1, value, sizeof value, &reason);
      int legal = code <= 10 && code != 7;
      CHECK(legal == (text[0] == '\0'));
      CHECK(!legal || reason == code);
    }
  }
}

static void reasons_in_another_form_are_refused(void) {
  int reason;
  CHECK(read_extension(REASON_CODE, -1, "\x02\x01\x01", 3, &reason)[0] != '\0');
  CHECK(read_extension(REASON_CODE, -1, "\x0a\x02\x00\x01", 4, &reason)[0] != '\0');
  CHECK(read_extension(REASON_CODE, -1, "\x0a\x00", 2, &reason)[0] != '\0');
  CHECK(read_extension(REASON_CODE, -1, "\x0a\x01\x01\x00", 4, &reason)[0] != '\0');
  CHECK(read_extension(REASON_CODE, -1, "", 0, &reason)[0] != '\0');
}

static void a_second_reason_is_refused(void) {
  bytes entries = {0}, extensions = {0};
  gw_crl_entry entry;
  extension_add(&extensions, REASON_CODE, -1, "\x0a\x01\x01", 3);
  extension_add(&extensions, REASON_CODE, -1, "\x0a\x01\x01", 3);
  entry_add(&entries, SERIAL, sizeof SERIAL, "260101000000Z", &extensions);
  CHECK(strstr(read_one(&entries, &entry), "second reasonCode") != NULL);
}

static void unknown_extensions_matter_only_when_critical(void) {
  int reason;
  CHECK(strcmp(read_extension(UNKNOWN, -1, "any", 3, &reason), "") == 0);
  CHECK(reason == -1);
  CHECK(strcmp(read_extension(UNKNOWN, 0x00, "any", 3, &reason), "") == 0);
  CHECK(strstr(read_extension(UNKNOWN, 0xff, "any", 3, &reason), "critical") != NULL);
  CHECK(strstr(read_extension(UNKNOWN, 0x01, "any", 3, &reason), "neither TRUE nor FALSE") != NULL);
}

static void certificateIssuer_is_an_indirect_CRL_critical_or_not(void) {
  int reason;
  CHECK(strstr(read_extension(CERTIFICATE_ISSUER, 0xff, "", 0, &reason), "indirect CRL") != NULL);
  CHECK(strstr(read_extension(CERTIFICATE_ISSUER, -1, "", 0, &reason), "indirect CRL") != NULL);
}

static void the_error_names_the_byte_of_the_bad_entry(void) {
  bytes entries = {0};
  gw_crl_entry entry;
  gw_error error;
  size_t position = 0;
  entry_add(&entries, SERIAL, sizeof SERIAL, "260101000000Z", NULL);
  size_t second = entries.length;
  bytes_add(&entries, "\x31\x00", 2);
  CHECK(gw_crl_next_entry(entries.at, entries.length, &position, &entry, &error));
  CHECK(!gw_crl_next_entry(entries.at, entries.length, &position, &entry, &error));
  CHECK(position == second);
  CHECK(strstr(error.text, "byte 22: an entry of revokedCertificates expected, but the tag is 0x31") != NULL);
  bytes_free(&entries);
}

static void every_truncated_entry_is_refused(void) {
  bytes entries = {0}, extensions = {0};
  gw_crl_entry entry;
  extension_add(&extensions, REASON_CODE, 0xff, "\x0a\x01\x01", 3);
  entry_add(&entries, SERIAL, sizeof SERIAL, "260101000000Z", &extensions);
  for (size_t length = 1; length < entries.length; length++) {
    bytes copy = {0};
    bytes_add(&copy, entries.at, length);
    CHECK(read_one(&copy, &entry)[0] != '\0');
  }
  bytes_free(&entries);
}

int main(void) {
  RUN(parts_point_to_what_they_name);
  RUN(empty_revokedCertificates_has_no_entries);
  RUN(every_truncation_and_every_trailing_byte_is_refused);
  RUN(a_list_that_is_not_by_the_book_is_refused);
  RUN(lengths_that_are_not_DER_are_refused);
  RUN(serial_is_given_as_it_stands);
  RUN(serial_without_content_is_refused);
  RUN(dates_are_read_to_the_second);
  RUN(dates_that_are_not_strict_are_refused);
  RUN(every_reason_of_the_RFC_is_read);
  RUN(reasons_in_another_form_are_refused);
  RUN(a_second_reason_is_refused);
  RUN(unknown_extensions_matter_only_when_critical);
  RUN(certificateIssuer_is_an_indirect_CRL_critical_or_not);
  RUN(the_error_names_the_byte_of_the_bad_entry);
  RUN(every_truncated_entry_is_refused);
  return 0;
}
