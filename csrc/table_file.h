/* table_file.h - the bytes of a revocation table, as they stand in its file.
 *
 *   header       gw_table_header, then issuer name, key, signature and CRL number
 *   directory    u32 for each bucket and one more: index of the first key of the bucket
 *   keys         hot: serials as two's complement of one width, big-endian, by (bucket, octets)
 *   facts        cold: u64 for each key, date and reason
 *   long index   gw_table_long for each serial of more than 24 octets, by (length, octets)
 *   long octets  what the long index points to
 *
 * Every part begins at a multiple of 64 (a cache line). No offset of a part is
 * stored: where the parts are follows from the counts, by one function, when
 * writing and when opening. A key's bucket is its hash, not its leading bits:
 * sequential and clustered serials spread like random ones. The checksums find
 * accidents, not attackers: they are not cryptographic, and whoever can write
 * the state directory has won anyway. Shared by table_compile.c, revoked.c,
 * their tests and fuzzers. */
#ifndef GW_TABLE_FILE_H
#define GW_TABLE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

_Static_assert(sizeof(size_t) == 8, "tables are mapped whole: 64-bit machines only");

#define GW_TABLE_MAGIC "revocation table"
/* Byte order and version in one number: both must be ours. */
#define GW_TABLE_FORMAT UINT64_C(0x0102030405060001)

enum {
  GW_TABLE_WIDEST = 24,            /* octets of the widest key; RFC 5280 allows CAs 20 */
  GW_TABLE_WORDS = GW_TABLE_WIDEST / 4,
  GW_TABLE_ALIGNMENT = 64,
  GW_TABLE_LARGEST_BLOB = 64 * 1024,
  GW_TABLE_MOST_BUCKET_BITS = 30,
  GW_TABLE_SCAN_AT_MOST = 16       /* keys of a bucket; larger ones are halved first, and sorted on the heap */
};

typedef struct {
  char magic[16]; /* GW_TABLE_MAGIC without its NUL */
  uint64_t format;
  uint64_t header_checksum; /* of everything from body_checksum to the directory */
  uint64_t body_checksum;   /* of everything from the directory to the end */
  int64_t this_update, next_update;
  uint32_t name_length, key_length, signature_length, number_length;
  uint32_t width;       /* octets of a key: 4, 8 … 24 */
  uint32_t bucket_bits; /* there are 1 << bucket_bits buckets */
  uint32_t hot_count, long_count;
  uint64_t long_octets;
} gw_table_header;

_Static_assert(offsetof(gw_table_header, body_checksum) == 32, "the checksum goes in steps of 32 bytes");
_Static_assert(sizeof(gw_table_header) == 96, "no padding: every byte of the file is determined");

typedef struct {
  uint64_t at; /* into the long octets */
  uint64_t length;
  uint64_t facts;
} gw_table_long;

/* Offsets of the parts from the beginning of the file. */
typedef struct {
  size_t directory, keys, facts, long_index, long_octets, total;
} gw_table_layout;

static inline size_t gw_table_align(size_t offset) {
  return (offset + GW_TABLE_ALIGNMENT - 1) & ~(size_t)(GW_TABLE_ALIGNMENT - 1);
}

static inline size_t gw_table_buckets(const gw_table_header *header) { return (size_t)1 << header->bucket_bits; }

/* gw_table_lay_out computes where the parts are. Returns 1, or 0 when a number
 * in |header| is out of bounds. The bounds keep every sum below 2^51: it cannot wrap. */
static inline int gw_table_lay_out(const gw_table_header *header, gw_table_layout *layout) {
  if (header->name_length > GW_TABLE_LARGEST_BLOB || header->key_length > GW_TABLE_LARGEST_BLOB ||
      header->signature_length > GW_TABLE_LARGEST_BLOB || header->number_length > GW_TABLE_LARGEST_BLOB ||
      header->width < 4 || header->width > GW_TABLE_WIDEST || header->width % 4 != 0 ||
      header->bucket_bits > GW_TABLE_MOST_BUCKET_BITS || header->long_octets > UINT64_C(1) << 50) {
    return 0;
  }
  layout->directory = gw_table_align(sizeof *header + header->name_length + header->key_length +
                                     header->signature_length + header->number_length);
  layout->keys = gw_table_align(layout->directory + (gw_table_buckets(header) + 1) * sizeof(uint32_t));
  layout->facts = gw_table_align(layout->keys + (size_t)header->hot_count * header->width);
  layout->long_index = gw_table_align(layout->facts + (size_t)header->hot_count * sizeof(uint64_t));
  layout->long_octets = gw_table_align(layout->long_index + (size_t)header->long_count * sizeof(gw_table_long));
  layout->total = gw_table_align(layout->long_octets + header->long_octets);
  return 1;
}

/* gw_table_checksum of |length| bytes, a multiple of 32. Each step maps its lane
 * one to one, so a change within one word is always found. */
static inline uint64_t gw_table_checksum(const uint8_t *bytes, size_t length) {
  const uint64_t FACTOR = UINT64_C(0xd1342543de82ef95);
  uint64_t lanes[4] = {length, 1, 2, 3}, word;
  for (size_t at = 0; at < length; at += 32) {
    for (size_t lane = 0; lane < 4; lane++) {
      memcpy(&word, bytes + at + 8 * lane, sizeof word);
      word = (lanes[lane] ^ word) * FACTOR;
      lanes[lane] = word << 29 | word >> 35;
    }
  }
  uint64_t sum = 0;
  for (size_t lane = 0; lane < 4; lane++) {
    sum = (sum ^ lanes[lane]) * FACTOR;
    sum ^= sum >> 32;
  }
  return sum;
}

static inline uint64_t gw_table_header_checksum(const uint8_t *file, const gw_table_layout *layout) {
  size_t from = offsetof(gw_table_header, body_checksum);
  return gw_table_checksum(file + from, layout->directory - from);
}

static inline uint64_t gw_table_body_checksum(const uint8_t *file, const gw_table_layout *layout) {
  return gw_table_checksum(file + layout->directory, layout->total - layout->directory);
}

/* gw_table_trim drops redundant leading octets of a two's complement integer: 00 00 01 is 01, 00 FF is not FF. */
static inline void gw_table_trim(const uint8_t **serial, size_t *length) {
  while (*length > 1 && ((*serial)[0] == 0x00 || (*serial)[0] == 0xff) && ((*serial)[0] ^ (*serial)[1]) < 0x80) {
    (*serial)++;
    (*length)--;
  }
}

/* gw_table_key extends the sign of a trimmed |serial| of 1 to |words| * 4 octets. */
static inline void gw_table_key(const uint8_t *serial, size_t length, size_t words, uint32_t key[GW_TABLE_WORDS]) {
  memset(key, serial[0] & 0x80 ? 0xff : 0x00, words * 4);
  memcpy((uint8_t *)key + words * 4 - length, serial, length);
}

/* gw_table_bucket hashes |key| to 0 … (1 << |bits|) - 1. Not keyed: serials that
 * are made to collide share a bucket, where they cost a binary search, no more. */
static inline size_t gw_table_bucket(const uint32_t *key, size_t words, uint32_t bits) {
  uint64_t hash = 0;
  for (size_t i = 0; i < words; i++) {
    hash = (hash ^ key[i]) * UINT64_C(0x9e3779b97f4a7c15);
    hash ^= hash >> 32;
  }
  hash *= UINT64_C(0xd6e8feb86659fd93);
  return (size_t)(hash >> 1 >> (63 - bits)); /* in two steps: a shift by 64 is undefined */
}

/* Dates of the years 0 to 9999 fit in 38 bits: date above, reason + 1 in the lowest four. */
#define GW_TABLE_FIRST_DATE (-INT64_C(62167219200))

static inline uint64_t gw_table_pack(int64_t date, int reason) {
  return (uint64_t)(date - GW_TABLE_FIRST_DATE) << 4 | (uint64_t)(reason + 1);
}

/* A table in memory. A reader maps it read-only, whatever the types here say. */
typedef struct {
  gw_table_header header; /* a copy: what has been checked stays so */
  gw_table_layout layout;
  size_t words; /* of a key */
  uint8_t *map;
  uint32_t *directory;
  uint32_t *keys;
  uint64_t *facts;
  gw_table_long *long_index;
  uint8_t *long_octets;
} gw_table_image;

/* gw_table_place points the parts of |image|, whose header and layout are known, into |map|. */
static inline void gw_table_place(gw_table_image *image, void *map) {
  image->words = image->header.width / 4;
  image->map = map;
  image->directory = (uint32_t *)(void *)(image->map + image->layout.directory);
  image->keys = (uint32_t *)(void *)(image->map + image->layout.keys);
  image->facts = (uint64_t *)(void *)(image->map + image->layout.facts);
  image->long_index = (gw_table_long *)(void *)(image->map + image->layout.long_index);
  image->long_octets = image->map + image->layout.long_octets;
}

static inline uint32_t *gw_table_key_at(const gw_table_image *image, size_t index) {
  return image->keys + index * image->words;
}

/* gw_table_same_key compares without a branch: it runs on keys that are not in the cache yet. */
static inline int gw_table_same_key(const uint32_t *a, const uint32_t *b, size_t words) {
  uint32_t difference = 0;
  for (size_t i = 0; i < words; i++) {
    difference |= a[i] ^ b[i];
  }
  return difference == 0;
}

/* gw_table_long_at returns the octets of a long serial, or NULL where a damaged file points outside. */
static inline const uint8_t *gw_table_long_at(const gw_table_image *image, const gw_table_long *record) {
  uint64_t room = image->header.long_octets;
  return record->at <= room && record->length <= room - record->at ? image->long_octets + record->at : NULL;
}

/* gw_table_compare_long orders the serial of |record| against |serial|: by length, then octets. */
static inline int gw_table_compare_long(const gw_table_image *image, const gw_table_long *record,
                                        const uint8_t *serial, uint64_t length) {
  const uint8_t *octets = gw_table_long_at(image, record);
  if (octets == NULL || record->length != length) {
    return octets == NULL || record->length < length ? -1 : 1;
  }
  return memcmp(octets, serial, length);
}

#endif
