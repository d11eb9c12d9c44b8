/* table_file.h - the bytes of a revocation table, as they stand in its file: a hash table of serial numbers.
 *
 *   header    gw_table_header
 *   records   gw_table_record (revoked.h) for each slot
 *   tags      u64 for each group of eight slots: an octet for each slot, 0 where it is free, else of the hash
 *   blobs     issuer name, key, signature and CRL number, one after the other
 *
 * A serial has one record; or, with more than 20 octets, which is more than RFC 5280 allows, one for each 20: they are
 * pieces, each known by its octets and the slot of the piece before it. A record is in the first group, from the one
 * that its hash names, that had a free slot (from the last group on to the first). A third of the slots is free, so
 * that nearly always one word of tags tells where a record is or that it is not there: then no record is read. The
 * hash is seeded from the list's signature, which covers the serials: nobody can choose serials that meet in one
 * place. Where the parts begin follows from the header. The checksums find accidents, not attackers: whoever can write
 * the state directory has won anyway. */
#ifndef GW_TABLE_FILE_H
#define GW_TABLE_FILE_H

#include <string.h>

#include "revoked.h"

_Static_assert(sizeof(size_t) == 8, "tables are mapped whole: 64-bit machines only");

#define GW_TABLE_MAGIC "revocation table"
/* Byte order and version in one number: both must be ours. */
#define GW_TABLE_FORMAT UINT64_C(0x0102030405060003)

enum {
  GW_TABLE_GROUP = 8,  /* slots whose tags are one word */
  GW_TABLE_REACH = 64, /* groups that are looked at for a record; chance needs some 15 of them for ten million */
  GW_TABLE_LARGEST_BLOB = 64 * 1024
};

typedef struct {
  char magic[16]; /* GW_TABLE_MAGIC without its NUL */
  uint64_t format;
  uint64_t header_checksum; /* of everything from body_checksum to the records, and of the blobs */
  uint64_t body_checksum;   /* of records and tags */
  int64_t this_update, next_update;
  uint64_t seed, groups, count;
  uint64_t blob_lengths[4];
  uint64_t none[2]; /* 0: the records begin with a cache line */
} gw_table_header;

_Static_assert(sizeof(gw_table_header) == 128 && sizeof(gw_table_record) == 32, "every byte of the file is determined");

/* A table in memory: a copy of its header, which stays as it was checked, where its parts are, and all of it. */
typedef struct {
  gw_table_header header;
  size_t tags_at, blobs_at, total;
  uint8_t *map; /* a reader's is read-only, whatever the type says */
} gw_table_image;

/* gw_table_lay_out computes from the header of |image| where its parts are. Returns 1, or 0 when a number is out of
 * bounds. The bounds keep slots below 2^27, so that they fit into a link, and every sum far from wrapping. */
static inline int gw_table_lay_out(gw_table_image *image) {
  const gw_table_header *header = &image->header;
  int good = header->groups > 0 && header->groups < (1 << 27) / GW_TABLE_GROUP;
  image->tags_at = sizeof *header + header->groups * GW_TABLE_GROUP * sizeof(gw_table_record);
  image->blobs_at = image->total = image->tags_at + header->groups * sizeof(uint64_t);
  for (size_t i = 0; i < 4; i++) {
    good = good && header->blob_lengths[i] <= GW_TABLE_LARGEST_BLOB;
    image->total += header->blob_lengths[i];
  }
  return good;
}

static inline gw_table_record *gw_table_records(const gw_table_image *image) {
  return (gw_table_record *)(void *)(image->map + sizeof image->header);
}

/* gw_table_digest sums up |octets| on top of |sum|: the checksums, the seed, and the hash of a piece. */
static inline uint64_t gw_table_digest(const uint8_t *octets, size_t length, uint64_t sum) {
  sum ^= length;
  for (size_t at = 0; at < length; at += 8) {
    uint64_t word = 0;
    if (length - at >= sizeof word) {
      memcpy(&word, octets + at, sizeof word);
    } else {
      for (size_t i = at; i < length; i++) word = word << 8 | octets[i];
    }
    unsigned __int128 product = (unsigned __int128)(sum ^ word) * UINT64_C(0xd1342543de82ef95);
    sum = (uint64_t)product ^ (uint64_t)(product >> 64);
  }
  return sum;
}

static inline uint64_t gw_table_header_checksum(const gw_table_image *image) {
  const size_t FROM = offsetof(gw_table_header, body_checksum);
  uint64_t sum = gw_table_digest((const uint8_t *)&image->header + FROM, sizeof image->header - FROM, 1);
  return gw_table_digest(image->map + image->blobs_at, image->total - image->blobs_at, sum);
}

static inline uint64_t gw_table_body_checksum(const gw_table_image *image) {
  return gw_table_digest(image->map + sizeof image->header, image->blobs_at - sizeof image->header, 1);
}

/* gw_table_hash gives the hash of the piece with this |link| and its |octets|. */
static inline uint64_t gw_table_hash(const gw_table_image *image, uint32_t link, const uint8_t *octets) {
  return gw_table_digest(octets, link % 32, image->header.seed + link);
}

/* gw_table_home gives the group that |hash| names. */
static inline size_t gw_table_home(const gw_table_image *image, uint64_t hash) {
  return (size_t)((unsigned __int128)hash * image->header.groups >> 64);
}

/* gw_table_zeros sets the highest bit of each octet of |word| that is zero, and perhaps of octets above one of those:
 * the lowest is always right. */
static inline uint64_t gw_table_zeros(uint64_t word) {
  return (word - UINT64_C(0x0101010101010101)) & ~word & UINT64_C(0x8080808080808080);
}

/* gw_table_piece finds the record with this |link| and |octets|. Where there is none, and |made| is not NULL, it makes
 * one and sets |*made|. Returns it, or NULL: not there, or no slot is free within reach. */
static inline gw_table_record *gw_table_piece(const gw_table_image *image, uint32_t link, const uint8_t *octets,
                                              int *made) {
  uint64_t hash = gw_table_hash(image, link, octets), tag = (hash & 0xff) | 1; /* never 0 */
  size_t group = gw_table_home(image, hash);
  for (size_t seen = 0; seen < GW_TABLE_REACH; seen++, group = group + 1 < image->header.groups ? group + 1 : 0) {
    gw_table_record *records = gw_table_records(image) + group * GW_TABLE_GROUP;
    uint64_t *tags = (uint64_t *)(void *)(image->map + image->tags_at) + group;
    for (int i = 0; i < GW_TABLE_GROUP; i += 2) { /* two are a cache line: on their way while the tags are */
      __builtin_prefetch(&records[i]);
    }
    for (uint64_t same = gw_table_zeros(*tags ^ tag * UINT64_C(0x0101010101010101)); same != 0; same &= same - 1) {
      gw_table_record *record = &records[__builtin_ctzll(same) / 8];
      if (record->link == link && memcmp(record->octets, octets, link % 32) == 0) return record;
    }
    uint64_t open = gw_table_zeros(*tags);
    if (open != 0) {
      if (made == NULL) return NULL;
      int slot = __builtin_ctzll(open) / 8;
      *tags |= tag << slot * 8;
      records[slot].link = link;
      memcpy(records[slot].octets, octets, link % 32);
      *made = 1;
      return &records[slot];
    }
  }
  return NULL;
}

/* gw_table_reach finds the record in which a trimmed |serial| ends. Where |made| is not NULL, it makes what is missing,
 * and sets |*made| if that is anything. Returns the record; or NULL as gw_table_piece does, or without octets. */
static inline gw_table_record *gw_table_reach(const gw_table_image *image, const uint8_t *serial, size_t length,
                                              int *made) {
  gw_table_record *record = NULL;
  for (size_t taken, before = 0; length > 0; serial += taken, length -= taken) {
    taken = length < sizeof record->octets ? length : sizeof record->octets;
    record = gw_table_piece(image, (uint32_t)(before * 32 + taken), serial, made);
    if (record == NULL) return NULL;
    before = (size_t)(record - gw_table_records(image)) + 1;
  }
  return record;
}

#endif
