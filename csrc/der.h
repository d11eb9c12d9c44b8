/* der.h - a reader of DER (X.690) that cannot run past its end.
 *
 * Strict: lengths are definite and minimal, tag numbers below 31 (nothing in a
 * certificate list needs more). Borrows the bytes, allocates nothing. Positions
 * are offsets, so that an error can say where. */
#ifndef GW_DER_H
#define GW_DER_H

#include <stddef.h>
#include <stdint.h>

enum {
  GW_DER_BOOLEAN = 0x01,
  GW_DER_INTEGER = 0x02,
  GW_DER_BIT_STRING = 0x03,
  GW_DER_OCTET_STRING = 0x04,
  GW_DER_OBJECT_IDENTIFIER = 0x06,
  GW_DER_ENUMERATED = 0x0a,
  GW_DER_UTC_TIME = 0x17,
  GW_DER_GENERALIZED_TIME = 0x18,
  GW_DER_SEQUENCE = 0x30,
  GW_DER_CONTEXT_0 = 0xa0
};

/* What is left to read: |bytes|[|at|] to |bytes|[|end| - 1]. */
typedef struct {
  const uint8_t *bytes;
  size_t at, end;
} gw_der;

/* One element, by offsets into the bytes it was read from. */
typedef struct {
  uint8_t tag;
  size_t at, length;                 /* the whole of it: tag, length, content */
  size_t content_at, content_length;
} gw_der_element;

/* gw_der_at_end returns 1 when nothing is left. */
static inline int gw_der_at_end(const gw_der *reader) { return reader->at == reader->end; }

/* gw_der_next_is returns 1 when something is left and begins with |tag|. */
static inline int gw_der_next_is(const gw_der *reader, uint8_t tag) {
  return reader->at < reader->end && reader->bytes[reader->at] == tag;
}

/* gw_der_inside returns a reader of the content of |element|, which |reader| has read. */
static inline gw_der gw_der_inside(const gw_der *reader, const gw_der_element *element) {
  return (gw_der){reader->bytes, element->content_at, element->content_at + element->content_length};
}

/* gw_der_long_length reads the |count| octets of a long-form length at |*at|.
 * Returns 1, or 0 where they are not there, not minimal or above 2^32. */
static inline int gw_der_long_length(const gw_der *reader, size_t *at, size_t count, size_t *length) {
  if (count == 0 || count > 4 || count > reader->end - *at || reader->bytes[*at] == 0) {
    return 0;
  }
  size_t value = 0;
  for (size_t i = 0; i < count; i++) {
    value = value << 8 | reader->bytes[(*at)++];
  }
  *length = value;
  return value >= 0x80;
}

/* gw_der_next reads one element and moves behind it. Returns 1, or 0 with
 * |reader| as it was: nothing left, longer than what is left, or not DER. */
static inline int gw_der_next(gw_der *reader, gw_der_element *element) {
  if (reader->end - reader->at < 2) {
    return 0;
  }
  size_t at = reader->at;
  uint8_t tag = reader->bytes[at++];
  size_t length = reader->bytes[at++];
  if ((tag & 0x1f) == 0x1f) {
    return 0;
  }
  if (length >= 0x80 && !gw_der_long_length(reader, &at, length & 0x7f, &length)) {
    return 0;
  }
  if (length > reader->end - at) {
    return 0;
  }
  *element = (gw_der_element){tag, reader->at, at - reader->at + length, at, length};
  reader->at = at + length;
  return 1;
}

#endif
