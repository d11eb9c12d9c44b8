/* test_serve.c - the relay's thread serves a front: who is good is relayed with nobody else's help, of all others the
 * reader is told. */
#include <fcntl.h>
#include <sys/un.h>

#include "../clock.h"
#include "front_stage.h"

enum { MANY = 12, NOBODY_WAITS = 50 };

static const gw_limits GENEROUS = {.handshakes = 1000, .connections = 1000};
static const gw_relay_options QUIET = {.linger_ms = 30000, .connect_ms = 5000, .events_max = 1024, .quiet = 1};

/* A stage whose front is served. */
typedef struct {
  stage on;
  gw_relay *relay;
  int broker; /* listens */
  gw_broker brokers[2];
} served;

/* set_broker makes |house|'s broker |number| the one at |address|. */
static void set_broker(served *house, int number, const void *address, socklen_t length) {
  memcpy(&house->brokers[number].address, address, length);
  house->brokers[number].length = length;
  house->brokers[number].share = GW_FULL_SHARE;
}

/* served_open_with serves a front that hands over to |count| brokers. The first listens, unless it has been set. */
static void served_open_with(served *house, const gw_limits *limits, size_t count) {
  gw_error error;
  struct sockaddr_in address;
  stage_open(&house->on, TIMEOUT_MS);
  house->broker = listening_socket(&address);
  if (house->brokers[0].length == 0) {
    set_broker(house, 0, &address, sizeof address);
  }
  house->relay = gw_relay_new(house->on.door.world, &QUIET, &error);
  CHECK(house->relay != NULL);
  house->on.front->relay = house->relay;
  house->on.front->brokers = house->brokers;
  house->on.front->broker_count = count;
  CHECK(gw_relay_serve(house->relay, house->on.front, limits, &error) == 1);
}

static void served_open(served *house, const gw_limits *limits) {
  memset(house->brokers, 0, sizeof house->brokers);
  served_open_with(house, limits, 1);
}

static void served_close(served *house) {
  gw_relay_stop(house->relay);
  gw_relay_free(house->relay);
  CHECK(close(house->broker) == 0);
  CHECK(house->on.door.counters[GW_COUNT_LIVE] == 0);
  stage_close(&house->on);
  CHECK(house->on.door.counters[GW_COUNT_HANDSHAKING] == 0);
}

static uint64_t counted(const served *house, int which) {
  return __atomic_load_n(&house->on.door.counters[which], __ATOMIC_RELAXED);
}

static void wait_readable(int fd) {
  struct pollfd waiting = {.fd = fd, .events = POLLIN};
  CHECK(poll(&waiting, 1, PATIENCE * 1000) == 1);
}

static int nothing_is_told(const served *house) {
  gw_arrival arrival;
  gw_relay_event event;
  struct pollfd waiting = {.fd = gw_relay_event_fd(house->relay), .events = POLLIN};
  CHECK(!gw_relay_next_arrival(house->relay, &arrival) && !gw_relay_next_event(house->relay, &event));
  return poll(&waiting, 1, NOBODY_WAITS) == 0;
}

static gw_arrival next_arrival(const served *house) {
  gw_arrival arrival;
  while (!gw_relay_next_arrival(house->relay, &arrival)) {
    wait_readable(gw_relay_event_fd(house->relay));
  }
  return arrival;
}

/* enter makes |end| finish its handshake, well or not. */
static void enter(client *end) {
  while (!SSL_is_init_finished(end->ssl)) {
    int result = SSL_do_handshake(end->ssl);
    if (result != 1) {
      CHECK(SSL_get_error(end->ssl, result) == SSL_ERROR_WANT_READ);
      wait_readable(end->fd);
    }
  }
  ERR_clear_error();
}

/* relays has |end| say something to the broker, which must hear it, and returns the broker's socket. */
static int relays(const served *house, client *end) {
  char heard[5];
  CHECK(SSL_write(end->ssl, "hello", 5) == 5);
  wait_readable(house->broker);
  int broker = accept4(house->broker, NULL, NULL, SOCK_CLOEXEC);
  CHECK(broker >= 0 && recv(broker, heard, sizeof heard, MSG_WAITALL) == 5 && memcmp(heard, "hello", 5) == 0);
  return broker;
}

static void good_clients_are_relayed_and_nobody_is_told(void) {
  served house;
  client ends[MANY];
  int brokers[MANY];
  served_open(&house, &GENEROUS);
  for (int i = 0; i < MANY; i++) {
    client_connect(&ends[i], &house.on, VERSIONS[i % 2], &house.on.good);
    enter(&ends[i]);
    brokers[i] = relays(&house, &ends[i]);
  }
  CHECK(gw_relay_live(house.relay) == MANY && nothing_is_told(&house));
  CHECK(counted(&house, GW_COUNT_RELAYED) == MANY && __atomic_load_n(&house.on.gauge, __ATOMIC_RELAXED) == MANY);
  for (int i = 0; i < MANY; i++) {
    CHECK(close(brokers[i]) == 0);
    (void)client_close(&ends[i]);
  }
  served_close(&house);
}

static void the_next_clear_client_is_told_of_where_that_was_asked_for(void) {
  served house;
  client ends[3];
  served_open(&house, &GENEROUS);
  client_connect(&ends[0], &house.on, TLS1_3_VERSION, &house.on.good);
  enter(&ends[0]);
  int before = relays(&house, &ends[0]);
  __atomic_store_n(&house.on.front->shows, 1, __ATOMIC_RELAXED);
  CHECK(nothing_is_told(&house));
  client_connect(&ends[1], &house.on, TLS1_3_VERSION, &house.on.good);
  enter(&ends[1]);
  gw_arrival told = next_arrival(&house);
  CHECK(told.clear && told.result == GW_HANDSHAKE_DONE);
  gw_conn_free(told.conn);
  client_connect(&ends[2], &house.on, TLS1_3_VERSION, &house.on.good);
  enter(&ends[2]);
  int behind = relays(&house, &ends[2]);
  CHECK(nothing_is_told(&house) && close(before) == 0 && close(behind) == 0);
  for (int i = 0; i < 3; i++) {
    (void)client_close(&ends[i]);
  }
  served_close(&house);
}

static void of_a_refused_client_the_reader_is_told_with_its_listener(void) {
  served house;
  client end;
  served_open(&house, &GENEROUS);
  client_connect(&end, &house.on, TLS1_2_VERSION, &house.on.revoked);
  gw_arrival told;
  while (!gw_relay_next_arrival(house.relay, &told)) { /* its flight may come in several pieces */
    client_steps(&end);
    (void)poll(NULL, 0, 1);
  }
  CHECK(told.result == GW_HANDSHAKE_FAILED && told.clear == 0 && told.listener == house.on.door.listener);
  CHECK(strstr(told.error.text, "revoked") != NULL && told.conn != NULL);
  gw_conn_free(told.conn);
  CHECK(nothing_is_told(&house) && gw_relay_live(house.relay) == 0);
  (void)client_close(&end);
  served_close(&house);
}

static void where_handshakes_are_the_readers_it_is_told_of_whoever_has_come(void) {
  served house = {.broker = -1};
  client end;
  gw_error error;
  stage_open(&house.on, TIMEOUT_MS);
  house.on.front->only_accepts = 1;
  struct sockaddr_in address;
  house.broker = listening_socket(&address);
  house.relay = gw_relay_new(house.on.door.world, &QUIET, &error);
  CHECK(house.relay != NULL && gw_relay_serve(house.relay, house.on.front, &GENEROUS, &error) == 1);
  client_connect(&end, &house.on, TLS1_3_VERSION, &house.on.good);
  gw_arrival told = next_arrival(&house);
  CHECK(told.result == GW_HANDSHAKE_NOT_BEGUN && told.clear == 0 && counted(&house, GW_COUNT_HANDSHAKING) == 0);
  gw_conn_free(told.conn);
  (void)client_close(&end);
  served_close(&house);
}

static void one_that_nobody_has_looked_at_counts_as_a_handshake(void) {
  served house;
  served_open(&house, &GENEROUS);
  int garbage = dial_in(&house.on);
  say(garbage, "GET / HTTP/1.1\r\n\r\n");
  wait_readable(gw_relay_event_fd(house.relay));
  CHECK(counted(&house, GW_COUNT_HANDSHAKING) == 1);
  close(garbage);
  served_close(&house); /* and is freed with the relay */
}

static void without_a_broker_that_answers_at_once_the_reader_is_told_of_a_clear_client(void) {
  const struct sockaddr_un nobody = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/broker.sock"};
  served house = {.broker = -1};
  client end;
  set_broker(&house, 0, &nobody, sizeof nobody);
  served_open_with(&house, &GENEROUS, 1);
  client_connect(&end, &house.on, TLS1_3_VERSION, &house.on.good);
  enter(&end);
  gw_arrival told = next_arrival(&house);
  CHECK(told.result == GW_HANDSHAKE_DONE && told.clear == 1);
  gw_conn_free(told.conn);
  (void)client_close(&end);
  served_close(&house);
}

/* clients_come_to gives two brokers |shares|, lets |count| clients in and checks to which of them each comes. */
static void clients_come_to(const uint32_t shares[2], const int *expected, int count) {
  served house = {.broker = -1};
  struct sockaddr_in address;
  client ends[MANY];
  int second = listening_socket(&address), brokers[MANY];
  set_broker(&house, 1, &address, sizeof address);
  served_open_with(&house, &GENEROUS, 2);
  int first = house.broker;
  for (int i = 0; i < 2; i++) {
    __atomic_store_n(&house.brokers[i].share, shares[i], __ATOMIC_RELAXED);
  }
  for (int i = 0; i < count; i++) {
    client_connect(&ends[i], &house.on, TLS1_3_VERSION, &house.on.good);
    enter(&ends[i]);
    house.broker = expected[i] == 0 ? first : second;
    brokers[i] = relays(&house, &ends[i]);
  }
  house.broker = first;
  for (int i = 0; i < count; i++) {
    CHECK(close(brokers[i]) == 0);
    (void)client_close(&ends[i]);
  }
  CHECK(close(second) == 0);
  served_close(&house);
}

static void brokers_get_clients_in_turn(void) {
  clients_come_to((const uint32_t[]){GW_FULL_SHARE, GW_FULL_SHARE}, (const int[]){0, 1, 0, 1}, 4);
}

static void one_with_a_quarter_of_a_share_gets_a_client_in_each_fourth_of_its_turns(void) {
  clients_come_to((const uint32_t[]){GW_FULL_SHARE, GW_FULL_SHARE / 4}, (const int[]){0, 0, 0, 0, 1, 0}, 6);
}

static void one_without_a_share_is_passed_over(void) {
  clients_come_to((const uint32_t[]){0, GW_FULL_SHARE}, (const int[]){1, 1, 1}, 3);
}

static void where_no_broker_has_a_share_the_reader_is_told_of_a_clear_client(void) {
  served house;
  client end;
  served_open(&house, &GENEROUS);
  __atomic_store_n(&house.brokers[0].share, 0, __ATOMIC_RELAXED);
  client_connect(&end, &house.on, TLS1_3_VERSION, &house.on.good);
  enter(&end);
  gw_arrival told = next_arrival(&house);
  CHECK(told.result == GW_HANDSHAKE_DONE && told.clear == 1);
  gw_conn_free(told.conn);
  (void)client_close(&end);
  served_close(&house);
}

static void a_full_listener_turns_clients_away_and_says_so_once(void) {
  served house;
  gw_limits none = GENEROUS;
  none.connections = 0;
  served_open(&house, &none);
  gw_arrival told = next_arrival(&house);
  CHECK(told.result == GW_DOOR_FULL && told.conn == NULL && told.listener == house.on.door.listener);
  for (int i = 0; i < MANY; i++) {
    int fd = dial_in(&house.on);
    CHECK(is_closed(fd) && close(fd) == 0);
  }
  CHECK(nothing_is_told(&house) && counted(&house, GW_COUNT_THROTTLED) == MANY);
  served_close(&house);
}

static void the_rate_holds_without_a_client_that_wakes_anybody(void) {
  enum { INTERVAL_MS = 20 };
  served house;
  gw_limits slow = GENEROUS;
  slow.interval_us = INTERVAL_MS * 1000;
  served_open(&house, &slow);
  int fds[60];
  int64_t before = gw_now_us();
  for (int i = 0; i < 60; i++) { /* fifty are a second's worth */
    fds[i] = dial_in(&house.on);
    say(fds[i], "garbage garbage");
  }
  for (int i = 0; i < 60; i++) {
    gw_conn_free(next_arrival(&house).conn);
  }
  CHECK(gw_now_us() - before >= (60 - 51) * INTERVAL_MS * 1000);
  for (int i = 0; i < 60; i++) {
    close(fds[i]);
  }
  served_close(&house);
}

static void an_error_of_accept_is_told_and_after_a_pause_clients_come_in(void) {
  served house;
  client end;
  accept_errors[0] = EMFILE;
  served_open(&house, &GENEROUS);
  client_connect(&end, &house.on, TLS1_3_VERSION, &house.on.good);
  gw_arrival told = next_arrival(&house);
  CHECK(told.result == GW_DOOR_STUCK && told.code == EMFILE && told.conn == NULL);
  enter(&end);
  CHECK(close(relays(&house, &end)) == 0);
  (void)client_close(&end);
  served_close(&house);
}

static void after_listening_handshakes_go_on_and_nobody_comes_in(void) {
  served house;
  client end;
  served_open(&house, &GENEROUS);
  client_connect(&end, &house.on, TLS1_3_VERSION, &house.on.good);
  client_steps(&end);
  wait_readable(end.fd);
  CHECK(!gw_relay_silent(house.relay));
  gw_relay_stop_listening(house.relay);
  while (!gw_relay_silent(house.relay)) {
    (void)poll(NULL, 0, 1);
  }
  CHECK(fcntl(house.on.listening, F_GETFD) < 0);
  int late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(connect(late, (struct sockaddr *)&house.on.address, sizeof house.on.address) < 0 && errno == ECONNREFUSED);
  enter(&end);
  CHECK(close(relays(&house, &end)) == 0 && close(late) == 0);
  (void)client_close(&end);
  served_close(&house);
}

static void stopped_it_lets_go_of_whoever_is_at_it(void) {
  served house;
  served_open(&house, &GENEROUS);
  int silent = dial_in(&house.on);
  say(silent, "\x16");
  while (counted(&house, GW_COUNT_HANDSHAKING) == 0) {
    (void)poll(NULL, 0, 1);
  }
  served_close(&house);
  CHECK(is_closed(silent) && close(silent) == 0);
}

int main(void) {
  use_system_openssl();
  RUN(good_clients_are_relayed_and_nobody_is_told);
  RUN(the_next_clear_client_is_told_of_where_that_was_asked_for);
  RUN(of_a_refused_client_the_reader_is_told_with_its_listener);
  RUN(where_handshakes_are_the_readers_it_is_told_of_whoever_has_come);
  RUN(one_that_nobody_has_looked_at_counts_as_a_handshake);
  RUN(without_a_broker_that_answers_at_once_the_reader_is_told_of_a_clear_client);
  RUN(brokers_get_clients_in_turn);
  RUN(one_with_a_quarter_of_a_share_gets_a_client_in_each_fourth_of_its_turns);
  RUN(one_without_a_share_is_passed_over);
  RUN(where_no_broker_has_a_share_the_reader_is_told_of_a_clear_client);
  RUN(a_full_listener_turns_clients_away_and_says_so_once);
  RUN(the_rate_holds_without_a_client_that_wakes_anybody);
  RUN(an_error_of_accept_is_told_and_after_a_pause_clients_come_in);
  RUN(after_listening_handshakes_go_on_and_nobody_comes_in);
  RUN(stopped_it_lets_go_of_whoever_is_at_it);
  return 0;
}
