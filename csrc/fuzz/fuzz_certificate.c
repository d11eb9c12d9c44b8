/* fuzz_certificate.c - of any bytes given as a certificate, what is found lies inside them, and no more points are
 * written than there is room for. */
#include <stdint.h>
#include <stdlib.h>

#include "certificate.h"
#include "check.h"

static void lies_inside(const gw_der *part, const uint8_t *data, size_t length) {
  CHECK(part->bytes == data && part->at <= part->end && part->end <= length);
}

/* Each is of some name; the last is the one that is assumed of all. */
static void points_are_whole(const gw_certificate *certificate, const gw_point *points, size_t count) {
  for (size_t i = 0; i < count; i++) {
    CHECK(points[i].name != 0 && (points[i].reasons & ~(uint32_t)GW_ALL_REASONS) == 0);
  }
  CHECK(points[count - 1].crl_issuer == 0 && points[count - 1].reasons == GW_ALL_REASONS);
  CHECK(count == 1 || gw_der_left(&certificate->points) > 0);
}

/* With less room the same are found, or it is refused: never a part of them. */
static void no_point_is_lost(const gw_certificate *certificate, const gw_point *points, size_t count) {
  for (size_t room = 0; room <= count + 1; room++) {
    gw_point *fewer = malloc(room * sizeof *fewer + 1); /* as large as it says, for ASan */
    CHECK(fewer != NULL);
    size_t found = gw_certificate_points(certificate, fewer, room);
    CHECK(found == (room < count ? 0 : count));
    for (size_t i = 0; i < found; i++) {
      CHECK(fewer[i].crl_issuer == points[i].crl_issuer && fewer[i].name == points[i].name);
      CHECK(fewer[i].reasons == points[i].reasons);
    }
    free(fewer);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length) {
  gw_certificate certificate;
  gw_point points[GW_MOST_POINTS];
  if (!gw_certificate_read(data, length, &certificate)) {
    return 0;
  }
  lies_inside(&certificate.serial, data, length);
  lies_inside(&certificate.issuer, data, length);
  lies_inside(&certificate.subject, data, length);
  lies_inside(&certificate.key, data, length);
  CHECK(gw_der_left(&certificate.serial) > 0 && certificate.key.at == certificate.subject.end);
  CHECK(certificate.is_ca == 0 || certificate.is_ca == 1);
  if (gw_der_left(&certificate.points) > 0) {
    lies_inside(&certificate.points, data, length);
  }
  if (gw_der_left(&certificate.usages) > 0) {
    lies_inside(&certificate.usages, data, length);
  }
  (void)gw_certificate_is_for(&certificate, (const uint8_t *)"\x06\x03\x2a\x03\x04\x06\x01\x2a", 8);
  size_t count = gw_certificate_points(&certificate, points, GW_MOST_POINTS);
  if (count > 0) {
    points_are_whole(&certificate, points, count);
    no_point_is_lost(&certificate, points, count);
  }
  return 0;
}
