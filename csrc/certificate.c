#include "certificate.h"

#include <string.h>

#include "table_file.h"

enum {
  BOOLEAN = 0x01, INTEGER = 0x02, OCTET_STRING = 0x04, OBJECT_IDENTIFIER = 0x06, SEQUENCE = 0x30, SET = 0x31,
  TAG_0 = 0xa0, TAG_1 = 0xa1, TAG_2 = 0xa2, TAG_3 = 0xa3, DIRECTORY_NAME = 0xa4, STRING_1 = 0x81, STRING_2 = 0x82
};

/* take_whole reads an element of |tag| with its header. */
static int take_whole(gw_der *from, uint8_t tag, gw_der *whole) {
  gw_der content;
  *whole = *from;
  int taken = gw_der_take(from, tag, &content);
  whole->end = from->at;
  return taken;
}

/* take_extension reads an Extension, and what of it matters. A second one of its kind could be meant to hide the first.
 */
static int take_extension(gw_der *extensions, gw_certificate *certificate) {
  static const uint8_t BASIC_CONSTRAINTS[] = {0x55, 0x1d, 0x13}, DISTRIBUTION_POINTS[] = {0x55, 0x1d, 0x1f},
                       USAGES[] = {0x55, 0x1d, 0x25};
  gw_der extension, oid, value, constraints, flag, depth;
  if (!gw_der_take(extensions, SEQUENCE, &extension) || !gw_der_take(&extension, OBJECT_IDENTIFIER, &oid)) return 0;
  (void)gw_der_take(&extension, BOOLEAN, &flag); /* critical or not */
  if (!gw_der_take(&extension, OCTET_STRING, &value)) return 0;
  const uint8_t *id = oid.bytes + oid.at;
  if (gw_der_left(&oid) != sizeof BASIC_CONSTRAINTS) return 1;
  if (memcmp(id, DISTRIBUTION_POINTS, sizeof DISTRIBUTION_POINTS) == 0) {
    return gw_der_left(&certificate->points) == 0 && gw_der_take(&value, SEQUENCE, &certificate->points) &&
           gw_der_left(&certificate->points) > 0;
  }
  if (memcmp(id, USAGES, sizeof USAGES) == 0) return gw_der_take(&value, SEQUENCE, &certificate->usages);
  if (memcmp(id, BASIC_CONSTRAINTS, sizeof BASIC_CONSTRAINTS) == 0) {
    if (!gw_der_take(&value, SEQUENCE, &constraints)) return 0;
    certificate->is_ca |= gw_der_take(&constraints, BOOLEAN, &flag) && gw_der_left(&flag) == 1 && flag.bytes[flag.at];
    (void)gw_der_take(&constraints, INTEGER, &depth); /* pathLenConstraint */
    return gw_der_left(&constraints) == 0; /* what OpenSSL takes for a CA must be none to us alone */
  }
  return 1;
}

int gw_certificate_read(const uint8_t *der, size_t length, gw_certificate *certificate) {
  gw_der whole = {der, 0, length}, outer, tbs, skipped, wrapped, extensions = {0};
  *certificate = (gw_certificate){0};
  if (!gw_der_take(&whole, SEQUENCE, &outer) || !gw_der_take(&outer, SEQUENCE, &tbs)) return 0;
  (void)gw_der_take(&tbs, TAG_0, &skipped); /* version: not there in v1 */
  /* serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo (RFC 5280, section 4.1). */
  if (!gw_der_take(&tbs, INTEGER, &certificate->serial) || gw_der_left(&certificate->serial) == 0 ||
      !gw_der_take(&tbs, SEQUENCE, &skipped) || !take_whole(&tbs, SEQUENCE, &certificate->issuer) ||
      !gw_der_take(&tbs, SEQUENCE, &skipped) || !take_whole(&tbs, SEQUENCE, &certificate->subject) ||
      !take_whole(&tbs, SEQUENCE, &certificate->key)) {
    return 0;
  }
  (void)gw_der_take(&tbs, STRING_1, &skipped); /* issuerUniqueID */
  (void)gw_der_take(&tbs, STRING_2, &skipped); /* subjectUniqueID */
  if (gw_der_take(&tbs, TAG_3, &wrapped) && !gw_der_take(&wrapped, SEQUENCE, &extensions)) return 0;
  while (gw_der_left(&extensions) > 0) {
    if (!take_extension(&extensions, certificate)) return 0;
  }
  return gw_der_left(&tbs) == 0;
}

int gw_certificate_is_for(const gw_certificate *certificate, const uint8_t *usages, size_t length) {
  gw_der wanted = {usages, 0, length}, one, named;
  while (gw_der_take(&wanted, OBJECT_IDENTIFIER, &one)) {
    gw_der left = certificate->usages;
    do {
      if (!gw_der_take(&left, OBJECT_IDENTIFIER, &named)) return 0;
    } while (gw_der_left(&named) != gw_der_left(&one) ||
             memcmp(named.bytes + named.at, one.bytes + one.at, gw_der_left(&one)) != 0);
  }
  return 1;
}

uint64_t gw_name_digest(uint8_t tag, const uint8_t *content, size_t length) {
  uint64_t digest = gw_table_digest(content, length, tag);
  return digest != 0 ? digest : 1;
}

static uint64_t digest_of(uint8_t tag, const gw_der *content) {
  return gw_name_digest(tag, content->bytes + content->at, gw_der_left(content));
}

/* take_name reads a GeneralName. A directoryName has an explicit tag, as a CHOICE must: the Name is inside. */
static int take_name(gw_der *names, uint64_t *digest) {
  gw_der content, name;
  uint8_t tag = gw_der_left(names) > 0 ? names->bytes[names->at] : 0;
  if (!gw_der_take(names, tag, &content)) return 0;
  if (tag == DIRECTORY_NAME) {
    name = content;
    if (!gw_der_take(&name, SEQUENCE, &content)) return 0;
  }
  *digest = digest_of(tag, &content);
  return 1;
}

/* take_reasons reads ReasonFlags: a BIT STRING whose first bit, of the highest value, is not used. */
static uint32_t take_reasons(gw_der *point) {
  gw_der bits;
  if (!gw_der_take(point, STRING_1, &bits)) return GW_ALL_REASONS;
  uint32_t reasons = 0;
  for (unsigned i = 1; i <= 8; i++) {
    size_t at = bits.at + 1 + i / 8;
    reasons |= at < bits.end && (bits.bytes[at] & 0x80 >> i % 8) ? 1u << i : 0;
  }
  return reasons;
}

/* take_point reads a DistributionPoint and adds what follows from it. */
static int take_point(gw_der *from, gw_point *points, size_t room, size_t *count) {
  gw_der point, named = {0}, full = {0}, relative = {0}, issuers = {0};
  if (!gw_der_take(from, SEQUENCE, &point)) return 0;
  int has_name = gw_der_take(&point, TAG_0, &named);
  uint32_t reasons = take_reasons(&point);
  int has_issuer = gw_der_take(&point, TAG_2, &issuers);
  int is_relative = has_name && gw_der_take(&named, TAG_1, &relative);
  if (gw_der_left(&point) > 0 || (has_name && !is_relative && !gw_der_take(&named, TAG_0, &full))) return 0;
  do {
    uint64_t crl_issuer = 0, name = 0;
    gw_der names = full;
    if (has_issuer && !take_name(&issuers, &crl_issuer)) return 0;
    do {
      if (is_relative) {
        name = digest_of(SET, &relative);
      } else if (gw_der_left(&names) == 0) {
        name = crl_issuer; /* no name but that of who signs (section 6.3.3 (b) (2) (i)) */
      } else if (!take_name(&names, &name)) {
        return 0;
      }
      if (name == 0 || *count == room) return name == 0 && !has_name; /* of nothing but reasons it names no list */
      points[(*count)++] = (gw_point){crl_issuer, name, reasons};
    } while (gw_der_left(&names) > 0);
  } while (gw_der_left(&issuers) > 0);
  return 1;
}

size_t gw_certificate_points(const gw_certificate *certificate, gw_point *points, size_t room) {
  size_t count = 0;
  gw_der from = certificate->points, whole = certificate->issuer, issuer;
  if (room == 0 || !gw_der_take(&whole, SEQUENCE, &issuer)) return 0;
  while (gw_der_left(&from) > 0) {
    if (!take_point(&from, points, room - 1, &count)) return 0;
  }
  points[count++] = (gw_point){0, digest_of(DIRECTORY_NAME, &issuer), GW_ALL_REASONS};
  return count;
}
