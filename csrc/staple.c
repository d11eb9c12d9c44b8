#include "staple.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "counters.h"
#include "openssl_table.h"

struct gw_staple {
  pthread_mutex_t lock; /* of all below it */
  uint8_t *der;         /* owned; NULL for none */
  size_t length;
  int64_t expires;
  uint64_t *counters;
};

gw_staple *gw_staple_new(uint64_t *counters) {
  gw_staple *staple = calloc(1, sizeof *staple);
  if (staple != NULL && pthread_mutex_init(&staple->lock, NULL) != 0) {
    free(staple);
    return NULL;
  }
  if (staple != NULL) {
    staple->counters = counters;
  }
  return staple;
}

void gw_staple_free(gw_staple *staple) {
  if (staple != NULL) {
    pthread_mutex_destroy(&staple->lock);
    free(staple->der);
    free(staple);
  }
}

int gw_staple_set(gw_staple *staple, const uint8_t *der, size_t length, int64_t expires) {
  uint8_t *copy = NULL;
  if (length > INT_MAX) { /* OpenSSL counts it in an int */
    return 0;
  }
  if (length > 0) {
    copy = malloc(length);
    if (copy == NULL) {
      return 0;
    }
    memcpy(copy, der, length);
  }
  pthread_mutex_lock(&staple->lock);
  uint8_t *old = staple->der;
  staple->der = copy;
  staple->length = length;
  staple->expires = expires;
  pthread_mutex_unlock(&staple->lock);
  free(old);
  return 1;
}

/* A copy that OpenSSL may own, or NULL when there is none to staple now. */
static unsigned char *copy_for_openssl(gw_staple *staple, size_t *length) {
  unsigned char *copy = NULL;
  pthread_mutex_lock(&staple->lock);
  if (staple->der != NULL && time(NULL) < staple->expires) {
    *length = staple->length;
    copy = gw_openssl.OPENSSL_malloc(staple->length);
    if (copy != NULL) {
      memcpy(copy, staple->der, staple->length);
    }
  }
  pthread_mutex_unlock(&staple->lock);
  return copy;
}

/* Called when a client has asked for a status (RFC 6066, section 8). */
static int on_status(SSL *ssl, void *argument) {
  gw_staple *staple = argument;
  size_t length = 0;
  unsigned char *copy = copy_for_openssl(staple, &length);
  if (copy == NULL) {
    return GW_SSL_TLSEXT_ERR_NOACK;
  }
  if (gw_openssl.SSL_set_tlsext_status_ocsp_resp(ssl, copy, (int)length) != 1) {
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
