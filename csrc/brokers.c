#include "brokers.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static int by_path(const char *path, gw_broker *broker) {
  struct sockaddr_un *address = (struct sockaddr_un *)&broker->address;
  size_t length = strlen(path);
  if (length >= sizeof address->sun_path) {
    return 0;
  }
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path, path, length + 1);
  broker->length = sizeof *address;
  return 1;
}

static int by_number(const char *host, int port, gw_broker *broker) {
  const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
  struct addrinfo *found;
  char service[16];
  (void)snprintf(service, sizeof service, "%d", port);
  if (getaddrinfo(host, service, &hints, &found) != 0) {
    return 0;
  }
  memcpy(&broker->address, found->ai_addr, found->ai_addrlen);
  broker->length = found->ai_addrlen;
  freeaddrinfo(found);
  return 1;
}

int gw_brokers_add(gw_brokers *brokers, const char *host, int port) {
  gw_broker added = {.length = 0};
  if (!(port == 0 ? by_path(host, &added) : by_number(host, port, &added))) {
    return 0;
  }
  gw_broker *grown = realloc(brokers->all, (brokers->count + 1) * sizeof *grown);
  if (grown == NULL) {
    return 0;
  }
  brokers->all = grown;
  brokers->all[brokers->count++] = added;
  return 1;
}

int gw_brokers_dial(gw_brokers *brokers) {
  if (brokers->count == 0) {
    return -1;
  }
  const gw_broker *next = &brokers->all[brokers->turn++ % brokers->count];
  int fd = socket(next->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect(fd, (const struct sockaddr *)&next->address, next->length) != 0 && errno != EINPROGRESS) {
    (void)close(fd);
    return -1;
  }
  return fd;
}

void gw_brokers_cleanup(gw_brokers *brokers) {
  free(brokers->all);
  *brokers = (gw_brokers){.all = NULL};
}
