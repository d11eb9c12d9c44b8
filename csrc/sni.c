#include "sni.h"

#include <stdlib.h>
#include <string.h>

#include "openssl_table.h"

enum { LONGEST = 255 }; /* of a name in DNS (RFC 1035, section 2.3.4), and of what OpenSSL lets through */

static int compare(const void *host, const void *entry) { return strcmp(host, ((const gw_sni_name *)entry)->name); }

static const gw_sni_name *look_up(const gw_sni *sni, const char *name) {
  return bsearch(name, sni->names, sni->count, sizeof *sni->names, compare);
}

void *gw_sni_find(const gw_sni *sni, const char *host) {
  char name[LONGEST + 1];
  size_t length = strlen(host);
  if (length == 0 || length > LONGEST) return NULL;
  for (size_t i = 0; i <= length; i++) {
    name[i] = (char)(host[i] >= 'A' && host[i] <= 'Z' ? host[i] | 0x20 : host[i]); /* not tolower: no locale here */
  }
  if (name[length - 1] == '.') name[length - 1] = '\0';
  const gw_sni_name *found = look_up(sni, name);
  char *rest = strchr(name, '.');
  if (found == NULL && rest != NULL && rest > name) {
    rest[-1] = '*'; /* in place of the first label, whose end is enough */
    found = look_up(sni, rest - 1);
  }
  return found == NULL ? NULL : found->ssl_ctx;
}

/* Told that OpenSSL takes notice of the name, which it then acknowledges (RFC 6066, section 3). */
static int on_name(SSL *ssl, int *alert, void *argument) {
  (void)ssl;
  (void)alert;
  (void)argument;
  return GW_SSL_TLSEXT_ERR_OK;
}

/* Called in full handshakes before a certificate is chosen. The servername callback would do, but the binding has no
 * function to give that an argument. */
static int on_certificate(SSL *ssl, void *argument) {
  const char *host = gw_openssl.SSL_get_servername(ssl, GW_TLSEXT_NAMETYPE_host_name);
  SSL_CTX *context = host == NULL ? NULL : gw_sni_find(argument, host);
  return context == NULL || gw_openssl.SSL_set_SSL_CTX(ssl, context) != NULL;
}

void gw_sni_attach(const gw_sni *sni, void *ssl_ctx) {
  gw_openssl.SSL_CTX_set_tlsext_servername_callback(ssl_ctx, on_name);
  gw_openssl.SSL_CTX_set_cert_cb(ssl_ctx, on_certificate, (void *)sni);
}
