/* test_relay.c - bytes arrive whole and in order, ends travel as ends, and a slow side slows the other. */
#include "relay_pair.h"

static const int VERSIONS[] = {TLS1_2_VERSION, TLS1_3_VERSION};
static void small_messages_go_both_ways(void) {
  stage on;
  pair with;
  for (int i = 0; i < 2; i++) {
    stage_open(&on, VERSIONS[i], GW_CHECK_OFF, &DEFAULTS);
    pair_open(&on, &with, 7);
    for (int times = 0; times < 20; times++) {
      both_ways(&with);
    }
    CHECK(gw_relay_live(on.relay) == 1 && gw_counted(on.counters, GW_COUNT_LIVE) == 1);
    CHECK(gw_counted(on.counters, GW_COUNT_RELAYED) == 1);
    CHECK(SSL_shutdown(with.client) == 0);
    broker_hears_the_end(&with);
    close(with.broker);
    with.broker = -1;
    gw_relay_event event = next_event(&on);
    CHECK(event.id == 7 && event.end == GW_END_CLIENT_CLOSED && event.detail[0] == '\0');
    CHECK(event.bytes_in == 80 && event.bytes_out == 80 && event.duration_ms >= 0);
    CHECK(is_loopback(&event.conn->peer));
    CHECK(on.counters[GW_COUNT_BYTES_IN] == 80 && on.counters[GW_COUNT_BYTES_OUT] == 80);
    pair_close(&with);
    stage_close(&on);
  }
}

static void the_preface_goes_first(void) {
  stage on;
  pair with;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  pair_make(&on, &with, 0, 0);
  client_says(&with, "CONNECT", 7);
  adopt(&on, &with, 1, "PROXY UNKNOWN\r\n");
  broker_hears(&with, "PROXY UNKNOWN\r\nCONNECT", 22);
  both_ways(&with);
  pair_close(&with);
  CHECK(next_event(&on).bytes_in == 11);
  stage_close(&on);
}

/* --- bulk --- */

enum { BULK = 5 * 1024 * 1024 + 12345 };
static const size_t CHUNKS[] = {1, 16383, 16384, 16385, 70001, 5, 32768, 65536, 4097, 200000, 1};

/* The octet at |at| of the stream: its period divides no buffer's size. */
static uint8_t octet(size_t at) { return (uint8_t)(at % 251 ^ at / 65537); }

/* echo_everything is a broker that reads and writes in odd chunks until it hears the end. */
static void *echo_everything(void *argument) {
  const pair *with = argument;
  static uint8_t buffer[200000];
  for (size_t turn = 0;; turn++) {
    ssize_t got = recv(with->broker, buffer, CHUNKS[turn % 11], 0);
    CHECK(got >= 0);
    if (got == 0) {
      CHECK(shutdown(with->broker, SHUT_WR) == 0);
      return NULL;
    }
    CHECK(send(with->broker, buffer, (size_t)got, MSG_NOSIGNAL) == got);
  }
}

/* say_some writes the next chunk, as much of it as goes; what did not go is tried again with the same length.
 * Returns the new position. */
static size_t say_some(SSL *client, size_t at, size_t *turn) {
  static uint8_t out[200000];
  size_t length = CHUNKS[*turn % 11] < BULK - at ? CHUNKS[*turn % 11] : BULK - at;
  for (size_t i = 0; i < length; i++) {
    out[i] = octet(at + i);
  }
  ERR_clear_error();
  int put = SSL_write(client, out, (int)length);
  *turn += put > 0;
  CHECK(put > 0 || SSL_get_error(client, put) == SSL_ERROR_WANT_WRITE);
  return put > 0 ? at + (size_t)put : at;
}

/* say_the_end returns 1 once close_notify has gone. */
static int say_the_end(SSL *client) {
  ERR_clear_error();
  int result = SSL_shutdown(client);
  CHECK(result == 0 || SSL_get_error(client, result) == SSL_ERROR_WANT_WRITE);
  return result == 0;
}

/* hear_some reads and compares. Returns the new position; |ended| is set at close_notify. */
static size_t hear_some(SSL *client, size_t at, int *ended) {
  uint8_t in[10007];
  ERR_clear_error();
  int got = SSL_read(client, in, sizeof in);
  if (got <= 0) {
    int kind = SSL_get_error(client, got);
    CHECK(kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_ZERO_RETURN);
    *ended = kind == SSL_ERROR_ZERO_RETURN;
    return at;
  }
  for (int i = 0; i < got; i++) {
    CHECK(in[i] == octet(at + (size_t)i));
  }
  return at + (size_t)got;
}

static void exchange_bulk(pair *with) {
  size_t said = 0, heard = 0, turn = 0;
  int ended = 0, told = 0;
  set_blocking(with->client_fd, 0);
  SSL_set_mode(with->client, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  while (!ended) {
    size_t before = said + heard;
    if (said < BULK) {
      said = say_some(with->client, said, &turn);
    }
    if (said == BULK && !told) {
      told = say_the_end(with->client);
    }
    heard = hear_some(with->client, heard, &ended);
    if (said + heard == before && !ended) {
      struct pollfd waiting = {.fd = with->client_fd, .events = !told ? POLLIN | POLLOUT : POLLIN};
      CHECK(poll(&waiting, 1, PATIENCE * 1000) == 1);
    }
  }
  CHECK(said == BULK && heard == BULK);
}

static void megabytes_come_back_whole(void) {
  stage on;
  pair with;
  pthread_t broker;
  for (int i = 0; i < 2; i++) {
    for (int room = 0; room <= 8192; room += 8192) { /* with small buffers every write stops half-way */
      stage_open(&on, VERSIONS[i], GW_CHECK_OFF, &DEFAULTS);
      pair_make(&on, &with, 0, room);
      adopt(&on, &with, 1, "");
      CHECK(pthread_create(&broker, NULL, echo_everything, &with) == 0);
      exchange_bulk(&with);
      CHECK(pthread_join(broker, NULL) == 0);
      gw_relay_event event = next_event(&on);
      CHECK(event.end == GW_END_CLIENT_CLOSED && event.bytes_in == BULK && event.bytes_out == BULK);
      CHECK(on.counters[GW_COUNT_BYTES_IN] == BULK && on.counters[GW_COUNT_BYTES_OUT] == BULK);
      pair_close(&with);
      stage_close(&on);
    }
  }
}

/* --- back-pressure --- */

enum { SMALL_ROOM = 16384, HELD_MAX = 4 * 1024 * 1024 };

/* broker_fills writes until nothing has moved for a moment; what it returns sits in kernel buffers and one of ours. */
static size_t broker_fills(pair *with) {
  static const uint8_t zeros[10000];
  size_t total = 0;
  struct pollfd waiting = {.fd = with->broker, .events = POLLOUT};
  while (poll(&waiting, 1, 300) == 1) {
    ssize_t put = send(with->broker, zeros, sizeof zeros, MSG_DONTWAIT | MSG_NOSIGNAL);
    CHECK(put > 0);
    total += (size_t)put;
    CHECK(total < HELD_MAX);
  }
  return total;
}

static void client_reads_zeros(pair *with, size_t total) {
  uint8_t in[4096];
  for (size_t at = 0; at < total;) {
    int got = SSL_read(with->client, in, (int)(total - at < sizeof in ? total - at : sizeof in));
    CHECK(got > 0 && in[0] == 0 && in[got - 1] == 0);
    at += (size_t)got;
  }
}

static void a_client_that_does_not_read_stops_the_broker(void) {
  stage on;
  pair with;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  pair_make(&on, &with, 0, SMALL_ROOM);
  adopt(&on, &with, 1, "");
  size_t held = broker_fills(&with);
  client_says(&with, "still heard", 11); /* the other direction is not held up */
  broker_hears(&with, "still heard", 11);
  client_reads_zeros(&with, held);
  both_ways(&with);
  pair_close(&with);
  stage_close(&on);
}

static void a_broker_that_does_not_read_stops_the_client(void) {
  stage on;
  pair with;
  uint8_t bytes_in[4096] = {0};
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  pair_make(&on, &with, 0, SMALL_ROOM);
  adopt(&on, &with, 1, "");
  set_blocking(with.client_fd, 0);
  size_t held = 0;
  struct pollfd waiting = {.fd = with.client_fd, .events = POLLOUT};
  while (poll(&waiting, 1, 300) == 1) {
    int put = SSL_write(with.client, bytes_in, sizeof bytes_in);
    held += put > 0 ? (size_t)put : 0;
    CHECK(held < HELD_MAX);
  }
  set_blocking(with.client_fd, 1);
  broker_says(&with, "still heard", 11);
  client_hears(&with, "still heard", 11);
  for (size_t at = 0; at < held;) {
    ssize_t got = recv(with.broker, bytes_in, held - at < sizeof bytes_in ? held - at : sizeof bytes_in, 0);
    CHECK(got > 0);
    at += (size_t)got;
  }
  pair_close(&with);
  stage_close(&on);
}

/* --- half-closing --- */

static void after_the_clients_close_notify_the_broker_goes_on(void) {
  stage on;
  pair with;
  for (int i = 0; i < 2; i++) {
    stage_open(&on, VERSIONS[i], GW_CHECK_OFF, &DEFAULTS);
    pair_open(&on, &with, 1);
    client_says(&with, "last", 4);
    CHECK(SSL_shutdown(with.client) == 0);
    broker_hears(&with, "last", 4);
    broker_hears_the_end(&with);
    broker_says(&with, "answer", 6);
    client_hears(&with, "answer", 6);
    CHECK(shutdown(with.broker, SHUT_WR) == 0);
    client_hears_close_notify(&with);
    CHECK(next_event(&on).end == GW_END_CLIENT_CLOSED);
    pair_close(&with);
    stage_close(&on);
  }
}

static void after_the_brokers_end_the_client_goes_on(void) {
  stage on;
  pair with;
  for (int i = 0; i < 2; i++) {
    stage_open(&on, VERSIONS[i], GW_CHECK_OFF, &DEFAULTS);
    pair_open(&on, &with, 1);
    broker_says(&with, "last", 4);
    CHECK(shutdown(with.broker, SHUT_WR) == 0);
    client_hears(&with, "last", 4);
    client_hears_close_notify(&with);
    client_says(&with, "answer", 6);
    broker_hears(&with, "answer", 6);
    CHECK(SSL_shutdown(with.client) == 1);
    broker_hears_the_end(&with);
    CHECK(next_event(&on).end == GW_END_BROKER_CLOSED);
    pair_close(&with);
    stage_close(&on);
  }
}

static void both_ends_at_once_are_one_end(void) {
  stage on;
  pair with;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  pair_make(&on, &with, 0, 0);
  client_says(&with, "bye", 3);
  broker_says(&with, "bye", 3);
  CHECK(SSL_shutdown(with.client) == 0 && shutdown(with.broker, SHUT_WR) == 0);
  adopt(&on, &with, 1, "");
  broker_hears(&with, "bye", 3);
  broker_hears_the_end(&with);
  client_hears(&with, "bye", 3);
  client_hears_close_notify(&with);
  int end = next_event(&on).end; /* whichever was seen first */
  CHECK(end == GW_END_CLIENT_CLOSED || end == GW_END_BROKER_CLOSED);
  pair_close(&with);
  stage_close(&on);
}

/* --- TLS within a session --- */

static void key_updates_pass_unnoticed(void) {
  stage on;
  pair with;
  stage_open(&on, TLS1_3_VERSION, GW_CHECK_OFF, &DEFAULTS);
  pair_open(&on, &with, 1);
  for (int i = 0; i < 6; i++) {
    CHECK(SSL_key_update(with.client, i % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
    CHECK(SSL_do_handshake(with.client) == 1);
    both_ways(&with);
  }
  pair_close(&with);
  stage_close(&on);
}

static void a_renegotiation_is_refused_and_stalls_nobody_else(void) {
  stage on;
  pair with, other;
  stage_open(&on, TLS1_2_VERSION, GW_CHECK_OFF, &DEFAULTS);
  pair_open(&on, &with, 1);
  pair_open(&on, &other, 2);
  both_ways(&with);
  CHECK(SSL_renegotiate(with.client) == 1);
  /* Our client takes the refusal for an error and gives up; what matters is what becomes of the relay. */
  CHECK(SSL_do_handshake(with.client) != 1);
  both_ways(&other);
  pair_close(&with);
  CHECK(next_event(&on).id == 1);
  both_ways(&other);
  pair_close(&other);
  stage_close(&on);
}

int main(void) {
  (void)signal(SIGPIPE, SIG_IGN); /* for the clients of the test; the relay thread needs it not */
  use_system_openssl();
  RUN(small_messages_go_both_ways);
  RUN(the_preface_goes_first);
  RUN(megabytes_come_back_whole);
  RUN(a_client_that_does_not_read_stops_the_broker);
  RUN(a_broker_that_does_not_read_stops_the_client);
  RUN(after_the_clients_close_notify_the_broker_goes_on);
  RUN(after_the_brokers_end_the_client_goes_on);
  RUN(both_ends_at_once_are_one_end);
  RUN(key_updates_pass_unnoticed);
  RUN(a_renegotiation_is_refused_and_stalls_nobody_else);
  return 0;
}
