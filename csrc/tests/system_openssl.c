#include "system_openssl.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <string.h>

#include "../openssl_table.h"
#include "check.h"

/* Macros of OpenSSL's headers get a function each, since a macro has no address. */
static void *gw_test_malloc(size_t size) { return CRYPTO_malloc(size, __FILE__, __LINE__); }
static void gw_test_free(void *memory) { CRYPTO_free(memory, __FILE__, __LINE__); }
static long gw_test_get_mem_data(BIO *bio, char **data) { return BIO_ctrl(bio, BIO_CTRL_INFO, 0, data); }
static long gw_test_status_cb(SSL_CTX *ctx, int (*callback)(SSL *, void *)) {
  return SSL_CTX_set_tlsext_status_cb(ctx, callback);
}
static long gw_test_status_arg(SSL_CTX *ctx, void *argument) {
  return SSL_CTX_set_tlsext_status_arg(ctx, argument);
}
static long gw_test_status_response(SSL *ssl, unsigned char *response, int length) {
  return SSL_set_tlsext_status_ocsp_resp(ssl, response, length);
}
static void gw_test_servername_cb(SSL_CTX *ctx, int (*callback)(SSL *, int *, void *)) {
  (void)SSL_CTX_set_tlsext_servername_callback(ctx, callback);
}

#undef OPENSSL_malloc
#undef OPENSSL_free
#undef BIO_get_mem_data
#undef SSL_CTX_set_tlsext_status_cb
#undef SSL_CTX_set_tlsext_status_arg
#undef SSL_set_tlsext_status_ocsp_resp
#undef SSL_CTX_set_tlsext_servername_callback
#define OPENSSL_malloc gw_test_malloc
#define OPENSSL_free gw_test_free
#define BIO_get_mem_data gw_test_get_mem_data
#define SSL_CTX_set_tlsext_status_cb gw_test_status_cb
#define SSL_CTX_set_tlsext_status_arg gw_test_status_arg
#define SSL_set_tlsext_status_ocsp_resp gw_test_status_response
#define SSL_CTX_set_tlsext_servername_callback gw_test_servername_cb

void use_system_openssl(void) {
  const gw_openssl_slot *slot = gw_openssl_slots;
#define GW_FILL(name, result, parameters)                 \
  do {                                                    \
    __typeof__(&name) function = &name;                   \
    memcpy(slot++->address, &function, sizeof function);  \
  } while (0);
  GW_OPENSSL_FUNCTIONS(GW_FILL)
#undef GW_FILL
  CHECK(slot->name == NULL);
}
