/* load_options.c - the command line of the load generator. */
#include "load_options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: load MODE --connect ADDRESS:PORT --ca FILE [options]\n"
    "  handshakes   connect, handshake, one round trip, close; again and again\n"
    "  echo         round trips over connections that stay\n"
    "  idle         connections that stay, after one round trip each\n"
    "  storm        all connections at once, one round trip each; they stay until all are served or have failed\n"
    "  --cert FILE --key FILE   the client's certificate chain and key (PEM)\n"
    "  --clients FILE           or many clients, taken in turn: key, certificate, key, certificate, ... (PEM)\n"
    "  --revoked-clients FILE --revoked-share X\n"
    "                           handshakes, storm: of all arrivals the share X (0 to 1) is one of these clients\n"
    "                           and must be refused with the alert certificate_revoked\n"
    "  --tls 1.2|1.3            the only version to offer\n"
    "  --resume                 handshakes: offer the session of the connection before\n"
    "  --connections N          at the same time (1)\n"
    "  --rate R                 handshakes, echo: open loop, R a second, latency from when each was due\n"
    "  --bytes N                in one round trip (1)\n"
    "  --count N, --seconds S   handshakes, echo: when to stop, whichever comes first\n"
    "  --until-closed           idle: run until the server has closed all connections, latency from the start\n"
    "  --timeout S              one handshake or round trip, or --until-closed, fails after that (10)\n"
    "A line {\"ready\": N, ...} says that the preparation is over; a line on stdin, or its end, starts the run\n"
    "(idle: ends it). One line of JSON is the result. SIGINT and SIGTERM end the run early.\n";

enum { LARGEST_ROUND_TRIP = 64 << 20, MOST_CONNECTIONS = 1 << 20, HIGHEST_RATE = 1000000 };

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

static int parse_connections(const char *text, uint32_t *connections) {
  uint64_t number = 0;
  int good = parse_number(text, MOST_CONNECTIONS, &number);
  *connections = (uint32_t)number;
  return good;
}

static int parse_bytes(const char *text, size_t *bytes) {
  uint64_t number = 0;
  int good = parse_number(text, LARGEST_ROUND_TRIP, &number);
  *bytes = (size_t)number;
  return good;
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

static int parse_rate(const char *text, uint64_t *period_ns) {
  char *end = NULL;
  double rate = strtod(text, &end);
  if (end == text || *end != '\0' || !(rate >= 1e-3 && rate <= HIGHEST_RATE)) {
    return 0;
  }
  *period_ns = (uint64_t)(1e9 / rate + 0.5);
  return 1;
}

static int parse_share(const char *text, uint32_t *share) {
  char *end = NULL;
  double value = strtod(text, &end);
  if (end == text || *end != '\0' || !(value * SHARE_UNIT >= 1 && value <= 1)) {
    return 0;
  }
  *share = (uint32_t)(value * SHARE_UNIT + 0.5);
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
  static const char *const names[] = {"handshakes", "echo", "idle", "storm"};
  for (int mode = 0; mode < 4; mode++) {
    if (strcmp(text, names[mode]) == 0) {
      options->mode = (load_mode)mode;
      options->mode_name = names[mode];
      return 1;
    }
  }
  return 0;
}

static const struct option long_options[] = {
    {"connect", required_argument, NULL, 'a'},
    {"ca", required_argument, NULL, 'A'},
    {"cert", required_argument, NULL, 'c'},
    {"key", required_argument, NULL, 'k'},
    {"clients", required_argument, NULL, 'm'},
    {"revoked-clients", required_argument, NULL, 'M'},
    {"revoked-share", required_argument, NULL, 'S'},
    {"tls", required_argument, NULL, 't'},
    {"resume", no_argument, NULL, 'r'},
    {"connections", required_argument, NULL, 'n'},
    {"rate", required_argument, NULL, 'R'},
    {"bytes", required_argument, NULL, 'b'},
    {"count", required_argument, NULL, 'N'},
    {"seconds", required_argument, NULL, 's'},
    {"until-closed", no_argument, NULL, 'u'},
    {"timeout", required_argument, NULL, 'w'},
    {NULL, 0, NULL, 0},
};

static int take_text(const char *value, const char **text) {
  *text = value;
  return 1;
}

static int take_flag(int *flag) {
  *flag = 1;
  return 1;
}

static int take_option(int option, const char *value, load_options *options) {
  switch (option) {
    case 'a':
      return parse_target(value, &options->target);
    case 'A':
      return take_text(value, &options->ca);
    case 'c':
      return take_text(value, &options->cert);
    case 'k':
      return take_text(value, &options->key);
    case 'm':
      return take_text(value, &options->clients);
    case 'M':
      return take_text(value, &options->revoked_clients);
    case 'S':
      return parse_share(value, &options->revoked_share);
    case 't':
      return parse_version(value, &options->tls_version);
    case 'r':
      return take_flag(&options->resume);
    case 'n':
      return parse_connections(value, &options->connections);
    case 'R':
      return parse_rate(value, &options->period_ns);
    case 'b':
      return parse_bytes(value, &options->bytes);
    case 'N':
      return parse_number(value, UINT64_MAX, &options->count);
    case 's':
      return parse_seconds(value, &options->run_ns);
    case 'u':
      return take_flag(&options->until_closed);
    default:
      return parse_seconds(value, &options->wait_ns);
  }
}

/* What one option asks of the others. */
static int check_whole(const load_options *options) {
  int handshakes = options->mode == MODE_HANDSHAKES;
  int loops = handshakes || options->mode == MODE_ECHO;
  int bounded = options->count != 0 || options->run_ns != 0;
  const struct {
    int good;
    const char *otherwise;
  } rules[] = {
      {options->target.sin_family == AF_INET, "--connect is missing"},
      {options->ca != NULL, "--ca is missing"},
      {(options->cert == NULL) == (options->key == NULL), "--cert and --key belong together"},
      {options->cert == NULL || options->clients == NULL, "--cert and --clients exclude each other"},
      {(options->revoked_clients == NULL) == (options->revoked_share == 0),
       "--revoked-clients and --revoked-share belong together"},
      {options->revoked_share == 0 || handshakes || options->mode == MODE_STORM,
       "--revoked-share is for handshakes and storm"},
      {!options->resume || handshakes, "--resume is for handshakes"},
      {!options->until_closed || options->mode == MODE_IDLE, "--until-closed is for idle"},
      {options->period_ns == 0 || loops, "--rate is for handshakes and echo"},
      {bounded || !loops, "--count or --seconds is missing"},
      {!bounded || loops, "--count and --seconds are for handshakes and echo"},
  };
  for (size_t at = 0; at < sizeof rules / sizeof *rules; at++) {
    if (!rules[at].good) {
      fprintf(stderr, "load: %s: %s\n%s", options->mode_name, rules[at].otherwise, usage);
      return 0;
    }
  }
  return 1;
}

/* An open loop ends when all have ended that were due in its time; the time itself cuts nothing off. */
static void bound_open_loop(load_options *options) {
  if (options->period_ns != 0 && options->run_ns != 0) {
    uint64_t due = (options->run_ns + options->period_ns - 1) / options->period_ns;
    options->count = options->count == 0 || due < options->count ? due : options->count;
    options->run_ns = 0;
  }
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
  if (!check_whole(options)) {
    return 0;
  }
  bound_open_loop(options);
  return 1;
}
