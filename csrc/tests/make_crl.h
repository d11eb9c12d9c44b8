/* make_crl.h - the entries of certificate lists, for tests: DER put together from its elements.
 *
 * A `bytes` owns its memory; bytes_free releases it. No memory stops the test. */
#ifndef GW_MAKE_CRL_H
#define GW_MAKE_CRL_H

#include <stdint.h>
#include <string.h>

#include "check.h"

typedef struct {
  uint8_t *at;
  size_t length, room;
} bytes;

static inline void bytes_free(bytes *buffer) {
  free(buffer->at);
  *buffer = (bytes){NULL, 0, 0};
}

static inline void bytes_add(bytes *buffer, const void *more, size_t length) {
  if (buffer->length + length > buffer->room) {
    buffer->room = (buffer->length + length) * 2;
    buffer->at = realloc(buffer->at, buffer->room);
    CHECK(buffer->at != NULL);
  }
  if (length > 0) {
    memcpy(buffer->at + buffer->length, more, length);
    buffer->length += length;
  }
}

/* der_add appends one element of |tag| with |content|. */
static inline void der_add(bytes *out, uint8_t tag, const void *content, size_t length) {
  uint8_t head[6] = {tag, (uint8_t)length};
  size_t octets = 0;
  if (length >= 0x80) {
    for (size_t rest = length; rest > 0; rest >>= 8) {
      octets++;
    }
    head[1] = (uint8_t)(0x80 | octets);
    for (size_t i = 0; i < octets; i++) {
      head[2 + i] = (uint8_t)(length >> 8 * (octets - 1 - i));
    }
  }
  bytes_add(out, head, 2 + octets);
  bytes_add(out, content, length);
}

/* der_wrap appends one element of |tag| around |content|, which it frees. */
static inline void der_wrap(bytes *out, uint8_t tag, bytes *content) {
  der_add(out, tag, content->at, content->length);
  bytes_free(content);
}

/* extension_add appends an Extension; |critical| is the content of its BOOLEAN, or -1 for none. */
static inline void extension_add(bytes *out, const char *oid, int critical, const void *value, size_t length) {
  bytes extension = {0};
  uint8_t flag = (uint8_t)critical;
  der_add(&extension, 0x06, oid, strlen(oid));
  if (critical >= 0) {
    der_add(&extension, 0x01, &flag, 1);
  }
  der_add(&extension, 0x04, value, length);
  der_wrap(out, 0x30, &extension);
}

/* entry_add appends an entry of revokedCertificates. |date| is text of 13
 * (UTCTime) or any other length (GeneralizedTime); |extensions| may be NULL. */
static inline void entry_add(bytes *out, const void *serial, size_t length, const char *date, bytes *extensions) {
  bytes entry = {0};
  der_add(&entry, 0x02, serial, length);
  der_add(&entry, strlen(date) == 13 ? 0x17 : 0x18, date, strlen(date));
  if (extensions != NULL) {
    der_wrap(&entry, 0x30, extensions);
  }
  der_wrap(out, 0x30, &entry);
}

/* next_random is a small generator: the same numbers in every run. */
static inline uint64_t next_random(uint64_t *state) {
  uint64_t value = (*state += UINT64_C(0x9e3779b97f4a7c15));
  value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
  return value ^ value >> 31;
}

#endif
