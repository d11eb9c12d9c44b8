/* load_options.h - the command line of the load generator. */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
  MODE_HANDSHAKES, /* connect, handshake, one round trip, close; again */
  MODE_ECHO,       /* round trips over connections that stay */
  MODE_IDLE,       /* connections that stay and do nothing */
  MODE_STORM,      /* all connections at once, each with a handshake and one round trip */
} load_mode;

enum { SHARE_UNIT = 1000000 };

typedef struct {
  load_mode mode;
  const char *mode_name;
  struct sockaddr_in target;
  const char *ca;              /* PEM file, verifies the server */
  const char *cert;            /* PEM file with the client's chain, or NULL */
  const char *key;             /* PEM file, NULL exactly when |cert| is */
  const char *clients;         /* PEM file of many keys and certificates, or NULL; excludes |cert| */
  const char *revoked_clients; /* likewise, of clients that must be refused; NULL exactly when |revoked_share| is 0 */
  uint32_t revoked_share;      /* of the arrivals, in millionths */
  int tls_version;             /* TLS1_2_VERSION, TLS1_3_VERSION, or 0 for what both sides like best */
  int resume;                  /* offer the last session of the same slot and client */
  int until_closed;            /* idle: run until the server has closed every connection */
  uint32_t connections;
  uint64_t count;     /* stop after that many, failures included; 0: no bound. Never 0 in an open loop */
  uint64_t run_ns;    /* stop after that long; 0: no bound. 0 in an open loop, where |count| says it */
  uint64_t wait_ns;   /* one handshake or round trip fails after that long */
  uint64_t period_ns; /* open loop: from one arrival to the next; 0: closed loop */
  size_t bytes;       /* in one round trip */
} load_options;

/* options_parse fills |options|; its strings borrow from |argv|. Returns 1, or
 * 0 with what is wrong and the usage on stderr. */
int options_parse(int argc, char **argv, load_options *options);

#endif
