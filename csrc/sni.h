/* sni.h - which certificates a client is shown, by the name that it asks for (RFC 6066, section 3).
 *
 * A listener has an SSL_CTX for each set of certificates, one of which its SSLs
 * are made from. A full handshake goes on with the one of the name; a resumed one
 * shows no certificate. Tickets, the verify callback and its mode stay those of
 * the first, so a session resumes whatever name it was made with: all contexts of
 * a listener trust the same CAs, and no other listener's does. */
#ifndef GW_SNI_H
#define GW_SNI_H

#include <stddef.h>

/* A name in lower case, without a dot at its end. "*.example.com" is for every name that has one label more than
 * example.com (RFC 9525, section 6.3), unless it stands there itself. */
typedef struct {
  const char *name;
  void *ssl_ctx;
} gw_sni_name;

/* The names of one listener, sorted by strcmp, each once, at least one. Everything is borrowed. */
typedef struct {
  const gw_sni_name *names;
  size_t count;
} gw_sni;

/* gw_sni_find returns the context for |host|, in any case and maybe with a dot at its end; NULL where there is none. */
void *gw_sni_find(const gw_sni *sni, const char *host);

/* gw_sni_attach makes the handshakes of SSLs of |ssl_ctx| go on with the context of the name that the client asks for,
 * if there is one. |sni|, its names and contexts have to live as long as such handshakes. */
void gw_sni_attach(const gw_sni *sni, void *ssl_ctx);

#endif
