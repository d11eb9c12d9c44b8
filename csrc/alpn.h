/* alpn.h - the protocol that a listener and its client agree upon (RFC 7301, section 3.2). */
#ifndef GW_ALPN_H
#define GW_ALPN_H

#include <stdint.h>

#include "openssl_table.h"

/* gw_alpn_select is OpenSSL's callback for a client that offers protocols: |offered|, of |length| octets, is a
 * ProtocolNameList that OpenSSL has found to be well-formed. |own| is the listener's, the best first, with a zero behind
 * its last: each is a length and so many octets. Selects the first of |own| that is offered: |*selected|, inside |own|,
 * and |*selected_length|. Returns SSL_TLSEXT_ERR_OK, or SSL_TLSEXT_ERR_ALERT_FATAL where there is none: OpenSSL then
 * sends the alert no_application_protocol. |ssl| is not looked at. */
int gw_alpn_select(SSL *ssl, uint8_t **selected, uint8_t *selected_length, uint8_t *offered, unsigned int length,
                   void *own);

/* gw_alpn_attach makes |ssl_ctx| select from |own|, which it borrows. */
void gw_alpn_attach(void *ssl_ctx, uint8_t *own);

#endif
