#include "alpn.h"

#include <string.h>

int gw_alpn_select(SSL *ssl, uint8_t **selected, uint8_t *selected_length, uint8_t *offered, unsigned int length,
                   void *own) {
  (void)ssl;
  for (uint8_t *name = own; *name != 0; name += 1 + *name) {
    for (unsigned int at = 0; at + *name < length; at += 1u + offered[at]) {
      if (memcmp(offered + at, name, 1u + *name) == 0) {
        *selected = name + 1;
        *selected_length = *name;
        return GW_SSL_TLSEXT_ERR_OK;
      }
    }
  }
  return GW_SSL_TLSEXT_ERR_ALERT_FATAL;
}

void gw_alpn_attach(void *ssl_ctx, uint8_t *own) {
  gw_openssl.SSL_CTX_set_alpn_select_cb(ssl_ctx, gw_alpn_select, own);
}
