#include "staple.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "counters.h"
#include "openssl_table.h"

struct gw_staple {
  uint64_t *counters;
  const void *x509;
  gw_staple *next;
  pthread_mutex_t lock; /* of all below it */
  const uint8_t *der;   /* borrowed */
  int length;
  int64_t expires;
};

gw_staple *gw_staple_new(uint64_t *counters, const void *x509, gw_staple *next) {
  gw_staple *staple = calloc(1, sizeof *staple);
  if (staple != NULL) {
    *staple =
        (gw_staple){.counters = counters, .x509 = x509, .next = next, .lock = PTHREAD_MUTEX_INITIALIZER};
  }
  return staple;
}

void gw_staple_free(gw_staple *staple) {
  if (staple == NULL) return;
  (void)pthread_mutex_destroy(&staple->lock);
  free(staple);
}

void gw_staple_set(gw_staple *staple, const uint8_t *der, int length, int64_t expires) {
  (void)pthread_mutex_lock(&staple->lock);
  staple->der = der;
  staple->length = length;
  staple->expires = expires;
  (void)pthread_mutex_unlock(&staple->lock);
}

/* Called when a client has asked for a status (RFC 6066, section 8) and the certificate has been chosen. OpenSSL owns
 * what it is given: a copy. */
static int on_status(SSL *ssl, void *argument) {
  gw_staple *staple = argument;
  const X509 *chosen = gw_openssl.SSL_get_certificate(ssl);
  while (staple != NULL && staple->x509 != chosen) staple = staple->next;
  if (staple == NULL) return GW_SSL_TLSEXT_ERR_NOACK;
  unsigned char *copy = NULL;
  int given = 0;
  (void)pthread_mutex_lock(&staple->lock);
  if (staple->length > 0 && time(NULL) < staple->expires) copy = gw_openssl.OPENSSL_malloc((size_t)staple->length);
  if (copy != NULL) {
    memcpy(copy, staple->der, (size_t)staple->length);
    given = gw_openssl.SSL_set_tlsext_status_ocsp_resp(ssl, copy, staple->length) == 1;
  }
  (void)pthread_mutex_unlock(&staple->lock);
  if (!given) {
    gw_openssl.OPENSSL_free(copy);
    return GW_SSL_TLSEXT_ERR_NOACK;
  }
  gw_count(staple->counters, GW_COUNT_STAPLED, 1);
  return GW_SSL_TLSEXT_ERR_OK;
}

int gw_staple_attach(gw_staple *staple, void *ssl_ctx) {
  return gw_openssl.SSL_CTX_set_tlsext_status_cb(ssl_ctx, on_status) == 1 &&
         gw_openssl.SSL_CTX_set_tlsext_status_arg(ssl_ctx, staple) == 1;
}
