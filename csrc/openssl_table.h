/* openssl_table.h - the OpenSSL that cryptography's wheel carries, by address.
 *
 * The extension links no OpenSSL: the one in cryptography's wheel is static and
 * hidden, and a second one in the process would not understand its objects.
 * Python takes each function's address from cryptography's binding, compares
 * the C type that the binding declares with the one written here, and stores it.
 * This list is the only place that names a function of OpenSSL. */
#ifndef GW_OPENSSL_TABLE_H
#define GW_OPENSSL_TABLE_H

#include <stddef.h>

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;
typedef struct x509_st X509;
typedef struct x509_store_ctx_st X509_STORE_CTX;
typedef struct X509_name_st X509_NAME;
typedef struct bio_st BIO;
typedef struct bio_method_st BIO_METHOD;

/* X(name, result, parameters): the spelling is cffi's, so that the types compare as text. */
#define GW_OPENSSL_FUNCTIONS(X)                                                          \
  X(SSL_new, SSL *, (SSL_CTX *))                                                         \
  X(SSL_free, void, (SSL *))                                                             \
  X(SSL_set_fd, int, (SSL *, int))                                                       \
  X(SSL_set_accept_state, void, (SSL *))                                                 \
  X(SSL_do_handshake, int, (SSL *))                                                      \
  X(SSL_read, int, (SSL *, void *, int))                                                 \
  X(SSL_write, int, (SSL *, void *, int))                                                \
  X(SSL_shutdown, int, (SSL *))                                                          \
  X(SSL_get_error, int, (SSL *, int))                                                    \
  X(SSL_session_reused, int, (SSL *))                                                    \
  X(SSL_get_version, char *, (SSL *))                                                    \
  X(SSL_get_peer_certificate, X509 *, (SSL *))                                           \
  X(SSL_get_certificate, X509 *, (SSL *))                                                \
  X(SSL_get_servername, char *, (SSL *, int))                                            \
  X(SSL_set_SSL_CTX, SSL_CTX *, (SSL *, SSL_CTX *))                                      \
  X(SSL_CTX_set_cert_cb, void, (SSL_CTX *, int (*)(SSL *, void *), void *))              \
  X(SSL_CTX_set_tlsext_servername_callback, void, (SSL_CTX *, int (*)(SSL *, int *, void *))) \
  X(SSL_CTX_set_verify, void, (SSL_CTX *, int, int (*)(int, X509_STORE_CTX *)))          \
  X(SSL_CTX_set_alpn_select_cb, void,                                                    \
    (SSL_CTX *, int (*)(SSL *, unsigned char **, unsigned char *, unsigned char *, unsigned int, void *), void *)) \
  X(SSL_CTX_set_tlsext_status_cb, long, (SSL_CTX *, int (*)(SSL *, void *)))             \
  X(SSL_CTX_set_tlsext_status_arg, long, (SSL_CTX *, void *))                            \
  X(SSL_set_tlsext_status_ocsp_resp, long, (SSL *, unsigned char *, int))                \
  X(OPENSSL_malloc, void *, (size_t))                                                    \
  X(OPENSSL_free, void, (void *))                                                        \
  X(ERR_clear_error, void, (void))                                                       \
  X(ERR_peek_error, unsigned long, (void))                                               \
  X(ERR_reason_error_string, char *, (unsigned long))                                    \
  X(X509_free, void, (X509 *))                                                           \
  X(X509_get_subject_name, X509_NAME *, (X509 *))                                        \
  X(X509_get_issuer_name, X509_NAME *, (X509 *))                                         \
  X(X509_NAME_cmp, int, (X509_NAME *, X509_NAME *))                                      \
  X(i2d_X509_bio, int, (BIO *, X509 *))                                                  \
  X(BIO_new, BIO *, (BIO_METHOD *))                                                      \
  X(BIO_s_mem, BIO_METHOD *, (void))                                                     \
  X(BIO_free, int, (BIO *))                                                              \
  X(BIO_get_mem_data, long, (BIO *, char **))                                            \
  X(X509_STORE_CTX_get_current_cert, X509 *, (X509_STORE_CTX *))                         \
  X(X509_STORE_CTX_get_error, int, (X509_STORE_CTX *))                                   \
  X(X509_STORE_CTX_get_error_depth, int, (X509_STORE_CTX *))                             \
  X(X509_STORE_CTX_set_error, void, (X509_STORE_CTX *, int))                             \
  X(X509_verify_cert_error_string, char *, (long))

#define GW_OPENSSL_MEMBER(name, result, parameters) result(*name) parameters;
struct gw_openssl {
  GW_OPENSSL_FUNCTIONS(GW_OPENSSL_MEMBER)
};
#undef GW_OPENSSL_MEMBER

/* gw_openssl holds the functions; valid once every slot has been filled. Written
 * only at import, before any thread starts. */
extern struct gw_openssl gw_openssl;

/* Values of OpenSSL's public headers; checked against the binding at import where it has them. */
enum {
  GW_SSL_ERROR_NONE = 0,
  GW_SSL_ERROR_SSL = 1,
  GW_SSL_ERROR_WANT_READ = 2,
  GW_SSL_ERROR_WANT_WRITE = 3,
  GW_SSL_ERROR_SYSCALL = 5,
  GW_SSL_ERROR_ZERO_RETURN = 6,
  GW_SSL_TLSEXT_ERR_OK = 0,
  GW_SSL_TLSEXT_ERR_ALERT_FATAL = 2,
  GW_SSL_TLSEXT_ERR_NOACK = 3,
  GW_TLSEXT_NAMETYPE_host_name = 0,
  GW_X509_V_ERR_UNSPECIFIED = 1,
  GW_X509_V_ERR_UNABLE_TO_GET_CRL = 3,
  GW_X509_V_ERR_CRL_HAS_EXPIRED = 12,
  GW_X509_V_ERR_CERT_REVOKED = 23,
  GW_X509_V_ERR_INVALID_PURPOSE = 26,
  GW_X509_V_ERR_INVALID_EXTENSION = 41,
  GW_X509_V_ERR_OCSP_VERIFY_NEEDED = 73,
  /* ERR_PACK(ERR_LIB_SSL, 0, SSL_R_UNEXPECTED_EOF_WHILE_READING): a FIN without close_notify. */
  GW_SSL_UNEXPECTED_EOF = 20 << 23 | 294
};

/* gw_openssl_slots has every function of the table, and after the last one a slot without a name. Who fills the table
 * stores the address of each function, of this type and not NULL, where |address| points to. */
typedef struct {
  const char *name;
  const char *type; /* in C, white space aside; static storage like the name */
  void *address;    /* of the member of gw_openssl, which is a function pointer; POSIX gives it a data pointer's size */
} gw_openssl_slot;
extern const gw_openssl_slot gw_openssl_slots[];

#endif
