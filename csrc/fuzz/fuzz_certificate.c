/* fuzz_certificate.c - nothing but a clean refusal may come of any bytes given as a certificate, and what is found in it
 * is inside. */
#include <stdint.h>

#include "certificate.h"
#include "check.h"

static void is_inside(const gw_der *found, const uint8_t *data, size_t length) {
  CHECK(found->at <= found->end && found->end <= length && (found->bytes == data || gw_der_left(found) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length) {
  gw_certificate certificate;
  gw_point points[GW_MOST_POINTS];
  if (!gw_certificate_read(data, length, &certificate)) {
    return 0;
  }
  const gw_der *parts[] = {&certificate.serial, &certificate.issuer, &certificate.subject, &certificate.key,
                           &certificate.points};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    is_inside(parts[i], data, length);
  }
  CHECK(certificate.subject.end == certificate.key.at); /* verify.c copies them as one */
  for (size_t room = 0; room <= GW_MOST_POINTS; room++) {
    size_t count = gw_certificate_points(&certificate, points, room);
    CHECK(count <= room);
    for (size_t i = 0; i < count; i++) {
      CHECK(points[i].name != 0 && (points[i].reasons & ~(uint32_t)GW_ALL_REASONS) == 0);
    }
  }
  return 0;
}
