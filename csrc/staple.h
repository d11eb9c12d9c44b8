/* staple.h - the OCSP responses of server certificates (RFC 6066, section 8).
 *
 * One slot for each certificate of an SSL_CTX. Python fills it with responses that it has verified;
 * the status callback copies the one in force into the handshake, and none once
 * it has expired. */
#ifndef GW_STAPLE_H
#define GW_STAPLE_H

#include <stdint.h>

typedef struct gw_staple gw_staple;

/* gw_staple_new makes an empty slot for the certificate |x509|, a pointer that the SSL_CTX has, or NULL. |next| is the
 * slot of another of its certificates, or NULL. gw_staple_free releases it: only when no SSL_CTX that it, or one before
 * it, was attached to is used any more. |counters|, |x509| and |next| are borrowed, |counters| may be NULL. */
gw_staple *gw_staple_new(uint64_t *counters, const void *x509, gw_staple *next);
void gw_staple_free(gw_staple *staple);

/* gw_staple_set puts |der| (borrowed until the next call, or for as long as the slot lives) in force until |expires|
 * (seconds since 1970, UTC), or empties the slot where |length| is 0. When it returns, nobody reads the one before any
 * more. Thread-safe. */
void gw_staple_set(gw_staple *staple, const uint8_t *der, int length, int64_t expires);

/* gw_staple_attach makes |ssl_ctx| staple from this slot and those after it, which it borrows: from that of the
 * certificate which the client is shown, and from no other. 1, or 0 when OpenSSL refused. */
int gw_staple_attach(gw_staple *staple, void *ssl_ctx);

#endif
