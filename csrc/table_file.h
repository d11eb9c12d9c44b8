/* table_file.h - the bytes of a revocation table, as they stand in its file: a hash table of serial numbers.
 *
 *   header       gw_table_header, then issuer name, key, signature and CRL number
 *   tags         u8 for each slot: 0 where it is free, else eight bits of its serial's hash
 *   records      gw_table_record for each slot
 *   long octets  serials of more than 23 octets, one after the other
 *   order        u32 for each serial: its slot. For reading all of them
 *
 * A serial is in the first slot, from the one its hash names, that was free (linear probing, from the last slot on to
 * the first). A third of the slots is free, so that nearly always one word of tags tells where it is or that it is
 * not there: no record is read for a serial that is not in the table. The hash is seeded from the list's signature,
 * which covers the serials: nobody can choose serials that meet in one place. Every part begins at a multiple of 64
 * (a cache line); where follows from the counts, by one function, when writing and when opening. The checksums find
 * accidents, not attackers: whoever can write the state directory has won anyway. */
#ifndef GW_TABLE_FILE_H
#define GW_TABLE_FILE_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

_Static_assert(sizeof(size_t) == 8, "tables are mapped whole: 64-bit machines only");

#define GW_TABLE_MAGIC "revocation table"
/* Byte order and version in one number: both must be ours. */
#define GW_TABLE_FORMAT UINT64_C(0x0102030405060002)

enum {
  GW_TABLE_SHORT = 23,   /* octets of a serial that fits in its record; RFC 5280 allows CAs 20 */
  GW_TABLE_REACH = 1024, /* slots that are looked at for a serial; chance needs some 200 of them for ten million */
  GW_TABLE_LARGEST_BLOB = 64 * 1024
};

typedef struct {
  char magic[16]; /* GW_TABLE_MAGIC without its NUL */
  uint64_t format;
  uint64_t header_checksum; /* of everything from body_checksum to the tags */
  uint64_t body_checksum;   /* of everything from the tags to the end */
  int64_t this_update, next_update;
  uint64_t seed, slots, count, long_octets;
  uint32_t blob_lengths[4]; /* issuer name, key, signature, number */
} gw_table_header;

typedef struct {
  uint64_t facts; /* the date above, reason + 1 in the lowest four bits: dates of the years 0 to 9999 fit in 38 */
  uint8_t length; /* of the serial, trimmed; GW_TABLE_SHORT + 1: of a longer one there are its place and length, u64 */
  uint8_t octets[GW_TABLE_SHORT];
} gw_table_record;

#define GW_TABLE_FIRST_DATE (-INT64_C(62167219200))

_Static_assert(sizeof(gw_table_header) == 104 && sizeof(gw_table_record) == 32, "every byte of the file is determined");

/* A table in memory: a copy of its header, which stays as it was checked, where its parts are, and all of it. */
typedef struct {
  gw_table_header header;
  size_t tags, records, long_octets, order, total;
  uint8_t *map; /* a reader's is read-only, whatever the type says */
} gw_table_image;

static inline size_t gw_table_align(size_t offset) { return (offset + 63) & ~(size_t)63; }

/* gw_table_lay_out computes from the header of |image| where its parts are. Returns 1, or 0 when a number is out of
 * bounds. The bounds keep every sum below 2^51: it cannot wrap. */
static inline int gw_table_lay_out(gw_table_image *image) {
  const gw_table_header *header = &image->header;
  size_t blobs = 0, longest = 0;
  for (size_t i = 0; i < 4; i++) {
    blobs += header->blob_lengths[i];
    longest = header->blob_lengths[i] > longest ? header->blob_lengths[i] : longest;
  }
  if (longest > GW_TABLE_LARGEST_BLOB || header->slots < 8 || header->slots > UINT32_MAX ||
      header->count > header->slots || header->long_octets > UINT64_C(1) << 50) {
    return 0;
  }
  image->tags = gw_table_align(sizeof *header + blobs);
  image->records = gw_table_align(image->tags + header->slots + 8); /* the first eight tags come again */
  image->long_octets = gw_table_align(image->records + header->slots * sizeof(gw_table_record));
  image->order = gw_table_align(image->long_octets + header->long_octets);
  image->total = gw_table_align(image->order + header->count * sizeof(uint32_t));
  return 1;
}

static inline gw_table_record *gw_table_record_at(const gw_table_image *image, size_t slot) {
  return (gw_table_record *)(void *)(image->map + image->records) + slot;
}

static inline uint32_t *gw_table_order(const gw_table_image *image) {
  return (uint32_t *)(void *)(image->map + image->order);
}

/* gw_table_word returns up to eight octets as a number, the first one lowest. */
static inline uint64_t gw_table_word(const uint8_t *octets, size_t length) {
  uint64_t word = 0;
  if (length >= sizeof word) {
    memcpy(&word, octets, sizeof word);
    return le64toh(word);
  }
  for (size_t i = 0; i < length; i++) {
    word |= (uint64_t)octets[i] << 8 * i;
  }
  return word;
}

/* gw_table_digest sums up |octets| on top of |sum|: the checksums, the seed, and the hash of a serial. */
static inline uint64_t gw_table_digest(const uint8_t *octets, size_t length, uint64_t sum) {
  sum ^= length;
  for (size_t at = 0; at < length; at += 8) {
    uint64_t word = sum ^ gw_table_word(octets + at, length - at);
    unsigned __int128 product = (unsigned __int128)word * UINT64_C(0xd1342543de82ef95);
    sum = (uint64_t)product ^ (uint64_t)(product >> 64);
  }
  return sum;
}

static inline uint64_t gw_table_header_checksum(const gw_table_image *image) {
  const size_t FROM = offsetof(gw_table_header, body_checksum);
  return gw_table_digest(image->map + FROM, image->tags - FROM, 1);
}

static inline uint64_t gw_table_body_checksum(const gw_table_image *image) {
  return gw_table_digest(image->map + image->tags, image->total - image->tags, 1);
}

/* gw_table_trim drops redundant leading octets of a two's complement integer: 00 00 01 is 01, 00 FF is not FF. */
static inline void gw_table_trim(const uint8_t **serial, size_t *length) {
  while (*length > 1 && ((*serial)[0] == 0x00 || (*serial)[0] == 0xff) && ((*serial)[0] ^ (*serial)[1]) < 0x80) {
    (*serial)++;
    (*length)--;
  }
}

/* gw_table_serial returns the serial of |record|, or NULL where a damaged file points outside. */
static inline const uint8_t *gw_table_serial(const gw_table_image *image, const gw_table_record *record,
                                             uint64_t *length) {
  uint64_t at, room = image->header.long_octets;
  *length = record->length;
  if (*length <= GW_TABLE_SHORT) {
    return record->octets;
  }
  memcpy(&at, record->octets, sizeof at);
  memcpy(length, record->octets + sizeof at, sizeof *length);
  return at <= room && *length <= room - at ? image->map + image->long_octets + at : NULL;
}

/* gw_table_zeros sets the highest bit of each octet of |word| that is zero, and perhaps of octets above one of those:
 * the lowest is always right. */
static inline uint64_t gw_table_zeros(uint64_t word) {
  return (word - UINT64_C(0x0101010101010101)) & ~word & UINT64_C(0x8080808080808080);
}

static inline uint8_t gw_table_tag(uint64_t hash) { return (uint8_t)(hash | 1); } /* never 0 */

/* gw_table_home gives the slot that |hash| names. */
static inline size_t gw_table_home(const gw_table_image *image, uint64_t hash) {
  return (size_t)((unsigned __int128)hash * image->header.slots >> 64);
}

/* gw_table_beyond gives the slot |at| + |beyond|, where the last one is followed by the first. */
static inline size_t gw_table_beyond(const gw_table_image *image, size_t at, size_t beyond) {
  size_t slots = image->header.slots;
  return at + beyond >= slots ? at + beyond - slots : at + beyond;
}

/* gw_table_seek looks for a trimmed |serial| with this |hash|: its digest on top of the seed. Returns 1 with its
 * |slot|; or 0 with the free slot it would be in, which is the number of slots where none is within reach. */
static inline int gw_table_seek(const gw_table_image *image, const uint8_t *serial, size_t length, uint64_t hash,
                                size_t *slot) {
  const uint64_t EACH = UINT64_C(0x0101010101010101);
  size_t at = gw_table_home(image, hash);
  /* Its record is mostly in one of two cache lines, which are on their way while the tags are. */
  __builtin_prefetch(gw_table_record_at(image, at));
  __builtin_prefetch(gw_table_record_at(image, gw_table_beyond(image, at, 2)));
  for (size_t seen = 0; seen < GW_TABLE_REACH; seen += 8, at = gw_table_beyond(image, at, 8)) {
    uint64_t tags = gw_table_word(image->map + image->tags + at, 8), open = gw_table_zeros(tags), octets_length;
    for (uint64_t same = gw_table_zeros(tags ^ gw_table_tag(hash) * EACH); same != 0; same &= same - 1) {
      *slot = gw_table_beyond(image, at, (size_t)__builtin_ctzll(same) / 8);
      const uint8_t *octets = gw_table_serial(image, gw_table_record_at(image, *slot), &octets_length);
      if (octets != NULL && octets_length == length && memcmp(octets, serial, length) == 0) {
        return 1;
      }
    }
    if (open != 0) {
      *slot = gw_table_beyond(image, at, (size_t)__builtin_ctzll(open) / 8);
      return 0;
    }
  }
  *slot = image->header.slots;
  return 0;
}

#endif
