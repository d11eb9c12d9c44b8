#include "crl_walk.h"

#include <string.h>

#include "der.h"

enum {
  BOOLEAN = 0x01, INTEGER = 0x02, OCTET_STRING = 0x04, OBJECT_IDENTIFIER = 0x06, ENUMERATED = 0x0a,
  UTC_TIME = 0x17, GENERALIZED_TIME = 0x18, SEQUENCE = 0x30
};

/* id-ce-reasonCode and id-ce-certificateIssuer (RFC 5280, sections 5.3.1 and 5.3.3). */
static const uint8_t REASON_CODE[] = {0x55, 0x1d, 0x15};
static const uint8_t CERTIFICATE_ISSUER[] = {0x55, 0x1d, 0x1d};

/* wrong says that |what| stands at the next byte of |from|, and returns 0. */
static int wrong(const gw_der *from, gw_error *error, const char *what) {
  return gw_fail(error, "byte %zu of revokedCertificates: %s", from->at, what);
}

/* only_octet returns the content that |from| reads where that is one octet, else -1. */
static int only_octet(const gw_der *from) { return gw_der_left(from) == 1 ? from->bytes[from->at] : -1; }

static int is_oid(const gw_der *oid, const uint8_t *other, size_t length) {
  return gw_der_left(oid) == length && memcmp(oid->bytes + oid->at, other, length) == 0;
}

/* days_since_1970 converts a date of the Gregorian calendar, of the year 0 or later. Its years begin in March, so that
 * a leap day is the last of its year; the 400 years (146097 days) that are added keep all numbers positive. */
static int days_since_1970(int year, int month, int day) {
  int years = year + 400 - (month <= 2), months = (month + 9) % 12;
  int days = years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day - 1;
  return days - 719468 - 146097;
}

/* take_time reads a Time: [YY]YYMMDDhhmmssZ, with seconds and without fraction (RFC 5280, sections 5.1.2.4 to
 * 5.1.2.6). UTCTime means 1950 to 2049. Returns 1, or 0 with |from| as it was. */
static int take_time(gw_der *from, int64_t *seconds) {
  static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  int utc = gw_der_next_is(from, UTC_TIME), field[7]; /* century, year, month … second */
  size_t digits = utc ? 12 : 14;
  gw_der rest = *from, time;
  if (!gw_der_take(&rest, utc ? UTC_TIME : GENERALIZED_TIME, &time) || gw_der_left(&time) != digits + 1 ||
      time.bytes[time.end - 1] != 'Z') {
    return 0;
  }
  const uint8_t *text = time.bytes + time.at;
  for (int i = utc; i < 7; i++, text += 2) {
    unsigned tens = (unsigned)text[0] - '0', ones = (unsigned)text[1] - '0';
    if (tens > 9 || ones > 9) return 0;
    field[i] = (int)(tens * 10 + ones);
  }
  int year = (utc ? (field[1] < 50 ? 20 : 19) : field[0]) * 100 + field[1], month = field[2], day = field[3];
  int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  if (month < 1 || month > 12 || day < 1 || day > DAYS[month - 1] + (month == 2 && leap) || field[4] > 23 ||
      field[5] > 59 || field[6] > 59) {
    return 0;
  }
  *seconds = (int64_t)days_since_1970(year, month, day) * 86400 + field[4] * 3600 + field[5] * 60 + field[6];
  *from = rest;
  return 1;
}

/* take_extension reads an Extension of an entry into |entry|. */
static int take_extension(gw_der *extensions, gw_crl_entry *entry, gw_error *error) {
  const gw_der start = *extensions;
  gw_der extension, oid, flag, value, code, names;
  if (!gw_der_take(extensions, SEQUENCE, &extension) || !gw_der_take(&extension, OBJECT_IDENTIFIER, &oid)) {
    return wrong(&start, error, "an Extension with its extnID expected, in DER");
  }
  /* DER leaves FALSE out, but it has only one meaning where a CA wrote it; anything but 00 and FF has not. */
  int critical = gw_der_take(&extension, BOOLEAN, &flag) ? only_octet(&flag) : 0x00;
  if (critical != 0x00 && critical != 0xff) return wrong(&flag, error, "critical is neither TRUE nor FALSE");
  if (!gw_der_take(&extension, OCTET_STRING, &value) || gw_der_left(&extension) > 0) {
    return wrong(&extension, error, "the end of an Extension expected, behind one extnValue in DER");
  }
  /* Marked critical or not: the entry, and those after it, are of another issuer's certificates. */
  if (is_oid(&oid, CERTIFICATE_ISSUER, sizeof CERTIFICATE_ISSUER)) {
    size_t at = value.at;
    if (entry->issuer_end > 0 || !gw_der_take(&value, SEQUENCE, &names) || gw_der_left(&value) > 0) {
      return wrong(&oid, error, "one certificateIssuer expected, GeneralNames in DER");
    }
    entry->issuer_at = at;
    entry->issuer_end = names.end;
    return 1;
  }
  if (!is_oid(&oid, REASON_CODE, sizeof REASON_CODE)) {
    return critical ? wrong(&oid, error, "critical entry extension that is not known") : 1;
  }
  if (entry->reason >= 0) return wrong(&oid, error, "a second reasonCode");
  /* CRLReason ::= ENUMERATED, 0 to 10, "value 7 is not used". */
  int reason = gw_der_take(&value, ENUMERATED, &code) && gw_der_left(&value) == 0 ? only_octet(&code) : -1;
  if (reason < 0 || reason > 10 || reason == 7) {
    return wrong(&oid, error, "reasonCode is not one of 0 to 6 and 8 to 10");
  }
  entry->reason = reason;
  return 1;
}

int gw_crl_next_entry(const uint8_t *entries, size_t length, size_t *position, gw_crl_entry *entry, gw_error *error) {
  const gw_der start = {entries, *position, length};
  gw_der from = start, whole, serial, extensions = {0};
  if (*position >= length) return gw_fail(error, "%s", "");
  if (!gw_der_take(&from, SEQUENCE, &whole) || !gw_der_take(&whole, INTEGER, &serial) || gw_der_left(&serial) == 0) {
    return wrong(&start, error, "an entry expected, a SEQUENCE that begins with the INTEGER userCertificate, in DER");
  }
  *entry = (gw_crl_entry){serial.bytes + serial.at, gw_der_left(&serial), 0, -1, 0, 0};
  gw_crl_trim(&entry->serial, &entry->serial_length);
  if (!take_time(&whole, &entry->revocation_date)) {
    return wrong(&whole, error, "revocationDate expected, of the form YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ");
  }
  (void)gw_der_take(&whole, SEQUENCE, &extensions); /* optional: what else stands there is too much */
  while (gw_der_left(&extensions) > 0) {
    if (!take_extension(&extensions, entry, error)) return 0;
  }
  if (gw_der_left(&whole) > 0) {
    return wrong(&whole, error, "the end of the entry expected, behind crlEntryExtensions at the most");
  }
  *position = from.at;
  return 1;
}

int gw_crl_next_issuer(const uint8_t *entries, size_t length, size_t *position, size_t *begin, gw_crl_entry *entry,
                       gw_error *error) {
  do {
    *begin = *position;
    if (!gw_crl_next_entry(entries, length, position, entry, error)) return 0;
  } while (entry->issuer_end == 0);
  return 1;
}
