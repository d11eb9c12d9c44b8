/* load_options.c - the command line of the load generator. */
#include "load_options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: load MODE --connect ADDRESS:PORT --ca FILE [options]\n"
    "  handshakes   connect, handshake, one round trip, close; again and again\n"
    "  echo         round trips over connections that stay\n"
    "  idle         connections that stay, after one round trip each\n"
    "  --cert FILE --key FILE   the client's certificate chain and key (PEM)\n"
    "  --tls 1.2|1.3            the only version to offer\n"
    "  --resume                 handshakes: offer the session of the connection before\n"
    "  --connections N          at the same time (1)\n"
    "  --bytes N                in one round trip (1)\n"
    "  --count N, --seconds S   when to stop, whichever comes first\n"
    "  --timeout S              one handshake or round trip fails after that (10)\n"
    "A line {\"ready\": N, ...} says that the preparation is over; a line on stdin, or its end, starts the run\n"
    "(idle: ends it). One line of JSON is the result. SIGINT and SIGTERM end the run early.\n";

enum { LARGEST_ROUND_TRIP = 64 << 20, MOST_CONNECTIONS = 1 << 20 };

static int refuse(const char *name, const char *value) {
  fprintf(stderr, "load: --%s cannot be '%s'\n%s", name, value, usage);
  return 0;
}

static int parse_number(const char *text, uint64_t most, uint64_t *number) {
  char *end = NULL;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value == 0 || value > most) {
    return 0;
  }
  *number = value;
  return 1;
}

static int parse_seconds(const char *text, uint64_t *ns) {
  char *end = NULL;
  double value = strtod(text, &end);
  if (end == text || *end != '\0' || !(value > 0 && value < 1e6)) {
    return 0;
  }
  *ns = (uint64_t)(value * 1e9);
  return 1;
}

static int parse_target(const char *text, struct sockaddr_in *target) {
  const char *colon = strrchr(text, ':');
  char host[INET_ADDRSTRLEN];
  uint64_t port = 0;
  if (colon == NULL || (size_t)(colon - text) >= sizeof host || !parse_number(colon + 1, UINT16_MAX, &port)) {
    return 0;
  }
  memcpy(host, text, (size_t)(colon - text));
  host[colon - text] = '\0';
  *target = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  return inet_pton(AF_INET, host, &target->sin_addr) == 1;
}

static int parse_version(const char *text, int *version) {
  if (strcmp(text, "1.2") == 0) {
    *version = TLS1_2_VERSION;
    return 1;
  }
  *version = TLS1_3_VERSION;
  return strcmp(text, "1.3") == 0;
}

static int parse_mode(const char *text, load_options *options) {
  static const char *const names[] = {"handshakes", "echo", "idle"};
  for (int mode = 0; mode < 3; mode++) {
    if (strcmp(text, names[mode]) == 0) {
      options->mode = (load_mode)mode;
      options->mode_name = names[mode];
      return 1;
    }
  }
  return 0;
}

static const struct option long_options[] = {
    {"connect", required_argument, NULL, 'a'}, {"ca", required_argument, NULL, 'A'},
    {"cert", required_argument, NULL, 'c'},    {"key", required_argument, NULL, 'k'},
    {"tls", required_argument, NULL, 't'},     {"resume", no_argument, NULL, 'r'},
    {"connections", required_argument, NULL, 'n'}, {"bytes", required_argument, NULL, 'b'},
    {"count", required_argument, NULL, 'N'},   {"seconds", required_argument, NULL, 's'},
    {"timeout", required_argument, NULL, 'w'}, {NULL, 0, NULL, 0},
};

static int take_option(int option, const char *value, load_options *options) {
  uint64_t number = 0;
  switch (option) {
    case 'a':
      return parse_target(value, &options->target);
    case 'A':
      options->ca = value;
      return 1;
    case 'c':
      options->cert = value;
      return 1;
    case 'k':
      options->key = value;
      return 1;
    case 't':
      return parse_version(value, &options->tls_version);
    case 'r':
      options->resume = 1;
      return 1;
    case 'n':
      if (!parse_number(value, MOST_CONNECTIONS, &number)) {
        return 0;
      }
      options->connections = (uint32_t)number;
      return 1;
    case 'b':
      if (!parse_number(value, LARGEST_ROUND_TRIP, &number)) {
        return 0;
      }
      options->bytes = (size_t)number;
      return 1;
    case 'N':
      return parse_number(value, UINT64_MAX, &options->count);
    case 's':
      return parse_seconds(value, &options->run_ns);
    default:
      return parse_seconds(value, &options->wait_ns);
  }
}

static int check_whole(const load_options *options) {
  const char *missing = NULL;
  if (options->target.sin_family != AF_INET) {
    missing = "--connect";
  } else if (options->ca == NULL) {
    missing = "--ca";
  } else if ((options->cert == NULL) != (options->key == NULL)) {
    missing = "--cert and --key together";
  } else if (options->mode != MODE_IDLE && options->count == 0 && options->run_ns == 0) {
    missing = "--count or --seconds";
  }
  if (missing != NULL) {
    fprintf(stderr, "load: %s needs %s\n%s", options->mode_name, missing, usage);
  }
  return missing == NULL;
}

int options_parse(int argc, char **argv, load_options *options) {
  *options = (load_options){.connections = 1, .bytes = 1, .wait_ns = UINT64_C(10000000000)};
  if (argc < 2 || !parse_mode(argv[1], options)) {
    fputs(usage, stderr);
    return 0;
  }
  int which = 0;
  for (;;) {
    int option = getopt_long(argc - 1, argv + 1, "", long_options, &which);
    if (option == -1) {
      break;
    }
    if (option == '?') {
      fputs(usage, stderr);
      return 0;
    }
    if (!take_option(option, optarg, options)) {
      return refuse(long_options[which].name, optarg);
    }
  }
  if (optind != argc - 1) {
    return refuse("connect", argv[optind + 1]);
  }
  return check_whole(options);
}
