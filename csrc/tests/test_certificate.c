/* test_certificate.c - what a certificate says of its revocation is read as OpenSSL and RFC 5280 have it; and what
 * cannot be read is refused, never guessed. */
#include "certificate.h"

#include <openssl/conf.h>

#include "make_certificate.h"
#include "pki.h"

enum { KEY_COMPROMISE = 1 << 1, CA_COMPROMISE = 1 << 2, AA_COMPROMISE = 1 << 8 };

static uint64_t uri(const char *text) { return gw_name_digest(0x86, (const uint8_t *)text, strlen(text)); }

/* The digests of the directory name of one |common_name|, and of that as the name that is relative to another. */
static uint64_t directory(const char *common_name) {
  bytes name = {0};
  rdn_add(&name, 0x31, common_name);
  uint64_t digest = gw_name_digest(0xa4, name.at, name.length);
  bytes_free(&name);
  return digest;
}

static uint64_t rdn(const char *common_name) {
  bytes whole = {0};
  rdn_add(&whole, 0x31, common_name);
  uint64_t digest = gw_name_digest(0x31, whole.at + 2, whole.length - 2);
  bytes_free(&whole);
  return digest;
}

static int is(const gw_point *point, uint64_t crl_issuer, uint64_t name, uint32_t reasons) {
  return point->crl_issuer == crl_issuer && point->name == name && point->reasons == reasons;
}

/* read_points reads the points of |certificate|, which it frees. Returns how many; 0 where any of it is refused. */
static size_t read_points(bytes *certificate, gw_point *points, size_t room) {
  gw_certificate read;
  int good = gw_certificate_read(certificate->at, certificate->length, &read);
  size_t count = good ? gw_certificate_points(&read, points, room) : 0;
  CHECK(count <= room);
  bytes_free(certificate);
  return count;
}

/* points_of does so for a certificate of these |points|, which it frees; it looks at the implied one, the last. */
static size_t points_of(bytes *points, gw_point *found) {
  bytes extensions = {0};
  points_extension(&extensions, points);
  bytes certificate = certificate_with(&extensions);
  size_t count = read_points(&certificate, found, GW_MOST_POINTS);
  CHECK(count == 0 || is(&found[count - 1], 0, directory("issuer"), GW_ALL_REASONS));
  return count;
}

/* A GeneralNames of one. */
static bytes *one_uri(bytes *names, const char *text) {
  uri_add(names, text);
  return names;
}

static bytes *one_directory(bytes *names, const char *common_name) {
  directory_add(names, common_name);
  return names;
}

static bytes *one_rdn(bytes *relative, const char *common_name) {
  rdn_add(relative, 0xa1, common_name);
  return relative;
}

static void without_distribution_points_there_is_the_one_of_the_issuers_name(void) {
  gw_point points[GW_MOST_POINTS];
  bytes certificate = certificate_with(NULL);
  CHECK(read_points(&certificate, points, GW_MOST_POINTS) == 1);
  CHECK(is(&points[0], 0, directory("issuer"), GW_ALL_REASONS));
}

static void the_parts_of_a_certificate_are_found(void) {
  identity ca = identity_make("ca", "-80", NULL, 1), client = identity_make("client", "0F", &ca, 0);
  for (int i = 0; i < 2; i++) {
    X509 *x509 = i == 0 ? ca.certificate : client.certificate;
    unsigned char *der = NULL, *subject = NULL, *issuer = NULL, *key = NULL;
    int length = i2d_X509(x509, &der), subject_length = i2d_X509_NAME(X509_get_subject_name(x509), &subject);
    int issuer_length = i2d_X509_NAME(X509_get_issuer_name(x509), &issuer);
    int key_length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509), &key);
    gw_certificate read;
    CHECK(length > 0 && gw_certificate_read(der, (size_t)length, &read));
    CHECK(gw_der_left(&read.serial) == 1 && read.serial.bytes[read.serial.at] == (i == 0 ? 0x80 : 0x0f));
    CHECK(gw_der_left(&read.subject) == (size_t)subject_length && gw_der_left(&read.issuer) == (size_t)issuer_length);
    CHECK(memcmp(read.subject.bytes + read.subject.at, subject, (size_t)subject_length) == 0);
    CHECK(memcmp(read.issuer.bytes + read.issuer.at, issuer, (size_t)issuer_length) == 0);
    CHECK(gw_der_left(&read.key) == (size_t)key_length && read.key.at == read.subject.end);
    CHECK(memcmp(read.key.bytes + read.key.at, key, (size_t)key_length) == 0);
    CHECK(read.is_ca == (i == 0));
    OPENSSL_free(der);
    OPENSSL_free(subject);
    OPENSSL_free(issuer);
    OPENSSL_free(key);
  }
  identity_free(&client);
  identity_free(&ca);
}

/* What OpenSSL's own configuration calls the points of a certificate, and what is to be found. */
static void distribution_points_are_read_as_openssl_writes_them(void) {
  static const char CONFIGURATION[] =
      "[first]\nfullname=URI:http://a/1.crl,URI:http://a/2.crl\nreasons=keyCompromise,AACompromise\n"
      "[second]\nrelativename=rdn\nCRLissuer=dirName:signer\n"
      "[third]\nfullname=URI:http://a/3.crl,dirName:signer\n"
      "[fourth]\nrelativename=rdn\n"
      "[fifth]\nCRLissuer=dirName:signer\nreasons=CACompromise\n"
      "[rdn]\nCN=part\n[signer]\nCN=signer\n";
  CONF *configuration = NCONF_new(NULL);
  BIO *bio = BIO_new_mem_buf(CONFIGURATION, -1);
  X509V3_CTX context;
  CHECK(configuration != NULL && bio != NULL && NCONF_load_bio(configuration, bio, NULL) > 0);
  X509V3_set_ctx_nodb(&context);
  X509V3_set_nconf(&context, configuration);
  X509_EXTENSION *extension =
      X509V3_EXT_nconf_nid(configuration, &context, NID_crl_distribution_points, "first,second,third,fourth,fifth");
  identity ca = identity_make("issuer", "01", NULL, 1), client = identity_make("client", "0F", &ca, 0);
  CHECK(extension != NULL && X509_add_ext(client.certificate, extension, -1) == 1);
  CHECK(X509_sign(client.certificate, ca.key, EVP_sha256()) > 0);
  unsigned char *der = NULL;
  int length = i2d_X509(client.certificate, &der);
  gw_certificate read;
  gw_point points[GW_MOST_POINTS];
  CHECK(length > 0 && gw_certificate_read(der, (size_t)length, &read));
  CHECK(gw_certificate_points(&read, points, GW_MOST_POINTS) == 8);
  uint64_t signer = directory("signer");
  CHECK(is(&points[0], 0, uri("http://a/1.crl"), KEY_COMPROMISE | AA_COMPROMISE));
  CHECK(is(&points[1], 0, uri("http://a/2.crl"), KEY_COMPROMISE | AA_COMPROMISE));
  CHECK(is(&points[2], signer, rdn("part"), GW_ALL_REASONS));
  CHECK(is(&points[3], 0, uri("http://a/3.crl"), GW_ALL_REASONS));
  CHECK(is(&points[4], 0, signer, GW_ALL_REASONS));
  CHECK(is(&points[5], 0, rdn("part"), GW_ALL_REASONS));
  CHECK(is(&points[6], signer, signer, CA_COMPROMISE));
  CHECK(is(&points[7], 0, directory("issuer"), GW_ALL_REASONS));
  OPENSSL_free(der);
  X509_EXTENSION_free(extension);
  BIO_free(bio);
  NCONF_free(configuration);
  identity_free(&client);
  identity_free(&ca);
}

static void a_name_is_told_from_the_same_octets_of_another_kind(void) {
  static const uint8_t TAGS[] = {0x81, 0x82, 0x86, 0xa4};
  for (size_t i = 0; i < 4; i++) {
    for (size_t j = 0; j < 4; j++) {
      uint64_t one = gw_name_digest(TAGS[i], (const uint8_t *)"example", 7);
      CHECK((one == gw_name_digest(TAGS[j], (const uint8_t *)"example", 7)) == (i == j) && one != 0);
    }
  }
  CHECK(gw_name_digest(0x86, NULL, 0) != 0);
}

static void each_bit_of_reason_flags_is_the_reason_of_its_number(void) {
  for (unsigned reason = 0; reason <= 9; reason++) { /* 0 is not used, and 9 not known */
    const char flags[] = {(char)(15 - reason), (char)(reason < 8 ? 0x80 >> reason : 0),
                          (char)(reason < 8 ? 0 : 0x80 >> (reason - 8))};
    bytes points = {0}, name = {0};
    gw_point found[GW_MOST_POINTS];
    point_add(&points, one_uri(&name, "u"), NULL, flags, sizeof flags, NULL);
    CHECK(points_of(&points, found) == 2);
    CHECK(is(&found[0], 0, uri("u"), reason >= 1 && reason <= 8 ? 1u << reason : 0));
  }
}

static void reason_flags_may_be_of_any_length(void) {
  static const struct {
    const char *flags;
    size_t length;
    uint32_t reasons;
  } FLAGS[] = {{"", 0, 0},       {"\x00", 1, 0},          {"\x00\x7f", 2, 0xfe},
               {"\x07\x7f\x80", 3, GW_ALL_REASONS}, {"\x06\x60\x40", 3, KEY_COMPROMISE | CA_COMPROMISE},
               {"\x00\x00\x80\xff\xff", 5, AA_COMPROMISE}};
  for (size_t i = 0; i < sizeof FLAGS / sizeof *FLAGS; i++) {
    bytes points = {0}, name = {0};
    gw_point found[GW_MOST_POINTS];
    point_add(&points, one_uri(&name, "u"), NULL, FLAGS[i].flags, FLAGS[i].length, NULL);
    CHECK(points_of(&points, found) == 2 && is(&found[0], 0, uri("u"), FLAGS[i].reasons));
  }
}

static void each_issuer_of_a_point_goes_with_each_of_its_names(void) {
  bytes points = {0}, names = {0}, issuers = {0};
  gw_point found[GW_MOST_POINTS];
  (void)one_uri(one_uri(&names, "u"), "v");
  (void)one_directory(one_directory(&issuers, "x"), "y");
  point_add(&points, &names, NULL, NULL, 0, &issuers);
  CHECK(points_of(&points, found) == 5);
  for (size_t i = 0; i < 4; i++) {
    CHECK(is(&found[i], directory(i < 2 ? "x" : "y"), uri(i % 2 == 0 ? "u" : "v"), GW_ALL_REASONS));
  }
}

/* A list is signed by a directoryName: no list has the digest of another kind of name as that of who signs it. */
static void an_issuer_of_another_kind_of_name_is_that_of_no_list(void) {
  bytes points = {0}, names = {0}, issuers = {0};
  gw_point found[GW_MOST_POINTS];
  point_add(&points, one_uri(&names, "u"), NULL, NULL, 0, one_directory(one_uri(&issuers, "w"), "x"));
  CHECK(points_of(&points, found) == 3 && is(&found[0], uri("w"), uri("u"), GW_ALL_REASONS));
  CHECK(is(&found[1], directory("x"), uri("u"), GW_ALL_REASONS));
  CHECK(uri("w") != gw_name_digest(0xa4, (const uint8_t *)"w", 1));
}

static void without_a_name_a_point_has_that_of_its_issuer(void) {
  bytes points = {0}, issuers = {0};
  gw_point found[GW_MOST_POINTS];
  point_add(&points, NULL, NULL, NULL, 0, one_directory(&issuers, "x"));
  CHECK(points_of(&points, found) == 2);
  CHECK(is(&found[0], directory("x"), directory("x"), GW_ALL_REASONS));
}

static void a_relative_name_is_told_apart_from_every_other(void) {
  bytes points = {0}, relative = {0}, issuers = {0};
  gw_point found[GW_MOST_POINTS];
  point_add(&points, NULL, one_rdn(&relative, "part"), NULL, 0, NULL);
  CHECK(points_of(&points, found) == 2 && is(&found[0], 0, rdn("part"), GW_ALL_REASONS));
  point_add(&points, NULL, one_rdn(&relative, "part"), NULL, 0, one_directory(&issuers, "x"));
  CHECK(points_of(&points, found) == 2 && is(&found[0], directory("x"), rdn("part"), GW_ALL_REASONS));
  CHECK(rdn("part") != directory("part") && rdn("part") != rdn("par"));
}

static void a_point_of_nothing_but_reasons_is_left_out(void) {
  bytes points = {0}, names = {0};
  gw_point found[GW_MOST_POINTS];
  point_add(&points, NULL, NULL, "\x06\x40", 2, NULL);
  point_add(&points, NULL, NULL, NULL, 0, NULL);
  point_add(&points, one_uri(&names, "u"), NULL, NULL, 0, NULL);
  CHECK(points_of(&points, found) == 2 && is(&found[0], 0, uri("u"), GW_ALL_REASONS));
}

static void as_many_points_as_there_is_room_for_are_read_and_no_more(void) {
  for (size_t names = 1; names <= GW_MOST_POINTS + 1; names++) {
    bytes points = {0}, full = {0};
    gw_point found[GW_MOST_POINTS];
    for (size_t i = 0; i < names; i++) { /* as many names of one point as points of one name */
      (void)one_uri(&full, "u");
      if (i % 2 == 0 || i == names - 1) {
        point_add(&points, &full, NULL, NULL, 0, NULL);
      }
    }
    CHECK(points_of(&points, found) == (names < GW_MOST_POINTS ? names + 1 : 0));
  }
  gw_point none;
  bytes certificate = certificate_with(NULL);
  CHECK(read_points(&certificate, &none, 1) == 1);
  certificate = certificate_with(NULL);
  CHECK(read_points(&certificate, &none, 0) == 0);
}

static void points_that_are_malformed_are_refused(void) {
  static const struct {
    const char *point;
    size_t length;
  } POINTS[] = {
      {"\x31\x00", 2},                         /* no SEQUENCE */
      {"\x30\x02\xa0\x00", 4},                 /* a name of no kind */
      {"\x30\x04\xa0\x02\xa0\x00", 6},         /* of no names */
      {"\x30\x04\xa0\x02\xa2\x00", 6},         /* of another kind */
      {"\x30\x02\xa2\x00", 4},                 /* of no issuers */
      {"\x30\x04\xa2\x02\xa4\x00", 6},         /* an issuer without a Name */
      {"\x30\x04\xa0\x02\xa0\x01", 6},         /* shorter than it says */
      {"\x30\x07\xa0\x05\xa0\x03\x86\x02u", 9},
      {"\x30\x09\xa0\x05\xa0\x03\x86\x01u\x05\x00", 11}, /* with something behind it */
      {"\x30\x0b\xa1\x02\x06\x40\xa0\x05\xa0\x03\x86\x01u", 13}, /* out of order, or reasons that are constructed */
      {"\x30\x80\x00\x00", 4},                 /* not DER */
      {"\x30\x08\xa0\x81\x05\xa0\x03\x86\x01u", 10}};
  for (size_t i = 0; i < sizeof POINTS / sizeof *POINTS; i++) {
    bytes points = {0};
    gw_point found[GW_MOST_POINTS];
    bytes_add(&points, POINTS[i].point, POINTS[i].length);
    CHECK(points_of(&points, found) == 0);
  }
  bytes none = {0};
  gw_point found[GW_MOST_POINTS];
  CHECK(points_of(&none, found) == 0);
}

/* The second could be meant to hide the first. */
static void a_second_extension_of_distribution_points_is_refused(void) {
  bytes extensions = {0};
  gw_point found[GW_MOST_POINTS];
  for (int i = 0; i < 2; i++) {
    bytes points = {0}, names = {0};
    point_add(&points, one_uri(&names, "u"), NULL, NULL, 0, NULL);
    points_extension(&extensions, &points);
  }
  bytes certificate = certificate_with(&extensions);
  CHECK(read_points(&certificate, found, GW_MOST_POINTS) == 0);
}

static int read_constraints(const void *value, size_t length) {
  bytes extensions = {0};
  gw_certificate read;
  extension_add(&extensions, "\x55\x1d\x13", 0xff, value, length);
  bytes certificate = certificate_with(&extensions);
  int good = gw_certificate_read(certificate.at, certificate.length, &read);
  bytes_free(&certificate);
  return good ? read.is_ca : -1;
}

/* OpenSSL reads BER here, too. Were cA FALSE in our eyes and TRUE in its, a list of end entities would cover a CA. */
static void a_ca_is_who_has_basic_constraints_that_say_so(void) {
  CHECK(read_constraints("\x30\x03\x01\x01\xff", 5) == 1);
  CHECK(read_constraints("\x30\x06\x01\x01\xff\x02\x01\x03", 8) == 1);
  CHECK(read_constraints("\x30\x03\x01\x01\x01", 5) == 1);
  CHECK(read_constraints("\x30\x03\x01\x01\x00", 5) == 0);
  CHECK(read_constraints("\x30\x00", 2) == 0);
  CHECK(read_constraints("\x30\x04\x01\x81\x01\xff", 6) == -1);
  CHECK(read_constraints("\x30\x80\x01\x01\xff\x00\x00", 7) == -1);
  CHECK(read_constraints("\x30\x05\x05\x00\x01\x01\xff", 7) == -1);
  CHECK(read_constraints("\x31\x00", 2) == -1);
}

/* Whether a certificate whose extendedKeyUsage has |value| is for |usages|; -1: it is refused. */
static int read_usages(const char *value, size_t length, const char *usages, size_t usages_length) {
  bytes extensions = {0};
  gw_certificate certificate;
  extension_add(&extensions, "\x55\x1d\x25", -1, value, length);
  bytes whole = certificate_with(&extensions);
  int answer = -1;
  if (gw_certificate_read(whole.at, whole.length, &certificate)) {
    answer = gw_certificate_is_for(&certificate, (const uint8_t *)usages, usages_length);
  }
  bytes_free(&whole);
  return answer;
}

static void a_certificate_is_for_all_the_usages_that_it_names_and_no_other(void) {
  static const char TWO[] = "\x30\x08\x06\x02\x2a\x03\x06\x02\x2a\x04", NONE[] = "\x30\x00";
  CHECK(read_usages(TWO, 10, "\x06\x02\x2a\x03", 4) == 1);
  CHECK(read_usages(TWO, 10, "\x06\x02\x2a\x04\x06\x02\x2a\x03", 8) == 1);
  CHECK(read_usages(TWO, 10, "\x06\x02\x2a\x03\x06\x02\x2a\x05", 8) == 0);
  CHECK(read_usages(TWO, 10, "\x06\x03\x2a\x03\x04", 5) == 0);
  CHECK(read_usages(TWO, 10, "\x06\x01\x2a", 3) == 0);
  CHECK(read_usages(TWO, 10, "", 0) == 1);
  CHECK(read_usages(NONE, 2, "\x06\x02\x2a\x03", 4) == 0);
  CHECK(read_usages("\x30\x04\x06\x03\x2a\x03", 6, "\x06\x02\x2a\x03", 4) == 0); /* longer than what is left */
  CHECK(read_usages("\x31\x00", 2, "", 0) == -1);
}

static void version_and_unique_ids_and_other_extensions_are_passed_over(void) {
  static const struct {
    const char *head, *tail;
    size_t head_length, tail_length;
    int good;
  } FORMS[] = {{"", "", 0, 0, 1},                                    /* v1 */
               {"\xa0\x03\x02\x01\x01", "\x81\x02\x00\x01", 5, 4, 1}, /* v2 */
               {"\xa0\x03\x02\x01\x01", "\x81\x02\x00\x01\x82\x02\x00\x01", 5, 8, 1},
               {"\xa0\x03\x02\x01\x02", "\x81\x01\x00\x82\x01\x00\xa3\x02\x30\x00", 5, 10, 1},
               {"\xa0\x03\x02\x01\x02", "\xa3\x0d\x30\x0b\x30\x09\x06\x03\x55\x1d\x7f\x04\x02\x05\x00", 5, 15, 1},
               {"\xa0\x03\x02\x01\x02", "\xa3\x0d\x30\x0b\x30\x09\x06\x03\x55\x1d\x7f\x03\x02\x05\x00", 5, 15, 0},
               {"\xa0\x03\x02\x01\x02", "\xa3\x00", 5, 2, 0},
               {"\xa0\x03\x02\x01\x02", "\x82\x01\x00\x81\x01\x00", 5, 6, 0}, /* out of order */
               {"", "\x05\x00", 0, 2, 0}};
  for (size_t i = 0; i < sizeof FORMS / sizeof *FORMS; i++) {
    bytes whole = tbs_make(NULL), tbs = {0};
    gw_point found[GW_MOST_POINTS];
    bytes_add(&tbs, FORMS[i].head, FORMS[i].head_length);
    bytes_add(&tbs, whole.at + 5, whole.length - 5);
    bytes_add(&tbs, FORMS[i].tail, FORMS[i].tail_length);
    bytes certificate = certificate_make(&tbs);
    CHECK(read_points(&certificate, found, GW_MOST_POINTS) == (size_t)FORMS[i].good);
    bytes_free(&whole);
  }
}

/* Extensions of every kind that is read. */
static bytes many_extensions(void) {
  bytes extensions = {0}, points = {0}, names = {0}, issuers = {0}, relative = {0};
  extension_add(&extensions, "\x55\x1d\x13", 0xff, "\x30\x03\x01\x01\xff", 5);
  point_add(&points, one_uri(one_uri(&names, "http://a"), "u"), NULL, "\x06\x40", 2, NULL);
  point_add(&points, NULL, one_rdn(&relative, "part"), NULL, 0, one_directory(&issuers, "x"));
  point_add(&points, NULL, NULL, "\x07\x00\x80", 3, one_directory(&issuers, "y"));
  points_extension(&extensions, &points);
  return extensions;
}

/* By itself, and inside lengths that fit: then it is good where a tbsCertificate could end there as well. */
static void a_certificate_that_is_cut_short_is_refused(void) {
  bytes extensions = many_extensions(), tbs = tbs_make(&extensions), copy = {0};
  gw_point found[GW_MOST_POINTS];
  bytes bare = tbs_make(NULL);
  size_t without = bare.length, read = 0;
  bytes_free(&bare);
  bytes_add(&copy, tbs.at, tbs.length);
  bytes whole = certificate_make(&copy);
  for (size_t length = 0; length <= whole.length; length++) {
    bytes cut = {.at = malloc(length + (length == 0)), .length = length};
    CHECK(cut.at != NULL);
    memcpy(cut.at, whole.at, length);
    read += read_points(&cut, found, GW_MOST_POINTS) > 0;
  }
  CHECK(read == 1);
  for (size_t length = 0; length <= tbs.length; length++) {
    bytes_add(&copy, tbs.at, length);
    bytes cut = certificate_make(&copy);
    CHECK((read_points(&cut, found, GW_MOST_POINTS) > 0) == (length == without || length == tbs.length));
  }
  bytes_free(&whole);
  bytes_free(&tbs);
}

/* The same of what stands in its extensions, with lengths around it that fit; and of each octet that is another. */
static void whatever_stands_in_extensions_is_read_to_its_end_and_no_further(void) {
  bytes extensions = many_extensions();
  gw_point found[GW_MOST_POINTS];
  for (size_t length = 0; length <= extensions.length; length++) {
    bytes cut = {0};
    bytes_add(&cut, extensions.at, length);
    bytes certificate = certificate_with(&cut);
    (void)read_points(&certificate, found, GW_MOST_POINTS);
  }
  for (size_t at = 0; at < extensions.length; at++) {
    for (unsigned value = 0; value < 256; value++) {
      bytes changed = {0};
      bytes_add(&changed, extensions.at, extensions.length);
      changed.at[at] = (uint8_t)value;
      bytes certificate = certificate_with(&changed);
      (void)read_points(&certificate, found, GW_MOST_POINTS);
    }
  }
  bytes_free(&extensions);
}

int main(void) {
  RUN(without_distribution_points_there_is_the_one_of_the_issuers_name);
  RUN(the_parts_of_a_certificate_are_found);
  RUN(distribution_points_are_read_as_openssl_writes_them);
  RUN(a_name_is_told_from_the_same_octets_of_another_kind);
  RUN(each_bit_of_reason_flags_is_the_reason_of_its_number);
  RUN(reason_flags_may_be_of_any_length);
  RUN(each_issuer_of_a_point_goes_with_each_of_its_names);
  RUN(an_issuer_of_another_kind_of_name_is_that_of_no_list);
  RUN(without_a_name_a_point_has_that_of_its_issuer);
  RUN(a_relative_name_is_told_apart_from_every_other);
  RUN(a_point_of_nothing_but_reasons_is_left_out);
  RUN(as_many_points_as_there_is_room_for_are_read_and_no_more);
  RUN(points_that_are_malformed_are_refused);
  RUN(a_second_extension_of_distribution_points_is_refused);
  RUN(a_ca_is_who_has_basic_constraints_that_say_so);
  RUN(a_certificate_is_for_all_the_usages_that_it_names_and_no_other);
  RUN(version_and_unique_ids_and_other_extensions_are_passed_over);
  RUN(a_certificate_that_is_cut_short_is_refused);
  RUN(whatever_stands_in_extensions_is_read_to_its_end_and_no_further);
  return 0;
}
