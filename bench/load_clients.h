/* load_clients.h - many client certificates with their keys. */
#ifndef LOAD_CLIENTS_H
#define LOAD_CLIENTS_H

#include <openssl/ssl.h>
#include <stddef.h>

typedef struct {
  EVP_PKEY *key;
  X509 *cert;
} client;

typedef struct {
  client *list;
  size_t count;
  size_t room;
} client_set;

/* client_set_load adds what the PEM file |path| holds, pair by pair: a private
 * key, then its certificate. Returns 1, or 0 with a message on stderr; the set
 * is to be cleaned up either way. */
int client_set_load(client_set *set, const char *path);

/* client_set_cleanup releases keys and certificates; an SSL that uses some has references of its own. */
void client_set_cleanup(client_set *set);

#endif
