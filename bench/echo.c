/* echo.c - the broker's stand-in: sends back what it receives, and costs little.
 *
 *   echo PORT      on 127.0.0.1; 0 for any. Prints the port, serves until stdin ends.
 *
 * One thread, one epoll. Memory is bounded: while a peer does not take what it
 * is owed (at most one chunk), nothing more is read from it. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 256 * 1024, EVENTS = 256, BACKLOG = 4096 };

typedef struct {
  int fd;
  uint8_t *owed; /* NULL while the peer takes everything at once */
  size_t owed_at;
  size_t owed_length;
} peer;

static int fail(const char *what) {
  fprintf(stderr, "echo: %s: %s\n", what, strerror(errno));
  return 0;
}

static int would_block(void) {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static void peer_free(peer *peer) {
  close(peer->fd);
  free(peer->owed);
  free(peer);
}

/* Returns 1 while the peer lives; what it did not take is owed to it. */
static int send_back(peer *peer, const uint8_t *data, size_t length) {
  ssize_t sent = send(peer->fd, data, length, MSG_NOSIGNAL);
  if (sent < 0 && !would_block()) {
    return 0;
  }
  size_t taken = sent < 0 ? 0 : (size_t)sent;
  if (taken == length) {
    return 1;
  }
  peer->owed = malloc(length - taken);
  if (peer->owed == NULL) {
    return 0;
  }
  memcpy(peer->owed, data + taken, length - taken);
  peer->owed_at = 0;
  peer->owed_length = length - taken;
  return 1;
}

static int pay_debt(peer *peer) {
  ssize_t sent = send(peer->fd, peer->owed + peer->owed_at, peer->owed_length - peer->owed_at, MSG_NOSIGNAL);
  if (sent < 0) {
    return would_block();
  }
  peer->owed_at += (size_t)sent;
  if (peer->owed_at == peer->owed_length) {
    free(peer->owed);
    peer->owed = NULL;
  }
  return 1;
}

/* Serve until the socket blocks, for it is registered edge-triggered. |ending|:
 * the end of the stream may be in there too. Returns 1 while the peer lives. */
static int serve(peer *peer, int ending) {
  static uint8_t chunk[CHUNK];
  for (;;) {
    if (peer->owed != NULL && !pay_debt(peer)) {
      return 0;
    }
    if (peer->owed != NULL) {
      return 1;
    }
    ssize_t length = recv(peer->fd, chunk, sizeof chunk, 0);
    if (length <= 0) {
      return length < 0 && would_block();
    }
    if (!send_back(peer, chunk, (size_t)length)) {
      return 0;
    }
    if (!ending && peer->owed == NULL && (size_t)length < sizeof chunk) {
      return 1; /* drained, or a new edge is under way: saves the read that would block */
    }
  }
}

static void admit(int epoll, int fd) {
  int on = 1;
  peer *peer = calloc(1, sizeof *peer);
  if (peer == NULL) {
    close(fd);
    return;
  }
  peer->fd = fd;
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = peer};
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
      epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
    peer_free(peer);
  }
}

static int accept_all(int epoll, int listener) {
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      admit(epoll, fd);
    } else if (errno != ECONNABORTED) {
      return would_block() ? 1 : fail("accept");
    }
  }
}

static int listen_on(uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  int on = 1;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      bind(fd, (const struct sockaddr *)&address, length) != 0 || listen(fd, BACKLOG) != 0 ||
      getsockname(fd, (struct sockaddr *)&address, &length) != 0) {
    fail("listen");
    if (fd >= 0) {
      close(fd);
    }
    return -1;
  }
  printf("%u\n", (unsigned)ntohs(address.sin_port));
  fflush(stdout);
  return fd;
}

static int watch(int epoll, int fd, void *data) {
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = data};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* Returns 1 at the end of stdin, 0 on error. */
static int run(int epoll, int listener) {
  static char is_listener, is_stdin; /* addresses that no peer has */
  struct epoll_event events[EVENTS];
  if (!watch(epoll, listener, &is_listener) || !watch(epoll, STDIN_FILENO, &is_stdin)) {
    return fail("epoll_ctl (stdin has to be a pipe or a terminal)");
  }
  for (;;) {
    int count = epoll_wait(epoll, events, EVENTS, -1);
    if (count < 0 && errno != EINTR) {
      return fail("epoll_wait");
    }
    for (int at = 0; at < count; at++) {
      void *who = events[at].data.ptr;
      if (who == &is_stdin) {
        char ignored[64];
        if (read(STDIN_FILENO, ignored, sizeof ignored) <= 0) {
          return 1;
        }
      } else if (who == &is_listener) {
        if (!accept_all(epoll, listener)) {
          return 0;
        }
      } else if (!serve(who, (events[at].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)) {
        peer_free(who);
      }
    }
  }
}

static void allow_all_descriptors(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

int main(int argc, char **argv) {
  char *rest = NULL;
  unsigned long port = argc == 2 ? strtoul(argv[1], &rest, 10) : UINT16_MAX + 1UL;
  if (port > UINT16_MAX || rest == argv[1] || *rest != '\0') {
    fputs("usage: echo PORT\n", stderr);
    return 2;
  }
  allow_all_descriptors();
  int listener = listen_on((uint16_t)port);
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  int good = listener >= 0 && epoll >= 0 && run(epoll, listener);
  if (epoll >= 0) {
    close(epoll);
  }
  if (listener >= 0) {
    close(listener);
  }
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
