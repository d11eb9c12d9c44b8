/* staple.h - the OCSP response of one server certificate (RFC 6066, section 8).
 *
 * One slot a certificate. Python fills it with responses that it has verified;
 * the status callback copies the one in force into the handshake, and none once
 * it has expired. */
#ifndef GW_STAPLE_H
#define GW_STAPLE_H

#include <stdint.h>

typedef struct gw_staple gw_staple;

/* gw_staple_new makes an empty slot, or NULL. gw_staple_free releases it: only
 * when no SSL_CTX that it was attached to is used any more. |counters| is borrowed, may be NULL. */
gw_staple *gw_staple_new(uint64_t *counters);
void gw_staple_free(gw_staple *staple);

/* gw_staple_set puts |der| (borrowed until the next call, or for as long as the slot lives) in force until |expires|
 * (seconds since 1970, UTC), or empties the slot where |length| is 0. When it returns, nobody reads the one before any
 * more. Thread-safe. */
void gw_staple_set(gw_staple *staple, const uint8_t *der, int length, int64_t expires);

/* gw_staple_attach makes |ssl_ctx| staple from this slot, which it borrows. 1, or 0 when OpenSSL refused. */
int gw_staple_attach(gw_staple *staple, void *ssl_ctx);

#endif
