/* test_crl_walk.c - what the walk over the entries of a list accepts, what it refuses, and that it says why. */
#include "crl_walk.h"
#include "make_crl.h"

static const uint8_t SERIAL[] = {0x01, 0x02, 0x03};
static const char REASON_CODE[] = "\x55\x1d\x15";
static const char CERTIFICATE_ISSUER[] = "\x55\x1d\x1d";
static const char UNKNOWN[] = "\x55\x1d\x7f";

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

static void no_entries_are_the_end_and_no_error(void) {
  gw_crl_entry entry;
  gw_error error = {"not empty"};
  size_t position = 0;
  CHECK(!gw_crl_next_entry((const uint8_t *)"", 0, &position, &entry, &error));
  CHECK(error.text[0] == '\0' && position == 0);
}

static void lengths_that_are_not_DER_are_refused(void) {
  static const char *const ENTRIES[] = {"\x30\x80\x00\x00", "\x30\x81\x02\x05\x00", "\x30\x82\x00\x02\x05\x00",
                                        "\x30\x85\x00\x00\x00\x00\x02", "\x30\xff", "\x3f\x02\x05\x00"};
  static const size_t LENGTHS[] = {4, 5, 6, 7, 2, 4};
  for (size_t i = 0; i < 6; i++) {
    bytes entries = {0};
    gw_crl_entry entry;
    bytes_add(&entries, ENTRIES[i], LENGTHS[i]);
    CHECK(strstr(read_one(&entries, &entry), "byte 0 of revokedCertificates: an entry expected") != NULL);
  }
}

static void serial_is_given_without_redundant_octets(void) {
  static const char *const SERIALS[] = {"\x00", "\xff", "\x00\xff", "\x00\x00\x01", "\xff\xff", "\xff\x7f", "\x00\x00"};
  static const size_t LENGTHS[] = {1, 1, 2, 3, 2, 2, 2}, REDUNDANT[] = {0, 0, 0, 2, 1, 0, 1};
  for (size_t i = 0; i < 7; i++) {
    bytes entries = {0};
    gw_crl_entry entry;
    size_t position = 0, length = LENGTHS[i] - REDUNDANT[i];
    entry_add(&entries, SERIALS[i], LENGTHS[i], "260101000000Z", NULL);
    CHECK(gw_crl_next_entry(entries.at, entries.length, &position, &entry, NULL));
    CHECK(entry.serial_length == length && memcmp(entry.serial, SERIALS[i] + REDUNDANT[i], length) == 0);
    CHECK(entry.reason == -1);
    bytes_free(&entries);
  }
}

static void serial_without_content_is_refused(void) {
  bytes entries = {0};
  gw_crl_entry entry;
  entry_add(&entries, "", 0, "260101000000Z", NULL);
  CHECK(strstr(read_one(&entries, &entry), "userCertificate") != NULL);
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

static void the_entries_that_name_an_issuer_are_found_with_the_names(void) {
  static const char NAMES[] = "\x30\x03\x82\x01x";
  for (int critical = -1; critical <= 0xff; critical += 0x100) {
    bytes entries = {0}, named[2] = {{0}, {0}};
    gw_crl_entry entry;
    gw_error error = {"?"};
    size_t position = 0, begin, begins[2];
    for (int i = 0; i < 5; i++) {
      if (i % 2 == 1) {
        begins[i / 2] = entries.length;
        extension_add(&named[i / 2], CERTIFICATE_ISSUER, critical, NAMES, sizeof NAMES - 1);
      }
      entry_add(&entries, SERIAL, sizeof SERIAL, "260101000000Z", i % 2 == 1 ? &named[i / 2] : NULL);
    }
    for (int i = 0; i < 2; i++) {
      CHECK(gw_crl_next_issuer(entries.at, entries.length, &position, &begin, &entry, &error) && begin == begins[i]);
      CHECK(entry.issuer_end - entry.issuer_at == sizeof NAMES - 1);
      CHECK(memcmp(entries.at + entry.issuer_at, NAMES, sizeof NAMES - 1) == 0);
    }
    CHECK(!gw_crl_next_issuer(entries.at, entries.length, &position, &begin, &entry, &error));
    CHECK(error.text[0] == '\0' && position == entries.length);
    bytes_free(&entries);
  }
}

static void an_issuer_that_is_no_names_or_stands_twice_is_refused(void) {
  int reason;
  CHECK(strstr(read_extension(CERTIFICATE_ISSUER, 0xff, "", 0, &reason), "one certificateIssuer") != NULL);
  CHECK(strstr(read_extension(CERTIFICATE_ISSUER, -1, "\x30\x05\x82\x01x", 5, &reason), "one certificateIssuer") != NULL);
  CHECK(strstr(read_extension(CERTIFICATE_ISSUER, -1, "\x30\x00x", 3, &reason), "one certificateIssuer") != NULL);
  bytes entries = {0}, extensions = {0};
  gw_crl_entry entry;
  extension_add(&extensions, CERTIFICATE_ISSUER, -1, "\x30\x00", 2);
  extension_add(&extensions, CERTIFICATE_ISSUER, -1, "\x30\x00", 2);
  entry_add(&entries, SERIAL, sizeof SERIAL, "260101000000Z", &extensions);
  CHECK(strstr(read_one(&entries, &entry), "one certificateIssuer") != NULL);
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
  CHECK(strstr(error.text, "byte 22 of revokedCertificates: an entry expected") != NULL);
  bytes_free(&entries);
}

static void bytes_behind_the_last_field_are_refused(void) {
  static const uint8_t SERIAL_AND_DATE[] = "\x02\x01\x05\x17\x0d\x32\x36\x30\x31\x30\x31\x30\x30\x30\x30\x30\x30Z";
  static const char *const MORE[] = {"\x05\x00", "\xa0\x00", "\x30\x00\x30\x00", "\x00", "\x30\x02\x05\x00"};
  static const size_t LENGTHS[] = {2, 2, 4, 1, 4};
  for (size_t i = 0; i < 5; i++) {
    bytes entries = {0}, inside = {0};
    gw_crl_entry entry;
    bytes_add(&inside, SERIAL_AND_DATE, sizeof SERIAL_AND_DATE - 1);
    bytes_add(&inside, MORE[i], LENGTHS[i]);
    der_wrap(&entries, 0x30, &inside);
    CHECK(read_one(&entries, &entry)[0] != '\0');
  }
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
  RUN(no_entries_are_the_end_and_no_error);
  RUN(lengths_that_are_not_DER_are_refused);
  RUN(serial_is_given_without_redundant_octets);
  RUN(serial_without_content_is_refused);
  RUN(dates_are_read_to_the_second);
  RUN(dates_that_are_not_strict_are_refused);
  RUN(every_reason_of_the_RFC_is_read);
  RUN(reasons_in_another_form_are_refused);
  RUN(a_second_reason_is_refused);
  RUN(unknown_extensions_matter_only_when_critical);
  RUN(the_entries_that_name_an_issuer_are_found_with_the_names);
  RUN(an_issuer_that_is_no_names_or_stands_twice_is_refused);
  RUN(the_error_names_the_byte_of_the_bad_entry);
  RUN(bytes_behind_the_last_field_are_refused);
  RUN(every_truncated_entry_is_refused);
  return 0;
}
