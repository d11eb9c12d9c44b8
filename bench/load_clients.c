/* load_clients.c - read once, used by reference in every handshake.
 *
 * Keys are decoded with one decoder for all: PEM_read_bio_PrivateKey collects
 * every decoder that OpenSSL has for each key, which makes five thousand of
 * them a matter of seconds. */
#include "load_clients.h"

#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_ROOM = 64 };

static int complain(const char *path, size_t number, const char *what) {
  fprintf(stderr, "load: %s: client %zu: %s\n", path, number + 1, what);
  ERR_print_errors_fp(stderr);
  return 0;
}

static int make_room(client_set *set) {
  if (set->count < set->room) {
    return 1;
  }
  size_t room = set->room == 0 ? FIRST_ROOM : 2 * set->room;
  client *list = realloc(set->list, room * sizeof *list);
  if (list == NULL) {
    return 0;
  }
  set->list = list;
  set->room = room;
  return 1;
}

/* What one file is read with. */
typedef struct {
  BIO *file;
  OSSL_DECODER_CTX *decoder;
  EVP_PKEY *key; /* where |decoder| puts what it has decoded */
} reader;

static int reader_init(reader *reader, const char *path) {
  reader->file = BIO_new_file(path, "r");
  if (reader->file == NULL) {
    fprintf(stderr, "load: %s cannot be read\n", path);
    return 0;
  }
  reader->decoder =
      OSSL_DECODER_CTX_new_for_pkey(&reader->key, "DER", "PrivateKeyInfo", NULL, EVP_PKEY_KEYPAIR, NULL, NULL);
  if (reader->decoder == NULL) {
    fputs("load: no decoder for private keys\n", stderr);
    return 0;
  }
  return 1;
}

static void reader_cleanup(reader *reader) {
  OSSL_DECODER_CTX_free(reader->decoder);
  BIO_free(reader->file);
}

typedef enum { KEY_READ, KEY_END, KEY_BAD } key_step;

/* Returns KEY_READ with a key in |*key| that the caller owns, KEY_END behind the last PEM block, or KEY_BAD. */
static key_step read_key(reader *reader, EVP_PKEY **key) {
  char *label = NULL, *header = NULL;
  unsigned char *data = NULL;
  long length = 0;
  if (PEM_read_bio(reader->file, &label, &header, &data, &length) != 1) {
    unsigned long code = ERR_peek_last_error();
    int end = ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
    return end ? KEY_END : KEY_BAD;
  }
  const unsigned char *rest = data;
  size_t rest_length = (size_t)length;
  reader->key = NULL;
  int good =
      strcmp(label, PEM_STRING_PKCS8INF) == 0 && OSSL_DECODER_from_data(reader->decoder, &rest, &rest_length) == 1;
  *key = reader->key;
  OPENSSL_free(label);
  OPENSSL_free(header);
  OPENSSL_clear_free(data, (size_t)length);
  return good ? KEY_READ : KEY_BAD;
}

/* Returns 1 when a client was added; 0 at the end, or with |*good| set to 0 and a message on error. */
static int add_client(client_set *set, reader *reader, const char *path, int *good) {
  client client = {0};
  key_step step = read_key(reader, &client.key);
  if (step != KEY_READ) {
    *good = step == KEY_END || complain(path, set->count, "no private key (PEM, PKCS #8)");
    return 0;
  }
  client.cert = PEM_read_bio_X509(reader->file, NULL, NULL, NULL);
  if (client.cert == NULL || X509_check_private_key(client.cert, client.key) != 1) {
    *good = complain(path, set->count, "its key is not followed by its certificate");
  } else if (!make_room(set)) {
    *good = complain(path, set->count, "no memory");
  }
  if (!*good) {
    X509_free(client.cert);
    EVP_PKEY_free(client.key);
    return 0;
  }
  set->list[set->count++] = client;
  return 1;
}

int client_set_load(client_set *set, const char *path) {
  reader reader = {0};
  ERR_clear_error();
  int good = reader_init(&reader, path);
  while (good && add_client(set, &reader, path, &good)) {
  }
  if (good && set->count == 0) {
    fprintf(stderr, "load: %s holds no private key with a certificate\n", path);
    good = 0;
  }
  reader_cleanup(&reader);
  ERR_clear_error();
  return good;
}

void client_set_cleanup(client_set *set) {
  for (size_t at = 0; at < set->count; at++) {
    X509_free(set->list[at].cert);
    EVP_PKEY_free(set->list[at].key);
  }
  free(set->list);
  *set = (client_set){0};
}
