/* der.h - a reader of DER (X.690) that cannot run past its end. Strict: lengths are definite and minimal, tag numbers
 * below 31 (nothing in a certificate list needs more). Borrows the bytes, allocates nothing. Positions are offsets, so
 * that an error can say where. */
#ifndef GW_DER_H
#define GW_DER_H

#include <stddef.h>
#include <stdint.h>

/* What is left to read: |bytes|[|at|] to |bytes|[|end| - 1]. */
typedef struct {
  const uint8_t *bytes;
  size_t at, end;
} gw_der;

/* One element: where the whole of it is, and a reader of its content. */
typedef struct {
  size_t at, length;
  gw_der content;
} gw_der_element;

/* gw_der_left returns how many bytes are left to read. */
static inline size_t gw_der_left(const gw_der *reader) { return reader->end - reader->at; }

/* gw_der_next_is returns 1 when something is left and begins with |tag|. */
static inline int gw_der_next_is(const gw_der *reader, uint8_t tag) {
  return reader->at < reader->end && reader->bytes[reader->at] == tag;
}

/* gw_der_next reads one element and moves behind it. Returns 1, or 0 with |reader| as it was: nothing left, longer than
 * what is left, or not DER. A length has at most four octets: it is below 2^32. */
static inline int gw_der_next(gw_der *reader, gw_der_element *element) {
  const uint8_t *bytes = reader->bytes;
  size_t at = reader->at + 2;
  if (gw_der_left(reader) < 2 || (bytes[at - 2] & 0x1f) == 0x1f) {
    return 0;
  }
  size_t length = bytes[at - 1];
  if (length >= 0x80) {
    size_t octets = length & 0x7f;
    if (octets == 0 || octets > 4 || octets > reader->end - at || bytes[at] == 0) {
      return 0;
    }
    for (length = 0; octets > 0; octets--) {
      length = length << 8 | bytes[at++];
    }
    if (length < 0x80) {
      return 0;
    }
  }
  if (length > reader->end - at) {
    return 0;
  }
  *element = (gw_der_element){reader->at, at - reader->at + length, {bytes, at, at + length}};
  reader->at = at + length;
  return 1;
}

#endif
