/* brokers.h - the brokers behind a listener, for those clients that need nothing but a connection to one.
 *
 * Only brokers that no name has to be resolved for: a numeric address or the path of a Unix socket. */
#ifndef GW_BROKERS_H
#define GW_BROKERS_H

#include <stddef.h>
#include <sys/socket.h>

typedef struct {
  struct sockaddr_storage address;
  socklen_t length;
} gw_broker;

typedef struct {
  gw_broker *all; /* owned */
  size_t count, turn;
} gw_brokers;

/* gw_brokers_add adds the broker at |host| (copied), a numeric address, and |port|; or at the path |host| where
 * |port| is 0. Returns 1, or 0 without memory or where |host| is neither. */
int gw_brokers_add(gw_brokers *brokers, const char *host, int port);

/* gw_brokers_dial returns a socket, non-blocking and the caller's, that is connected or connecting to the next
 * broker in turn; or -1 where there is none, or this one cannot be had at once. */
int gw_brokers_dial(gw_brokers *brokers);

/* gw_brokers_cleanup releases what |brokers| owns. */
void gw_brokers_cleanup(gw_brokers *brokers);

#endif
