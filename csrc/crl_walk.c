#include "crl_walk.h"

#include <string.h>

#include "der.h"

enum {
  BOOLEAN = 0x01, INTEGER = 0x02, BIT_STRING = 0x03, OCTET_STRING = 0x04, OBJECT_IDENTIFIER = 0x06, ENUMERATED = 0x0a,
  UTC_TIME = 0x17, GENERALIZED_TIME = 0x18, SEQUENCE = 0x30, CONTEXT_0 = 0xa0
};

/* A field of a SEQUENCE. Where UTC_TIME is its tag, it is a Time: GeneralizedTime may stand there as well. */
typedef struct {
  uint8_t tag, optional;
  const char *name;
} field;

/* The structures of RFC 5280, section 5.1: what stands in them, in order. */
enum { TBS, ALGORITHM, SIGNATURE, LIST_FIELDS };
static const field LIST[] = {{SEQUENCE, 0, "tbsCertList"}, {SEQUENCE, 0, "signatureAlgorithm"},
                             {BIT_STRING, 0, "signatureValue"}};

enum { VERSION, SIGNED_ALGORITHM, ISSUER, THIS_UPDATE, NEXT_UPDATE, REVOKED, CRL_EXTENSIONS, TBS_FIELDS };
static const field TBS_LIST[] = {{INTEGER, 1, "version"},        {SEQUENCE, 0, "signature algorithm"},
                                 {SEQUENCE, 0, "issuer"},        {UTC_TIME, 0, "thisUpdate"},
                                 {UTC_TIME, 1, "nextUpdate"},    {SEQUENCE, 1, "revokedCertificates"},
                                 {CONTEXT_0, 1, "crlExtensions"}};

enum { SERIAL, DATE, EXTENSIONS, ENTRY_FIELDS };
static const field ENTRY[] = {{INTEGER, 0, "userCertificate"}, {UTC_TIME, 0, "revocationDate"},
                              {SEQUENCE, 1, "crlEntryExtensions"}};

enum { OID, CRITICAL, VALUE, EXTENSION_FIELDS };
static const field EXTENSION[] = {{OBJECT_IDENTIFIER, 0, "extnID"}, {BOOLEAN, 1, "critical"},
                                  {OCTET_STRING, 0, "extnValue"}};

/* id-ce-reasonCode and id-ce-certificateIssuer (RFC 5280, sections 5.3.1 and 5.3.3). */
static const uint8_t REASON_CODE[] = {0x55, 0x1d, 0x15};
static const uint8_t CERTIFICATE_ISSUER[] = {0x55, 0x1d, 0x1d};

/* read_field reads |element|. Returns 1, also where an optional one is not there: |element| is then empty, at the
 * place where it would be; or 0 with |error|. */
static inline int read_field(gw_der *reader, const field *field, gw_der_element *element, gw_error *error) {
  int general = field->tag == UTC_TIME && gw_der_next_is(reader, GENERALIZED_TIME);
  size_t at = reader->at;
  if (gw_der_next_is(reader, general ? GENERALIZED_TIME : field->tag)) {
    if (gw_der_next(reader, element)) {
      return 1;
    }
  } else if (field->optional) {
    *element = (gw_der_element){at, 0, {reader->bytes, at, at}};
    return 1;
  } else if (gw_der_next(reader, element)) {
    return gw_fail(error, "byte %zu: %s expected, but the tag is 0x%02x", at, field->name, reader->bytes[at]);
  }
  return gw_fail(error, "byte %zu: %s expected, but there is no DER element that fits", at, field->name);
}

/* read_fields reads |count| fields, behind which |reader|, of a |whole|, must end. */
static inline int read_fields(gw_der *reader, const field *fields, size_t count, const char *whole,
                              gw_der_element *elements, gw_error *error) {
  for (size_t i = 0; i < count; i++) {
    if (!read_field(reader, &fields[i], &elements[i], error)) {
      return 0;
    }
  }
  size_t left = gw_der_left(reader);
  return left == 0 ? 1 : gw_fail(error, "byte %zu: %zu bytes too many in %s", reader->at, left, whole);
}

/* only_octet returns the content of |element| where that is one octet, else -1. */
static int only_octet(const gw_der_element *element) {
  return gw_der_left(&element->content) == 1 ? element->content.bytes[element->content.at] : -1;
}

int gw_crl_split(const uint8_t *der, size_t length, gw_crl_parts *parts, gw_error *error) {
  static const field WHOLE = {SEQUENCE, 0, "CertificateList"};
  gw_der reader = {der, 0, length};
  gw_der_element whole, list[LIST_FIELDS], tbs[TBS_FIELDS];
  if (!read_fields(&reader, &WHOLE, 1, "what should be one CertificateList", &whole, error) ||
      !read_fields(&whole.content, LIST, LIST_FIELDS, "CertificateList", list, error)) {
    return 0;
  }
  gw_der signature = list[SIGNATURE].content, inside = list[TBS].content;
  if (!read_fields(&inside, TBS_LIST, TBS_FIELDS, "tbsCertList", tbs, error)) {
    return 0;
  }
  /* "If present, [version] MUST be v2", which is written 1 (RFC 5280, section 5.1.2.1). */
  if (tbs[VERSION].length > 0 && only_octet(&tbs[VERSION]) != 1) {
    return gw_fail(error, "byte %zu: the version of a certificate list is v2 or left out", tbs[VERSION].at);
  }
  /* "This field MUST contain the same algorithm identifier as the signature field
   * in the sequence tbsCertList" (RFC 5280, section 5.1.1.2): the outer one is not signed. */
  if (tbs[SIGNED_ALGORITHM].length != list[ALGORITHM].length ||
      memcmp(der + tbs[SIGNED_ALGORITHM].at, der + list[ALGORITHM].at, list[ALGORITHM].length) != 0) {
    return gw_fail(error, "byte %zu: signatureAlgorithm differs from the one that is signed", list[ALGORITHM].at);
  }
  if (gw_der_left(&signature) < 2 || der[signature.at] != 0) {
    return gw_fail(error, "byte %zu: signatureValue is empty or not of whole octets", list[SIGNATURE].at);
  }
  const gw_der_element *revoked = &tbs[REVOKED];
  *parts = (gw_crl_parts){
      .tbs_at = list[TBS].at, .tbs_length = list[TBS].length, .tbs_content_at = list[TBS].content.at,
      .revoked_at = revoked->length > 0 ? revoked->at : 0, .revoked_length = revoked->length,
      .entries_at = revoked->content.at, .entries_length = gw_der_left(&revoked->content),
      .after_revoked_at = revoked->at + revoked->length,
      .signature_algorithm_at = list[ALGORITHM].at, .signature_algorithm_length = list[ALGORITHM].length,
      .signature_at = signature.at + 1, .signature_length = gw_der_left(&signature) - 1, .total_length = length};
  return 1;
}

/* days_since_1970 converts a date of the Gregorian calendar, of the year 0 or later. Its years begin in March, so that
 * a leap day is the last of its year; the 400 years (146097 days) that are added keep all numbers positive. */
static int days_since_1970(int year, int month, int day) {
  int years = year + 400 - (month <= 2), months = (month + 9) % 12;
  int days = years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day - 1;
  return days - 719468 - 146097;
}

/* read_time reads the Time in |element|: [YY]YYMMDDhhmmssZ, with seconds and without fraction (RFC 5280, sections
 * 5.1.2.4 to 5.1.2.6). UTCTime means 1950 to 2049. Returns 1, or 0. */
static int read_time(const gw_der_element *element, int64_t *seconds) {
  static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const uint8_t *text = element->content.bytes + element->content.at;
  int utc = element->content.bytes[element->at] == UTC_TIME, field[7]; /* century, year, month … second */
  size_t digits = utc ? 12 : 14;
  if (gw_der_left(&element->content) != digits + 1 || text[digits] != 'Z') {
    return 0;
  }
  for (int i = utc; i < 7; i++, text += 2) {
    unsigned tens = (unsigned)text[0] - '0', ones = (unsigned)text[1] - '0';
    if (tens > 9 || ones > 9) {
      return 0;
    }
    field[i] = (int)(tens * 10 + ones);
  }
  int year = (utc ? (field[1] < 50 ? 20 : 19) : field[0]) * 100 + field[1], month = field[2], day = field[3];
  int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  if (month < 1 || month > 12 || day < 1 || day > DAYS[month - 1] + (month == 2 && leap) || field[4] > 23 ||
      field[5] > 59 || field[6] > 59) {
    return 0;
  }
  *seconds = (int64_t)days_since_1970(year, month, day) * 86400 + field[4] * 3600 + field[5] * 60 + field[6];
  return 1;
}

/* read_reason reads reasonCode: CRLReason ::= ENUMERATED, 0 to 10, "value 7 is not used". */
static int read_reason(gw_der_element *value, int *reason, gw_error *error) {
  static const field CODE = {ENUMERATED, 0, "CRLReason"};
  gw_der_element code;
  if (*reason >= 0) {
    return gw_fail(error, "byte %zu: a second reasonCode", value->at);
  }
  if (!read_fields(&value->content, &CODE, 1, "reasonCode", &code, error)) {
    return 0;
  }
  *reason = only_octet(&code);
  if (*reason < 0 || *reason > 10 || *reason == 7) {
    return gw_fail(error, "byte %zu: reasonCode is not one of 0 to 6 and 8 to 10", code.at);
  }
  return 1;
}

static int read_extension(gw_der *extensions, int *reason, gw_error *error) {
  static const field ONE = {SEQUENCE, 0, "Extension"};
  gw_der_element extension, part[EXTENSION_FIELDS];
  if (!read_field(extensions, &ONE, &extension, error) ||
      !read_fields(&extension.content, EXTENSION, EXTENSION_FIELDS, "Extension", part, error)) {
    return 0;
  }
  /* DER leaves FALSE out, but it has only one meaning where a CA wrote it; anything but 00 and FF has not. */
  int critical = part[CRITICAL].length > 0 ? only_octet(&part[CRITICAL]) : 0x00;
  if (critical != 0x00 && critical != 0xff) {
    return gw_fail(error, "byte %zu: critical is neither TRUE nor FALSE", part[CRITICAL].at);
  }
  const gw_der *oid = &part[OID].content;
  size_t length = gw_der_left(oid);
  if (length == sizeof REASON_CODE && memcmp(oid->bytes + oid->at, REASON_CODE, length) == 0) {
    return read_reason(&part[VALUE], reason, error);
  }
  /* Marked critical or not: the entry, and those after it, are of another issuer's certificates. */
  if (length == sizeof CERTIFICATE_ISSUER && memcmp(oid->bytes + oid->at, CERTIFICATE_ISSUER, length) == 0) {
    return gw_fail(error, "byte %zu: certificateIssuer in an entry: an indirect CRL is not supported", part[OID].at);
  }
  return critical ? gw_fail(error, "byte %zu: critical entry extension that is not known", part[OID].at) : 1;
}

int gw_crl_next_entry(const uint8_t *entries, size_t length, size_t *position, gw_crl_entry *entry, gw_error *error) {
  static const field ONE = {SEQUENCE, 0, "an entry of revokedCertificates"};
  gw_der reader = {entries, *position, length};
  gw_der_element whole, part[ENTRY_FIELDS];
  if (*position >= length) {
    return gw_fail(error, "%s", "");
  }
  if (!read_field(&reader, &ONE, &whole, error) ||
      !read_fields(&whole.content, ENTRY, ENTRY_FIELDS, ONE.name, part, error)) {
    return 0;
  }
  *entry = (gw_crl_entry){entries + part[SERIAL].content.at, gw_der_left(&part[SERIAL].content), 0, -1};
  if (entry->serial_length == 0) {
    return gw_fail(error, "byte %zu: userCertificate is an INTEGER without content", part[SERIAL].at);
  }
  if (!read_time(&part[DATE], &entry->revocation_date)) {
    return gw_fail(error, "byte %zu: revocationDate is not a date of the form YYMMDDHHMMSSZ", part[DATE].at);
  }
  while (gw_der_left(&part[EXTENSIONS].content) > 0) {
    if (!read_extension(&part[EXTENSIONS].content, &entry->reason, error)) {
      return 0;
    }
  }
  *position = reader.at;
  return 1;
}
