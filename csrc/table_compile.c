/* table_compile.c - from the DER of a verified CRL to a revocation table: count, place, sort.
 *
 * Three walks over the entries and no memory but the map of the output. The
 * first walk checks everything; the DER must not change until the last is done. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "revoked.h"
#include "table_file.h"

/* measure reads all entries once, so that the later passes cannot fail. */
static int measure(const uint8_t *entries, size_t length, gw_table_header *header, gw_error *error) {
  size_t position = 0, widest = 1;
  uint64_t hot = 0, longer = 0;
  gw_crl_entry entry;
  while (gw_crl_next_entry(entries, length, &position, &entry, error)) {
    gw_table_trim(&entry.serial, &entry.serial_length);
    if (entry.serial_length > GW_TABLE_WIDEST) {
      longer++;
      header->long_octets += entry.serial_length;
    } else {
      hot++;
      widest = entry.serial_length > widest ? entry.serial_length : widest;
    }
  }
  if (position != length) {
    return 0;
  }
  if (hot + longer > UINT32_MAX) {
    return gw_fail(error, "%llu entries: a table holds 4294967295", (unsigned long long)(hot + longer));
  }
  header->hot_count = (uint32_t)hot;
  header->long_count = (uint32_t)longer;
  header->width = (uint32_t)(widest + 3) & ~3u;
  while (((uint64_t)4 << header->bucket_bits) < hot) {
    header->bucket_bits++;
  }
  return 1;
}

/* Entries go to memory at random, so they are taken in batches: what a batch
 * is going to touch is prefetched for all of it before it is touched. */
typedef struct {
  size_t count;
  struct {
    uint32_t key[GW_TABLE_WORDS];
    uint64_t facts;
    size_t bucket, index;
  } items[64];
} batch;

/* add_long appends a serial that is too long for the keys; |*octets| is how many of the long octets are taken. */
static void add_long(gw_table_image *image, const gw_crl_entry *entry, size_t index, uint64_t *octets) {
  memcpy(image->long_octets + *octets, entry->serial, entry->serial_length);
  image->long_index[index] =
      (gw_table_long){*octets, entry->serial_length, gw_table_pack(entry->revocation_date, entry->reason)};
  *octets += entry->serial_length;
}

/* next_batch reads on from |*position|, passing over long serials. Returns 1, or 0 when there was nothing left. */
static int next_batch(const gw_table_image *image, const uint8_t *entries, size_t length, size_t *position,
                      batch *batch) {
  gw_crl_entry entry;
  batch->count = 0;
  while (batch->count < sizeof batch->items / sizeof *batch->items &&
         gw_crl_next_entry(entries, length, position, &entry, NULL)) {
    gw_table_trim(&entry.serial, &entry.serial_length);
    if (entry.serial_length <= GW_TABLE_WIDEST) {
      size_t i = batch->count++;
      gw_table_key(entry.serial, entry.serial_length, image->words, batch->items[i].key);
      batch->items[i].facts = gw_table_pack(entry.revocation_date, entry.reason);
      batch->items[i].bucket = gw_table_bucket(batch->items[i].key, image->words, image->header.bucket_bits);
      __builtin_prefetch(&image->directory[batch->items[i].bucket], 1);
    }
  }
  return batch->count > 0;
}

/* count_keys leaves in the directory how many keys each bucket gets, then where each bucket starts. */
static void count_keys(const gw_table_image *image, const uint8_t *entries, size_t length) {
  size_t position = 0, buckets = gw_table_buckets(&image->header);
  uint32_t start = 0;
  batch batch;
  while (next_batch(image, entries, length, &position, &batch)) {
    for (size_t i = 0; i < batch.count; i++) {
      image->directory[batch.items[i].bucket]++;
    }
  }
  for (size_t bucket = 0; bucket <= buckets; bucket++) {
    uint32_t count = image->directory[bucket];
    image->directory[bucket] = start;
    start += count;
  }
}

/* place_keys writes every key into its bucket; each directory word moves from its bucket's start to its end. */
static void place_keys(const gw_table_image *image, const uint8_t *entries, size_t length) {
  size_t position = 0;
  batch batch;
  while (next_batch(image, entries, length, &position, &batch)) {
    for (size_t i = 0; i < batch.count; i++) {
      size_t index = batch.items[i].index = image->directory[batch.items[i].bucket]++;
      __builtin_prefetch(gw_table_key_at(image, index), 1);
      __builtin_prefetch(&image->facts[index], 1);
    }
    for (size_t i = 0; i < batch.count; i++) {
      memcpy(gw_table_key_at(image, batch.items[i].index), batch.items[i].key, image->header.width);
      image->facts[batch.items[i].index] = batch.items[i].facts;
    }
  }
}

static void place_long(gw_table_image *image, const uint8_t *entries, size_t length) {
  size_t position = 0, index = 0;
  uint64_t octets = 0;
  gw_crl_entry entry;
  while (index < image->header.long_count && gw_crl_next_entry(entries, length, &position, &entry, NULL)) {
    gw_table_trim(&entry.serial, &entry.serial_length);
    if (entry.serial_length > GW_TABLE_WIDEST) {
      add_long(image, &entry, index++, &octets);
    }
  }
}

static int comes_before(const gw_table_image *image, size_t a, size_t b) {
  return memcmp(gw_table_key_at(image, a), gw_table_key_at(image, b), image->header.width) < 0;
}

static void swap_entries(const gw_table_image *image, size_t a, size_t b) {
  uint32_t key[GW_TABLE_WORDS];
  uint64_t facts = image->facts[a];
  memcpy(key, gw_table_key_at(image, a), image->header.width);
  memcpy(gw_table_key_at(image, a), gw_table_key_at(image, b), image->header.width);
  memcpy(gw_table_key_at(image, b), key, image->header.width);
  image->facts[a] = image->facts[b];
  image->facts[b] = facts;
}

static void sift_down(const gw_table_image *image, size_t begin, size_t root, size_t count) {
  for (size_t child = 2 * root + 1; child < count; root = child, child = 2 * root + 1) {
    if (child + 1 < count && comes_before(image, begin + child, begin + child + 1)) {
      child++;
    }
    if (!comes_before(image, begin + root, begin + child)) {
      return;
    }
    swap_entries(image, begin + root, begin + child);
  }
}

static void sort_bucket(const gw_table_image *image, size_t begin, size_t end) {
  size_t count = end - begin;
  if (count <= GW_TABLE_SCAN_AT_MOST) {
    for (size_t i = begin + 1; i < end; i++) {
      for (size_t j = i; j > begin && comes_before(image, j, j - 1); j--) {
        swap_entries(image, j, j - 1);
      }
    }
    return;
  }
  for (size_t root = count / 2; root-- > 0;) {
    sift_down(image, begin, root, count);
  }
  for (size_t last = count - 1; last > 0; last--) {
    swap_entries(image, begin, begin + last);
    sift_down(image, begin, 0, last);
  }
}

/* merge_duplicates closes the gaps: of equal neighbours the one with the earliest date stays. Returns the new end. */
static size_t merge_duplicates(const gw_table_image *image, size_t begin, size_t end, size_t kept) {
  size_t first = kept;
  for (size_t i = begin; i < end; i++) {
    if (kept > first && gw_table_same_key(gw_table_key_at(image, kept - 1), gw_table_key_at(image, i), image->words)) {
      uint64_t *facts = &image->facts[kept - 1];
      *facts = image->facts[i] < *facts ? image->facts[i] : *facts;
    } else {
      if (kept != i) {
        memcpy(gw_table_key_at(image, kept), gw_table_key_at(image, i), image->header.width);
        image->facts[kept] = image->facts[i];
      }
      kept++;
    }
  }
  return kept;
}

static void sort_keys(gw_table_image *image) {
  size_t begin = 0, kept = 0, buckets = gw_table_buckets(&image->header);
  for (size_t bucket = 0; bucket < buckets; bucket++) {
    size_t end = image->directory[bucket];
    sort_bucket(image, begin, end);
    image->directory[bucket] = (uint32_t)kept;
    kept = merge_duplicates(image, begin, end, kept);
    begin = end;
  }
  image->directory[buckets] = (uint32_t)kept;
  image->header.hot_count = (uint32_t)kept;
}

static int compare_records(const void *a, const void *b, void *image_of_both) {
  const gw_table_long *other = b;
  const gw_table_image *image = image_of_both;
  return gw_table_compare_long(image, a, gw_table_long_at(image, other), other->length);
}

static void sort_long(gw_table_image *image) {
  size_t kept = 0;
  qsort_r(image->long_index, image->header.long_count, sizeof *image->long_index, compare_records, image);
  for (size_t i = 0; i < image->header.long_count; i++) {
    gw_table_long *record = &image->long_index[i], *last = &image->long_index[kept - (kept > 0)];
    if (kept > 0 && compare_records(record, last, image) == 0) {
      last->facts = record->facts < last->facts ? record->facts : last->facts;
    } else {
      image->long_index[kept++] = *record;
    }
  }
  image->header.long_count = (uint32_t)kept;
}

/* close_gaps moves the parts down to where the counts without duplicates put them. */
static void close_gaps(gw_table_image *image) {
  gw_table_layout old = image->layout;
  const gw_table_header *header = &image->header;
  if (!gw_table_lay_out(header, &image->layout)) {
    abort(); /* the counts only shrank */
  }
  uint8_t *map = image->map;
  memmove(map + image->layout.facts, map + old.facts, header->hot_count * sizeof(uint64_t));
  memmove(map + image->layout.long_index, map + old.long_index, header->long_count * sizeof(gw_table_long));
  memmove(map + image->layout.long_octets, map + old.long_octets, header->long_octets);
  gw_table_place(image, map);
}

/* append copies |length| bytes, of which there may be none anywhere, and returns the place behind them. */
static uint8_t *append(uint8_t *at, const uint8_t *bytes, size_t length) {
  if (length > 0) {
    memcpy(at, bytes, length);
  }
  return at + length;
}

/* write_header comes last: a file that was left half written has no magic. */
static void write_header(gw_table_image *image, const gw_table_meta *meta) {
  uint8_t *at = image->map + sizeof image->header;
  at = append(at, meta->issuer_name, meta->issuer_name_length);
  at = append(at, meta->issuer_key, meta->issuer_key_length);
  at = append(at, meta->signature, meta->signature_length);
  (void)append(at, meta->number, meta->number_length);
  image->header.body_checksum = gw_table_body_checksum(image->map, &image->layout);
  memcpy(image->map, &image->header, sizeof image->header);
  image->header.header_checksum = gw_table_header_checksum(image->map, &image->layout);
  memcpy(image->map, &image->header, sizeof image->header);
}

static int take_meta(const gw_table_meta *meta, gw_table_header *header, gw_error *error) {
  if (meta->issuer_name_length > GW_TABLE_LARGEST_BLOB || meta->issuer_key_length > GW_TABLE_LARGEST_BLOB ||
      meta->signature_length > GW_TABLE_LARGEST_BLOB || meta->number_length > GW_TABLE_LARGEST_BLOB) {
    return gw_fail(error, "issuer name, key, signature or CRL number is longer than %d bytes", GW_TABLE_LARGEST_BLOB);
  }
  *header = (gw_table_header){.format = GW_TABLE_FORMAT,
                              .this_update = meta->this_update,
                              .next_update = meta->next_update,
                              .name_length = (uint32_t)meta->issuer_name_length,
                              .key_length = (uint32_t)meta->issuer_key_length,
                              .signature_length = (uint32_t)meta->signature_length,
                              .number_length = (uint32_t)meta->number_length};
  memcpy(header->magic, GW_TABLE_MAGIC, sizeof header->magic);
  return 1;
}

/* map_output gives the file its full length and maps it. The blocks are taken
 * beforehand: a full disk is then an error here, not a SIGBUS in the middle. */
static void *map_output(int fd, size_t length, gw_error *error) {
  struct stat status;
  int failed;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size != 0) {
    gw_fail(error, "the output is not an empty regular file");
    return NULL;
  }
  do {
    failed = posix_fallocate(fd, 0, (off_t)length);
  } while (failed == EINTR);
  if (failed != 0) {
    gw_fail(error, "cannot make the table of %zu bytes: %s", length, strerror(failed));
    return NULL;
  }
  void *map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) {
    gw_fail(error, "cannot map the table of %zu bytes: %s", length, strerror(errno));
    return NULL;
  }
  return map;
}

/* fill writes the whole table into the zeroed map of |image|. */
static void fill(gw_table_image *image, const uint8_t *entries, size_t length, const gw_table_meta *meta) {
  uint32_t hot_count = image->header.hot_count, long_count = image->header.long_count;
  count_keys(image, entries, length);
  place_keys(image, entries, length);
  place_long(image, entries, length);
  sort_keys(image);
  sort_long(image);
  if (image->header.hot_count != hot_count || image->header.long_count != long_count) {
    close_gaps(image);
  }
  write_header(image, meta);
}

int gw_table_compile(const uint8_t *der, size_t length, const gw_crl_parts *parts, const gw_table_meta *meta, int fd,
                     uint64_t *count, gw_error *error) {
  gw_table_image image;
  gw_error cause;
  if (parts->total_length != length) {
    return gw_fail(error, "the parts are of another list");
  }
  const uint8_t *entries = der + parts->entries_at;
  if (!take_meta(meta, &image.header, error)) {
    return 0;
  }
  if (!measure(entries, parts->entries_length, &image.header, &cause)) {
    return gw_fail(error, "revokedCertificates (from byte %zu of the list): %.180s", parts->entries_at, cause.text);
  }
  if (!gw_table_lay_out(&image.header, &image.layout)) {
    return gw_fail(error, "too many octets of serial numbers for one table");
  }
  size_t mapped = image.layout.total;
  void *map = map_output(fd, mapped, error);
  if (map == NULL) {
    return 0;
  }
  gw_table_place(&image, map);
  fill(&image, entries, parts->entries_length, meta);
  *count = (uint64_t)image.header.hot_count + image.header.long_count;
  if (munmap(map, mapped) != 0 || (image.layout.total < mapped && ftruncate(fd, (off_t)image.layout.total) != 0)) {
    return gw_fail(error, "cannot finish the table: %s", strerror(errno));
  }
  return 1;
}
