/* table_compile.c - from the entries of a verified CRL to a revocation table: a record for each serial. Nothing is
 * allocated or written here but the table that the caller has room for. */
#include "table_file.h"

/* begin makes a header of |meta|, without what follows from the entries. */
static gw_table_header begin(const gw_table_meta *meta) {
  gw_table_header header = {
      .format = GW_TABLE_FORMAT, .this_update = meta->this_update, .next_update = meta->next_update,
      .seed = gw_table_digest(meta->signature, meta->signature_length, 1),
      .blob_lengths = {meta->issuer_name_length, meta->issuer_key_length, meta->signature_length, meta->number_length}};
  memcpy(header.magic, GW_TABLE_MAGIC, sizeof header.magic);
  return header;
}

size_t gw_table_size(const uint8_t *entries, size_t length, const gw_table_meta *meta, gw_error *error) {
  gw_table_image image = {.header = begin(meta)};
  size_t position = 0, pieces = 0;
  gw_crl_entry entry;
  while (gw_crl_next_entry(entries, length, &position, &entry, error)) {
    if (entry.issuer_end > 0 && !meta->indirect) {
      gw_fail(error, "byte %zu of revokedCertificates: certificateIssuer before it, in a list that is not indirect",
              position);
      return 0;
    }
    pieces += (entry.serial_length - 1) / sizeof((gw_table_record *)0)->octets + 1;
  }
  if (position < length) return 0;
  image.header.groups = pieces * 3 / 2 / GW_TABLE_GROUP + 1;
  if (!gw_table_lay_out(&image)) {
    gw_fail(error, "too many serials, or issuer name, key, signature or CRL number longer than %d bytes",
            GW_TABLE_LARGEST_BLOB);
    return 0;
  }
  return image.total;
}

/* Whether an entry takes an earlier one back, as in a delta. */
static int removes(uint64_t facts) { return (facts & 0xf) == GW_REMOVE_FROM_CRL + 2; }

/* fill gives each serial its record, with the earliest of its dates; revoked weighs more than taken back. */
static int fill(gw_table_image *image, const uint8_t *entries, size_t length, gw_error *error) {
  size_t position = 0;
  gw_crl_entry entry;
  while (gw_crl_next_entry(entries, length, &position, &entry, error)) {
    int made = 0;
    gw_table_record *record = gw_table_reach(image, entry.serial, entry.serial_length, &made);
    if (record == NULL) return gw_fail(error, "serial numbers that were chosen to have one hash");
    uint64_t facts = (uint64_t)(entry.revocation_date - GW_TABLE_FIRST_DATE) << 4 | (uint64_t)(entry.reason + 2);
    int first = made || record->facts == 0; /* what was made is not read: it is on its way to memory */
    image->header.count += (uint64_t)first;
    int alike = first || removes(facts) == removes(record->facts);
    if (first || (alike ? facts < record->facts : removes(record->facts))) record->facts = facts;
  }
  return position == length;
}

int gw_table_compile(const uint8_t *entries, size_t length, const gw_table_meta *meta, uint8_t *table, size_t size,
                     uint64_t *count, gw_error *error) {
  const uint8_t *blobs[] = {meta->issuer_name, meta->issuer_key, meta->signature, meta->number};
  gw_table_image image = {.header = begin(meta), .map = table};
  const uint64_t *lengths = image.header.blob_lengths;
  size_t around = sizeof image.header + lengths[0] + lengths[1] + lengths[2] + lengths[3];
  image.header.groups = size < around ? 0 : (size - around) / (GW_TABLE_GROUP * sizeof(gw_table_record) + 8);
  if (!gw_table_lay_out(&image) || image.total != size) {
    return gw_fail(error, "a table of these entries has not %zu bytes", size);
  }
  if (!fill(&image, entries, length, error)) return 0;
  uint8_t *at = table + image.blobs_at;
  for (size_t i = 0; i < 4; at += lengths[i++]) {
    if (lengths[i] > 0) memcpy(at, blobs[i], lengths[i]); /* of nothing there may be no pointer */
  }
  image.header.body_checksum = gw_table_body_checksum(&image);
  image.header.header_checksum = gw_table_header_checksum(&image);
  memcpy(table, &image.header, sizeof image.header);
  *count = image.header.count;
  return 1;
}
