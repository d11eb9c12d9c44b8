/* system_openssl.h - the function table filled from the OpenSSL that the C tests link.
 *
 * The gateway takes cryptography's OpenSSL by address; the C tests have no
 * Python and use the system's (libssl-dev). */
#ifndef GW_SYSTEM_OPENSSL_H
#define GW_SYSTEM_OPENSSL_H

/* use_system_openssl fills the table, or stops the program. */
void use_system_openssl(void);

#endif
