/* What a certificate says of its revocation, read from the DER that OpenSSL made. */
#include "../certificate.h"

#include <string.h>

#include "make_crl.h"
#include "pki.h"

/* made is a certificate in DER with |points| as its CRLDistributionPoints, |times| over; frees |points|. */
static bytes made(bytes *points, int times) {
  identity one = identity_make("ca", "01", NULL, 0);
  ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
  bytes all = {0}, der = {0};
  der_wrap(&all, 0x30, points);
  CHECK(value != NULL && ASN1_OCTET_STRING_set(value, all.at, (int)all.length) == 1);
  for (; times > 0; times--) {
    X509_EXTENSION *extension = X509_EXTENSION_create_by_NID(NULL, NID_crl_distribution_points, 0, value);
    CHECK(extension != NULL && X509_add_ext(one.certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
  }
  CHECK(X509_sign(one.certificate, one.key, EVP_sha256()) > 0);
  unsigned char *octets = NULL;
  int length = i2d_X509(one.certificate, &octets);
  CHECK(length > 0);
  bytes_add(&der, octets, (size_t)length);
  OPENSSL_free(octets);
  ASN1_OCTET_STRING_free(value);
  bytes_free(&all);
  identity_free(&one);
  return der;
}

/* point_add appends a DistributionPoint: the full names of |uris| (NULL: none), and |rest| behind them as it is. */
static void point_add(bytes *points, const char *const *uris, const void *rest, size_t length) {
  bytes point = {0}, full = {0}, names = {0};
  for (; uris != NULL && *uris != NULL; uris++) {
    der_add(&names, 0x86, *uris, strlen(*uris));
  }
  if (names.length > 0) {
    der_wrap(&full, 0xa0, &names);
    der_wrap(&point, 0xa0, &full);
  }
  bytes_add(&point, rest, length);
  der_wrap(points, 0x30, &point);
}

static size_t read_points(const bytes *der, gw_point *points) {
  gw_certificate certificate;
  CHECK(gw_certificate_read(der->at, der->length, &certificate));
  return gw_certificate_points(&certificate, points, GW_MOST_POINTS);
}

static uint64_t uri(const char *text) { return gw_name_digest(0x86, (const uint8_t *)text, strlen(text)); }

static void without_points_the_one_of_the_issuers_name_is_implied(void) {
  bytes none = {0}, der = made(&none, 0);
  gw_point points[GW_MOST_POINTS];
  CHECK(read_points(&der, points) == 1 && points[0].crl_issuer == 0 && points[0].reasons == GW_ALL_REASONS);
  bytes_free(&der);
}

static void every_name_of_every_point_is_one(void) {
  bytes all = {0};
  point_add(&all, SERIALS("http://a", "http://b"), "", 0);
  point_add(&all, SERIALS("http://c"), "", 0);
  point_add(&all, NULL, "\x81\x02\x06\x40", 4); /* of nothing but reasons: names no list */
  bytes der = made(&all, 1);
  gw_point points[GW_MOST_POINTS];
  CHECK(read_points(&der, points) == 4);
  CHECK(points[0].name == uri("http://a") && points[1].name == uri("http://b") && points[2].name == uri("http://c"));
  bytes_free(&der);
}

static void each_bit_of_the_reasons_is_read(void) {
  for (unsigned bit = 0; bit <= 8; bit++) {
    char flags[] = {(char)0x81, 3, 7, 0, 0};
    flags[3 + bit / 8] = (char)(0x80 >> bit % 8);
    bytes all = {0};
    point_add(&all, SERIALS("http://a"), flags, sizeof flags);
    bytes der = made(&all, 1);
    gw_point points[GW_MOST_POINTS];
    CHECK(read_points(&der, points) == 2 && points[0].reasons == (bit == 0 ? 0 : 1u << bit));
    bytes_free(&der);
  }
}

static void a_relative_name_is_the_full_one(void) {
  static const char RDN[] = "\x30\x08\x06\x03\x55\x04\x03\x0c\x01x"; /* one attribute: CN=x */
  static const char SIGNER[] = "\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x0c\x01s"; /* the RDNSequence CN=s */
  bytes all = {0}, point = {0}, relative = {0}, name = {0}, general = {0}, whole = {0};
  der_add(&relative, 0xa1, RDN, 10);
  der_wrap(&point, 0xa0, &relative);
  der_add(&name, 0x30, SIGNER, 12);
  der_wrap(&general, 0xa4, &name);
  der_wrap(&point, 0xa2, &general);
  der_wrap(&all, 0x30, &point);
  bytes der = made(&all, 1);
  bytes_add(&whole, SIGNER, 12);
  der_add(&whole, 0x31, RDN, 10);
  gw_point points[GW_MOST_POINTS];
  CHECK(read_points(&der, points) == 2);
  CHECK(points[0].crl_issuer == gw_name_digest(0xa4, (const uint8_t *)SIGNER, 12));
  CHECK(points[0].name == gw_name_digest(0xa4, whole.at, whole.length));
  bytes_free(&whole);
  bytes_free(&der);
}

static void too_many_points_are_refused(void) {
  for (size_t count = GW_MOST_POINTS - 1; count <= GW_MOST_POINTS; count++) {
    bytes all = {0};
    for (size_t i = 0; i < count; i++) {
      point_add(&all, SERIALS("http://a"), "", 0);
    }
    bytes der = made(&all, 1);
    gw_point points[GW_MOST_POINTS];
    CHECK(read_points(&der, points) == (count < GW_MOST_POINTS ? GW_MOST_POINTS : 0));
    bytes_free(&der);
  }
}

static void a_second_extension_of_points_is_refused(void) {
  bytes all = {0};
  point_add(&all, SERIALS("http://a"), "", 0);
  bytes der = made(&all, 2);
  gw_certificate certificate;
  CHECK(!gw_certificate_read(der.at, der.length, &certificate));
  bytes_free(&der);
}

static void what_is_cut_off_is_refused(void) {
  bytes all = {0};
  point_add(&all, SERIALS("http://a"), "", 0);
  bytes der = made(&all, 1);
  for (size_t length = 0; length < der.length; length++) {
    uint8_t *part = malloc(length + !length); /* of its own: a tool sees what is read behind it */
    gw_certificate certificate;
    CHECK(part != NULL);
    memcpy(part, der.at, length);
    CHECK(!gw_certificate_read(part, length, &certificate));
    free(part);
  }
  bytes_free(&der);
}

int main(void) {
  RUN(without_points_the_one_of_the_issuers_name_is_implied);
  RUN(every_name_of_every_point_is_one);
  RUN(each_bit_of_the_reasons_is_read);
  RUN(a_relative_name_is_the_full_one);
  RUN(too_many_points_are_refused);
  RUN(a_second_extension_of_points_is_refused);
  RUN(what_is_cut_off_is_refused);
  return 0;
}
