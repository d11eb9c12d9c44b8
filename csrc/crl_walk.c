#include "crl_walk.h"

#include <string.h>

#include "der.h"

/* id-ce-reasonCode and id-ce-certificateIssuer (RFC 5280, sections 5.3.1 and 5.3.3). */
static const uint8_t REASON_CODE[] = {0x55, 0x1d, 0x15};
static const uint8_t CERTIFICATE_ISSUER[] = {0x55, 0x1d, 0x1d};

/* Out of line, so that expect stays small enough to be inlined: it runs some eight times an entry. */
__attribute__((noinline, cold)) static void not_there(gw_der reader, const char *what, gw_error *error) {
  size_t at = reader.at;
  gw_der_element element;
  if (gw_der_next(&reader, &element)) {
    gw_fail(error, "byte %zu: %s expected, but the tag is 0x%02x", at, what, element.tag);
  } else {
    gw_fail(error, "byte %zu: %s expected, but there is no DER element that fits", at, what);
  }
}

/* expect reads one element that must have |tag|. Returns 1, or 0 with |error|. */
static inline int expect(gw_der *reader, uint8_t tag, const char *what, gw_der_element *element, gw_error *error) {
  if (!gw_der_next_is(reader, tag) || !gw_der_next(reader, element)) {
    not_there(*reader, what, error);
    return 0;
  }
  return 1;
}

static int expect_end(const gw_der *reader, const char *what, gw_error *error) {
  if (!gw_der_at_end(reader)) {
    return gw_fail(error, "byte %zu: %zu bytes too many in %s", reader->at, reader->end - reader->at, what);
  }
  return 1;
}

static int next_is_time(const gw_der *reader) {
  return gw_der_next_is(reader, GW_DER_UTC_TIME) || gw_der_next_is(reader, GW_DER_GENERALIZED_TIME);
}

/* expect_time reads one Time, whichever of its two forms stands there. */
static int expect_time(gw_der *reader, const char *what, gw_der_element *element, gw_error *error) {
  uint8_t tag = gw_der_next_is(reader, GW_DER_GENERALIZED_TIME) ? GW_DER_GENERALIZED_TIME : GW_DER_UTC_TIME;
  return expect(reader, tag, what, element, error);
}

/* "If present, [version] MUST be v2", which is written 1 (RFC 5280, section 5.1.2.1). */
static int skip_version(gw_der *reader, gw_error *error) {
  if (!gw_der_next_is(reader, GW_DER_INTEGER)) {
    return 1;
  }
  gw_der_element version;
  if (!expect(reader, GW_DER_INTEGER, "version", &version, error)) {
    return 0;
  }
  if (version.content_length != 1 || reader->bytes[version.content_at] != 1) {
    return gw_fail(error, "byte %zu: the version of a certificate list is v2 or left out", version.at);
  }
  return 1;
}

static void note_revoked(const gw_der_element *revoked, gw_crl_parts *parts) {
  parts->revoked_at = revoked->at;
  parts->revoked_length = revoked->length;
  parts->entries_at = revoked->content_at;
  parts->entries_length = revoked->content_length;
}

/* split_tbs goes through tbsCertList; |algorithm| is its signature field. */
static int split_tbs(gw_der tbs, gw_crl_parts *parts, gw_der_element *algorithm, gw_error *error) {
  gw_der_element element;
  if (!skip_version(&tbs, error) || !expect(&tbs, GW_DER_SEQUENCE, "signature algorithm", algorithm, error) ||
      !expect(&tbs, GW_DER_SEQUENCE, "issuer", &element, error) ||
      !expect_time(&tbs, "thisUpdate", &element, error)) {
    return 0;
  }
  if (next_is_time(&tbs) && !expect_time(&tbs, "nextUpdate", &element, error)) {
    return 0;
  }
  parts->entries_at = tbs.at;
  if (gw_der_next_is(&tbs, GW_DER_SEQUENCE)) {
    if (!expect(&tbs, GW_DER_SEQUENCE, "revokedCertificates", &element, error)) {
      return 0;
    }
    note_revoked(&element, parts);
  }
  parts->after_revoked_at = tbs.at;
  if (gw_der_next_is(&tbs, GW_DER_CONTEXT_0) &&
      !expect(&tbs, GW_DER_CONTEXT_0, "crlExtensions", &element, error)) {
    return 0;
  }
  return expect_end(&tbs, "tbsCertList", error);
}

/* "This field MUST contain the same algorithm identifier as the signature field
 * in the sequence tbsCertList" (RFC 5280, section 5.1.1.2): the outer one is not signed. */
static int same_algorithm(const uint8_t *der, const gw_der_element *inner, const gw_der_element *outer,
                          gw_error *error) {
  if (inner->length != outer->length || memcmp(der + inner->at, der + outer->at, inner->length) != 0) {
    return gw_fail(error, "byte %zu: signatureAlgorithm differs from the one that is signed", outer->at);
  }
  return 1;
}

static int note_signature(const gw_der *list, const gw_der_element *signature, gw_crl_parts *parts, gw_error *error) {
  if (signature->content_length < 2 || list->bytes[signature->content_at] != 0) {
    return gw_fail(error, "byte %zu: signatureValue is empty or not of whole octets", signature->at);
  }
  parts->signature_at = signature->content_at + 1;
  parts->signature_length = signature->content_length - 1;
  return 1;
}

int gw_crl_split(const uint8_t *der, size_t length, gw_crl_parts *parts, gw_error *error) {
  gw_der whole = {der, 0, length};
  gw_der_element list, tbs, algorithm, outer, signature;
  memset(parts, 0, sizeof *parts);
  if (!expect(&whole, GW_DER_SEQUENCE, "CertificateList", &list, error) ||
      !expect_end(&whole, "what should be one CertificateList", error)) {
    return 0;
  }
  gw_der inside = gw_der_inside(&whole, &list);
  if (!expect(&inside, GW_DER_SEQUENCE, "tbsCertList", &tbs, error) ||
      !split_tbs(gw_der_inside(&inside, &tbs), parts, &algorithm, error) ||
      !expect(&inside, GW_DER_SEQUENCE, "signatureAlgorithm", &outer, error) ||
      !same_algorithm(der, &algorithm, &outer, error) ||
      !expect(&inside, GW_DER_BIT_STRING, "signatureValue", &signature, error) ||
      !note_signature(&inside, &signature, parts, error) || !expect_end(&inside, "CertificateList", error)) {
    return 0;
  }
  parts->tbs_at = tbs.at;
  parts->tbs_length = tbs.length;
  parts->tbs_content_at = tbs.content_at;
  parts->signature_algorithm_at = outer.at;
  parts->signature_algorithm_length = outer.length;
  parts->total_length = length;
  return 1;
}

/* two_digits returns 0..99, or -1. */
static int two_digits(const uint8_t *text) {
  unsigned tens = (unsigned)text[0] - '0', ones = (unsigned)text[1] - '0';
  return tens > 9 || ones > 9 ? -1 : (int)(tens * 10 + ones);
}

static int is_leap(int year) { return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0; }

/* seconds_since_1970 converts a date of the Gregorian calendar; |month| 1..12, year 0 or later. */
static int64_t seconds_since_1970(int year, int month, int day, int second_of_day) {
  static const int BEFORE_MONTH[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
  int past = year - 1; /* leap days of the years that are over; -1 must count as none before year 0 */
  int leap_days = year == 0 ? -1 : past / 4 - past / 100 + past / 400;
  int days = year * 365 + leap_days + BEFORE_MONTH[month - 1] + (month > 2 && is_leap(year)) + day - 1;
  const int DAYS_TO_1970 = 1970 * 365 + 1969 / 4 - 1969 / 100 + 1969 / 400;
  return (int64_t)(days - DAYS_TO_1970) * 86400 + second_of_day;
}

/* read_date_and_time reads MMDDhhmmssZ at |text|: RFC 5280, sections 5.1.2.4 to
 * 5.1.2.6, wants seconds and Z, no fraction. Returns 1, or 0. */
static int read_date_and_time(const uint8_t *text, int year, int64_t *seconds) {
  static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  int month = two_digits(text), day = two_digits(text + 2), hour = two_digits(text + 4);
  int minute = two_digits(text + 6), second = two_digits(text + 8);
  if (year < 0 || month < 1 || month > 12 || day < 1 || text[10] != 'Z') {
    return 0;
  }
  if (day > DAYS[month - 1] + (month == 2 && is_leap(year))) {
    return 0;
  }
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) {
    return 0;
  }
  *seconds = seconds_since_1970(year, month, day, hour * 3600 + minute * 60 + second);
  return 1;
}

/* read_time reads the Time in |element|. UTCTime means 1950 to 2049. */
static int read_time(const uint8_t *bytes, const gw_der_element *element, int64_t *seconds, gw_error *error) {
  const uint8_t *text = bytes + element->content_at;
  int good = 0;
  if (element->tag == GW_DER_UTC_TIME && element->content_length == 13) {
    int year = two_digits(text);
    good = read_date_and_time(text + 2, year < 0 ? -1 : year + (year < 50 ? 2000 : 1900), seconds);
  } else if (element->tag == GW_DER_GENERALIZED_TIME && element->content_length == 15) {
    int century = two_digits(text), year = two_digits(text + 2);
    good = read_date_and_time(text + 4, century < 0 || year < 0 ? -1 : century * 100 + year, seconds);
  }
  return good ? 1 : gw_fail(error, "byte %zu: revocationDate is not a date of the form YYMMDDHHMMSSZ", element->at);
}

/* read_reason reads reasonCode: CRLReason ::= ENUMERATED, 0 to 10, "value 7 is not used". */
static int read_reason(const gw_der *reader, const gw_der_element *value, int *reason, gw_error *error) {
  gw_der inside = gw_der_inside(reader, value);
  gw_der_element code;
  if (*reason >= 0) {
    return gw_fail(error, "byte %zu: a second reasonCode", value->at);
  }
  if (!expect(&inside, GW_DER_ENUMERATED, "CRLReason", &code, error) ||
      !expect_end(&inside, "reasonCode", error)) {
    return 0;
  }
  if (code.content_length != 1 || inside.bytes[code.content_at] > 10 || inside.bytes[code.content_at] == 7) {
    return gw_fail(error, "byte %zu: reasonCode is not one of 0 to 6 and 8 to 10", code.at);
  }
  *reason = inside.bytes[code.content_at];
  return 1;
}

/* read_critical reads the BOOLEAN of an Extension. DER leaves FALSE out, but it
 * has only one meaning where a CA wrote it; anything but 00 and FF has not. */
static int read_critical(gw_der *extension, int *critical, gw_error *error) {
  gw_der_element flag;
  *critical = 0;
  if (!gw_der_next_is(extension, GW_DER_BOOLEAN)) {
    return 1;
  }
  if (!expect(extension, GW_DER_BOOLEAN, "critical", &flag, error)) {
    return 0;
  }
  uint8_t value = flag.content_length == 1 ? extension->bytes[flag.content_at] : 0x01;
  if (value != 0x00 && value != 0xff) {
    return gw_fail(error, "byte %zu: critical is neither TRUE nor FALSE", flag.at);
  }
  *critical = value == 0xff;
  return 1;
}

static int is_oid(const gw_der *reader, const gw_der_element *oid, const uint8_t *expected, size_t length) {
  return oid->content_length == length && memcmp(reader->bytes + oid->content_at, expected, length) == 0;
}

static int read_extension(gw_der *extensions, int *reason, gw_error *error) {
  gw_der_element element, oid, value;
  int critical;
  if (!expect(extensions, GW_DER_SEQUENCE, "Extension", &element, error)) {
    return 0;
  }
  gw_der inside = gw_der_inside(extensions, &element);
  if (!expect(&inside, GW_DER_OBJECT_IDENTIFIER, "extnID", &oid, error) ||
      !read_critical(&inside, &critical, error) ||
      !expect(&inside, GW_DER_OCTET_STRING, "extnValue", &value, error) || !expect_end(&inside, "Extension", error)) {
    return 0;
  }
  if (is_oid(&inside, &oid, REASON_CODE, sizeof REASON_CODE)) {
    return read_reason(&inside, &value, reason, error);
  }
  /* Marked critical or not: the entry, and those after it, are of another issuer's certificates. */
  if (is_oid(&inside, &oid, CERTIFICATE_ISSUER, sizeof CERTIFICATE_ISSUER)) {
    return gw_fail(error, "byte %zu: certificateIssuer in an entry: an indirect CRL is not supported", oid.at);
  }
  if (critical) {
    return gw_fail(error, "byte %zu: critical entry extension that is not known", oid.at);
  }
  return 1;
}

static int read_extensions(gw_der *inside, int *reason, gw_error *error) {
  gw_der_element element;
  if (!expect(inside, GW_DER_SEQUENCE, "crlEntryExtensions", &element, error)) {
    return 0;
  }
  gw_der extensions = gw_der_inside(inside, &element);
  while (!gw_der_at_end(&extensions)) {
    if (!read_extension(&extensions, reason, error)) {
      return 0;
    }
  }
  return 1;
}

int gw_crl_next_entry(const uint8_t *entries, size_t length, size_t *position, gw_crl_entry *entry, gw_error *error) {
  gw_der reader = {entries, *position, length};
  gw_der_element element, serial, date;
  if (*position >= length) {
    return gw_fail(error, "%s", "");
  }
  if (!expect(&reader, GW_DER_SEQUENCE, "an entry of revokedCertificates", &element, error)) {
    return 0;
  }
  gw_der inside = gw_der_inside(&reader, &element);
  if (!expect(&inside, GW_DER_INTEGER, "userCertificate", &serial, error)) {
    return 0;
  }
  if (serial.content_length == 0) {
    return gw_fail(error, "byte %zu: userCertificate is an INTEGER without content", serial.at);
  }
  *entry = (gw_crl_entry){entries + serial.content_at, serial.content_length, 0, -1};
  if (!expect_time(&inside, "revocationDate", &date, error) ||
      !read_time(entries, &date, &entry->revocation_date, error)) {
    return 0;
  }
  if (!gw_der_at_end(&inside) && !read_extensions(&inside, &entry->reason, error)) {
    return 0;
  }
  if (!expect_end(&inside, "an entry of revokedCertificates", error)) {
    return 0;
  }
  *position = reader.at;
  return 1;
}
