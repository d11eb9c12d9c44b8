/* der.h - a reader of DER (X.690) that cannot run past its end. It borrows the bytes and allocates nothing. */
#ifndef GW_DER_H
#define GW_DER_H

#include <stddef.h>
#include <stdint.h>

/* What is left to read of |bytes|: from |at|, never behind |end|. Offsets, so that an error can say where. */
typedef struct {
  const uint8_t *bytes;
  size_t at, end;
} gw_der;

static inline size_t gw_der_left(const gw_der *from) { return from->end - from->at; }

static inline int gw_der_next_is(const gw_der *from, uint8_t tag) {
  return gw_der_left(from) > 0 && from->bytes[from->at] == tag;
}

/* gw_der_take reads an element of |tag| and moves behind it. Returns 1 with a reader of its |content|; or 0 with |from|
 * as it was: another tag, longer than what is left, or a length that is not DER (X.690, section 10.1): definite and
 * minimal. A length has at most four octets: it is below 2^32. */
static inline int gw_der_take(gw_der *from, uint8_t tag, gw_der *content) {
  const uint8_t *bytes = from->bytes;
  size_t at = from->at + 2;
  if (gw_der_left(from) < 2 || !gw_der_next_is(from, tag)) return 0;
  size_t length = bytes[at - 1];
  if (length >= 0x80) {
    size_t octets = length & 0x7f;
    if (octets == 0 || octets > 4 || octets > from->end - at || bytes[at] == 0) return 0;
    for (length = 0; octets > 0; octets--) length = length << 8 | bytes[at++];
    if (length < 0x80) return 0;
  }
  if (length > from->end - at) return 0;
  *content = (gw_der){bytes, at, at + length};
  from->at = at + length;
  return 1;
}

#endif
