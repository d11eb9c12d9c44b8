/* table_compile.c - from the DER of a verified CRL to a revocation table: count, then put each serial into its slot.
 *
 * Two walks over the entries. The first checks everything; the DER must not change until the second is done. The
 * table is made in memory and written at the end. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "revoked.h"
#include "table_file.h"

/* measure reads all entries once, so that the second walk cannot fail. */
static int measure(const uint8_t *entries, size_t length, gw_table_header *header, gw_error *error) {
  size_t position = 0;
  gw_crl_entry entry;
  while (gw_crl_next_entry(entries, length, &position, &entry, error)) {
    gw_table_trim(&entry.serial, &entry.serial_length);
    header->long_octets += entry.serial_length > GW_TABLE_SHORT ? entry.serial_length : 0;
    header->count++;
  }
  header->slots = header->count * 3 / 2 + 8;
  return position == length;
}

/* put_serial writes a serial to |record|; |*taken| of the long octets are. */
static void put_serial(gw_table_image *image, gw_table_record *record, const gw_crl_entry *entry, uint64_t *taken) {
  uint64_t length = entry->serial_length;
  if (length <= GW_TABLE_SHORT) {
    record->length = (uint8_t)length;
    memcpy(record->octets, entry->serial, length);
    return;
  }
  record->length = GW_TABLE_SHORT + 1;
  memcpy(record->octets, taken, sizeof *taken);
  memcpy(record->octets + sizeof *taken, &length, sizeof length);
  memcpy(image->map + image->long_octets + *taken, entry->serial, length);
  *taken += length;
}

/* put adds |entry|, or gives the same serial that is there the earlier date. Returns 1, or 0 when there is no slot. */
static int put(gw_table_image *image, gw_crl_entry *entry, uint64_t *taken) {
  size_t slot, slots = image->header.slots;
  uint64_t facts = (uint64_t)(entry->revocation_date - GW_TABLE_FIRST_DATE) << 4 | (uint64_t)(entry->reason + 1);
  gw_table_trim(&entry->serial, &entry->serial_length);
  uint64_t hash = gw_table_digest(entry->serial, entry->serial_length, image->header.seed);
  int known = gw_table_seek(image, entry->serial, entry->serial_length, hash, &slot);
  if (slot == slots) {
    return 0;
  }
  gw_table_record *record = gw_table_record_at(image, slot);
  if (!known) {
    uint8_t *tags = image->map + image->tags;
    put_serial(image, record, entry, taken);
    tags[slot] = gw_table_tag(hash);
    memcpy(tags + slots, tags, 8);
    gw_table_order(image)[image->header.count++] = (uint32_t)slot;
  }
  record->facts = known && record->facts < facts ? record->facts : facts;
  return 1;
}

/* complete writes the header, what |meta| says, and the checksums. */
static void complete(gw_table_image *image, const gw_table_meta *meta) {
  const uint8_t *blobs[] = {meta->issuer_name, meta->issuer_key, meta->signature, meta->number};
  uint8_t *at = image->map + sizeof image->header;
  for (size_t i = 0; i < 4; at += image->header.blob_lengths[i++]) {
    if (image->header.blob_lengths[i] > 0) { /* of nothing there may be no pointer */
      memcpy(at, blobs[i], image->header.blob_lengths[i]);
    }
  }
  gw_table_header *header = (gw_table_header *)(void *)image->map;
  image->header.body_checksum = gw_table_body_checksum(image);
  *header = image->header;
  header->header_checksum = gw_table_header_checksum(image);
}

static int write_file(int fd, const uint8_t *bytes, size_t length, gw_error *error) {
  for (size_t done = 0; done < length;) {
    ssize_t written = pwrite(fd, bytes + done, length - done, (off_t)done);
    if (written < 0 && errno != EINTR) {
      return gw_fail(error, "cannot make the table of %zu bytes: %s", length, strerror(errno));
    }
    done += written > 0 ? (size_t)written : 0;
  }
  return 1;
}

/* fill puts all entries into the zeroed map of |image|. */
static int fill(gw_table_image *image, const uint8_t *entries, size_t length, gw_error *error) {
  size_t position = 0;
  uint64_t taken = 0;
  gw_crl_entry entry;
  image->header.count = 0; /* and up again, without duplicates */
  while (gw_crl_next_entry(entries, length, &position, &entry, NULL)) {
    if (!put(image, &entry, &taken)) {
      return gw_fail(error, "serial numbers that were chosen to have one hash");
    }
  }
  (void)gw_table_lay_out(image); /* the order, the last part, is shorter without duplicates */
  return 1;
}

/* begin makes a header with what is known before the entries are read. */
static int begin(const gw_table_meta *meta, gw_table_header *header, gw_error *error) {
  const size_t lengths[] = {meta->issuer_name_length, meta->issuer_key_length, meta->signature_length,
                            meta->number_length};
  *header = (gw_table_header){.format = GW_TABLE_FORMAT,
                              .this_update = meta->this_update,
                              .next_update = meta->next_update,
                              .seed = gw_table_digest(meta->signature, meta->signature_length, 1)};
  memcpy(header->magic, GW_TABLE_MAGIC, sizeof header->magic);
  for (size_t i = 0; i < 4; i++) {
    if (lengths[i] > GW_TABLE_LARGEST_BLOB) {
      return gw_fail(error, "issuer name, key, signature or CRL number is longer than %d bytes", GW_TABLE_LARGEST_BLOB);
    }
    header->blob_lengths[i] = (uint32_t)lengths[i];
  }
  return 1;
}

int gw_table_compile(const uint8_t *der, size_t length, const gw_crl_parts *parts, const gw_table_meta *meta, int fd,
                     uint64_t *count, gw_error *error) {
  const uint8_t *entries = der + parts->entries_at;
  gw_table_image image;
  struct stat status;
  gw_error cause;
  if (parts->total_length != length) {
    return gw_fail(error, "the parts are of another list");
  }
  if (!begin(meta, &image.header, error)) {
    return 0;
  }
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size != 0) {
    return gw_fail(error, "the output is not an empty regular file");
  }
  if (!measure(entries, parts->entries_length, &image.header, &cause)) {
    return gw_fail(error, "revokedCertificates (from byte %zu of the list): %.180s", parts->entries_at, cause.text);
  }
  size_t mapped = gw_table_lay_out(&image) ? image.total : 0;
  image.map = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (image.map == MAP_FAILED) { /* of no bytes as well */
    return gw_fail(error, "no memory for a table of %llu serial numbers", (unsigned long long)image.header.count);
  }
  (void)madvise(image.map, mapped, MADV_HUGEPAGE); /* advice: serials go to memory at random */
  int good = fill(&image, entries, parts->entries_length, error);
  if (good) {
    complete(&image, meta);
    good = write_file(fd, image.map, image.total, error);
  }
  *count = image.header.count;
  (void)munmap(image.map, mapped); /* cannot fail: exactly what was mapped */
  return good;
}
