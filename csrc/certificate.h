/* certificate.h - what a certificate says that its revocation depends on (RFC 5280, sections 4.1 and 4.2.1.13), and its
 * usage.
 *
 * Foreign bytes: every function here is safe on any input, allocates nothing, and what it finds borrows from the DER. */
#ifndef GW_CERTIFICATE_H
#define GW_CERTIFICATE_H

#include <stddef.h>
#include <stdint.h>

#include "der.h"

typedef struct {
  gw_der serial;               /* content of serialNumber */
  gw_der issuer, subject, key; /* whole elements: two Names and the SubjectPublicKeyInfo, which follows the subject */
  gw_der points;               /* content of CRLDistributionPoints; empty where there is none */
  gw_der usages;               /* content of ExtKeyUsageSyntax; empty where there is none */
  int is_ca;                   /* basicConstraints with cA TRUE */
} gw_certificate;

/* gw_certificate_read finds the parts of the certificate in |der|. Returns 1, or 0 where it is not in DER: what it says
 * of revocation is not known then, and it must not be used. */
int gw_certificate_read(const uint8_t *der, size_t length, gw_certificate *certificate);

/* gw_certificate_is_for tells whether extendedKeyUsage (section 4.2.1.12) names all of |usages|: OBJECT IDENTIFIERs, one
 * behind the other. */
int gw_certificate_is_for(const gw_certificate *certificate, const uint8_t *usages, size_t length);

/* The reason codes of ReasonFlags, a bit each: keyCompromise (1) to aACompromise (8). */
enum { GW_ALL_REASONS = 0x1fe, GW_MOST_POINTS = 32 };

/* Where the revocation of a certificate is told: a list that says so much of itself covers it. */
typedef struct {
  uint64_t crl_issuer; /* digest of the name of who signs the list, where the point names one; else 0: the issuer does */
  uint64_t name;       /* digest of a name of the distribution point */
  uint32_t reasons;    /* for which the list may be asked */
} gw_point;

/* gw_certificate_points writes the distribution points of |certificate| to |points|, which has |room|: one for each
 * name and each cRLIssuer of theirs, and behind them the one that RFC 5280, section 6.3.3, has us assume, of the name
 * of the certificate's issuer. Returns how many, or 0: not in DER, or too many; the certificate must not be used. */
size_t gw_certificate_points(const gw_certificate *certificate, gw_point *points, size_t room);

/* gw_name_digest gives the digest, never 0, of a GeneralName: of the |content| behind its |tag|; of a directoryName
 * (tag A4) the content of the RDNSequence. Equal are those with the same octets. */
uint64_t gw_name_digest(uint8_t tag, const uint8_t *content, size_t length);

#endif
