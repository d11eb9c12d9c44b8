/* test_front_accept.c - who comes in: as many as may, from every socket, whatever accept(2) says. */
#include <fcntl.h>
#include <sys/resource.h>

#include "front_stage.h"

/* --- quotas --- */

static void without_a_quota_clients_wait_in_the_kernel_and_nothing_spins(void) {
  enum { MANY = 3 };
  stage on;
  client under_way, ends[MANY];
  stage_open(&on, TIMEOUT_MS);
  client_connect(&under_way, &on, TLS1_3_VERSION, &on.good);
  take_in(&on, 1);
  for (int i = 0; i < MANY; i++) {
    client_connect(&ends[i], &on, TLS1_3_VERSION, &on.good);
  }
  CHECK(is_ready(&on));
  CHECK(step(&on, 0) == 0 && on.intake.accepted == 0 && !on.intake.busy);
  CHECK(!is_ready(&on) && in_progress(&on) == 1);
  for (int i = 0; !on.ended; i++) { /* handshakes under way go on */
    CHECK(i < MAX_STEPS);
    client_steps(&under_way);
    CHECK(is_ready(&on));
    (void)step(&on, 0);
  }
  CHECK(on.arrivals[0].clear && !is_ready(&on) && in_progress(&on) == 0);
  CHECK(step(&on, 1) == 0 && on.intake.accepted == 1 && in_progress(&on) == 1);
  CHECK(!is_ready(&on)); /* the quota is used up */
  CHECK(step(&on, 2) == 0 && on.intake.accepted == 1 && is_ready(&on)); /* and now it is not */
  CHECK(step(&on, 1) == 0 && on.intake.accepted == 1 && in_progress(&on) == 3);
  shake_all(&on, ends, MANY, 1 + MANY);
  for (int i = 0; i < MANY; i++) {
    (void)client_close(&ends[i]);
  }
  (void)client_close(&under_way);
  stage_close(&on);
}

static void with_a_quota_left_the_next_client_is_noticed(void) {
  stage on;
  stage_open(&on, TIMEOUT_MS);
  for (int times = 0; times < 3; times++) {
    CHECK(step(&on, 0) == 0 && step(&on, 1) == 0 && on.intake.accepted == 0 && !is_ready(&on));
    int fd = dial_in(&on);
    CHECK(is_ready(&on));
    CHECK(step(&on, 2) == 0 && on.intake.accepted == 1 && !on.intake.busy && !is_ready(&on));
    close(fd);
    shake_all(&on, NULL, 0, times + 1);
  }
  stage_close(&on);
}

/* Nobody is at it and the sockets are silent: if it did not ask for a step, nobody would look at who waits. */
static void a_quota_that_is_used_up_asks_for_another_one(void) {
  stage on;
  stage_open(&on, TIMEOUT_MS);
  int fds[2] = {dial_in(&on), dial_in(&on)};
  say(fds[0], "garbage garbage");
  CHECK(step(&on, 1) == 1 && on.intake.accepted == 1 && in_progress(&on) == 0);
  CHECK(!is_ready(&on) && on.intake.busy);
  CHECK(step(&on, 0) == 0 && !is_ready(&on) && !on.intake.busy); /* it may be 0: then the answer is to wait */
  close(fds[0]);
  close(fds[1]);
  stage_close(&on);
}

static void one_step_takes_no_more_than_a_batch_and_says_that_there_is_more(void) {
  enum { MANY = 40 };
  stage on;
  int fds[MANY];
  stage_open(&on, TIMEOUT_MS);
  for (int i = 0; i < MANY; i++) {
    fds[i] = dial_in(&on);
  }
  int steps = 0, accepted = 0;
  do {
    CHECK(step(&on, ROOM) == 0 && steps++ < MAX_STEPS);
    accepted += on.intake.accepted;
  } while (on.intake.busy || is_ready(&on));
  CHECK(accepted == MANY && steps >= 3 && !is_ready(&on));
  for (int i = 0; i < MANY; i++) {
    close(fds[i]);
  }
  stage_close(&on);
}

static void who_is_turned_away_is_closed_and_costs_nothing(void) {
  enum { MANY = 3 };
  stage on;
  int fds[MANY];
  stage_open(&on, TIMEOUT_MS);
  for (int i = 0; i < MANY; i++) {
    fds[i] = dial_in(&on);
    say(fds[i], "\x16\x03\x01");
  }
  for (int i = 0; i < MANY - 1; i++) {
    CHECK(step_with(&on, (gw_intake){.quota = MANY, .turn_away = 1}, ROOM) == 0);
    CHECK(on.intake.accepted == 1 && on.intake.code == 0 && in_progress(&on) == 0 && on.gauge == 0);
  }
  CHECK(is_closed(fds[0]) && is_closed(fds[1]));
  CHECK(step(&on, MANY) == 0 && on.intake.accepted == 1 && in_progress(&on) == 1); /* there is room again */
  for (int i = 0; i < MANY; i++) {
    close(fds[i]);
  }
  stage_close(&on);
}

/* --- sockets --- */

static void clients_come_in_by_every_socket(void) {
  enum { SOCKETS = 3, EACH = 2 };
  stage on;
  client ends[SOCKETS * EACH];
  int more[SOCKETS];
  gw_error error;
  stage_open(&on, TIMEOUT_MS);
  for (int i = 0; i < SOCKETS; i++) {
    struct sockaddr_in address;
    more[i] = listening_socket(&address);
    CHECK(gw_front_listen(on.front, more[i], &error));
    for (int each = 0; each < EACH; each++) {
      int fd = dial((struct sockaddr *)&address, sizeof address);
      client_begin(&ends[i * EACH + each], fd, VERSIONS[each], &on.good, NULL);
    }
  }
  CHECK(step(&on, 0) == 0 && !is_ready(&on)); /* all of them are silent without a quota */
  shake_all(&on, ends, SOCKETS * EACH, SOCKETS * EACH);
  for (int i = 0; i < SOCKETS * EACH; i++) {
    CHECK(arrival_of(&on, ends[i].fd)->clear);
    (void)client_close(&ends[i]);
  }
  forget(&on);
  stage_close(&on);
  for (int i = 0; i < SOCKETS; i++) {
    CHECK(fcntl(more[i], F_GETFD) < 0); /* closed with the front */
  }
}

static void a_socket_added_without_a_quota_is_silent_until_there_is_one(void) {
  stage on;
  gw_error error;
  struct sockaddr_in address;
  stage_open(&on, TIMEOUT_MS);
  CHECK(step(&on, 0) == 0);
  int later = listening_socket(&address), fd = dial((struct sockaddr *)&address, sizeof address);
  CHECK(gw_front_listen(on.front, later, &error) && !is_ready(&on));
  CHECK(step(&on, 1) == 0 && on.intake.accepted == 1);
  close(fd);
  stage_close(&on);
}

static void what_cannot_be_listened_to_is_an_error_with_a_reason(void) {
  enum { MOST = 64 };
  stage on;
  int more[MOST];
  gw_error error = {""};
  struct sockaddr_in address;
  stage_open(&on, TIMEOUT_MS);
  CHECK(!gw_front_listen(on.front, -1, &error) && strstr(error.text, "Bad file descriptor") != NULL);
  for (int i = 1; i < MOST; i++) {
    more[i] = listening_socket(&address);
    CHECK(gw_front_listen(on.front, more[i], &error));
  }
  more[0] = listening_socket(&address);
  CHECK(!gw_front_listen(on.front, more[0], &error) && strcmp(error.text, "more than 64 addresses") == 0);
  CHECK(close(more[0]) == 0); /* not the front's */
  stage_close(&on);
}

/* The supervisor has the socket open too, so that closing it alone would not take it out of the epoll set. */
static void after_listening_nobody_comes_in_and_handshakes_go_on(void) {
  stage on;
  client end;
  stage_open(&on, TIMEOUT_MS);
  client_connect(&end, &on, TLS1_3_VERSION, &on.good);
  take_in(&on, 1);
  int late = dial_in(&on), also_open = dup(on.listening);
  gw_front_stop_listening(on.front);
  CHECK(fcntl(on.listening, F_GETFD) < 0 && !is_ready(&on));
  shake_all(&on, &end, 1, 1);
  CHECK(on.arrivals[0].clear && on.intake.code == 0 && !is_ready(&on));
  CHECK(close(late) == 0 && close(also_open) == 0);
  (void)client_close(&end);
  stage_close(&on);
}

/* --- errors of accept --- */

static void what_concerns_one_client_delays_no_other(void) {
  static const int CODES[] = {ECONNABORTED, EPROTO,    EPERM,  EINTR,        ENETDOWN,
                              ENOPROTOOPT,  EHOSTDOWN, ENONET, EHOSTUNREACH, ENETUNREACH};
  for (size_t i = 0; i < sizeof CODES / sizeof *CODES; i++) {
    stage on;
    stage_open(&on, TIMEOUT_MS);
    int fd = dial_in(&on);
    accept_errors[0] = CODES[i];
    CHECK(step(&on, ROOM) == 0 && on.intake.code == 0 && is_ready(&on));
    CHECK(step(&on, ROOM) == 0 && on.intake.code == 0 && on.intake.accepted == 1);
    close(fd);
    stage_close(&on);
  }
}

static void who_was_somebody_elses_is_nobodys_error(void) {
  stage on;
  stage_open(&on, TIMEOUT_MS);
  int fd = dial_in(&on);
  accept_errors[0] = EAGAIN;
  CHECK(step(&on, ROOM) == 0 && on.intake.code == 0);
  close(fd);
  stage_close(&on);
}

static void what_concerns_us_is_told_and_clients_wait_until_the_next_step(void) {
  static const int CODES[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, EBADF, EINVAL};
  for (size_t i = 0; i < sizeof CODES / sizeof *CODES; i++) {
    stage on;
    stage_open(&on, TIMEOUT_MS);
    int fd = dial_in(&on);
    accept_errors[0] = CODES[i];
    CHECK(step(&on, ROOM) == 0 && on.intake.code == CODES[i] && on.intake.accepted == 0 && !on.intake.busy);
    CHECK(!is_ready(&on));
    CHECK(step(&on, ROOM) == 0 && on.intake.code == 0 && on.intake.accepted == 1);
    close(fd);
    stage_close(&on);
  }
}

static void an_error_of_ours_is_told_whatever_another_socket_says(void) {
  static const int SECOND[] = {ECONNABORTED, EAGAIN};
  for (int i = 0; i < 2; i++) {
    stage on;
    gw_error error;
    struct sockaddr_in address;
    stage_open(&on, TIMEOUT_MS);
    int other = listening_socket(&address);
    CHECK(gw_front_listen(on.front, other, &error));
    int fds[] = {dial_in(&on), dial((struct sockaddr *)&address, sizeof address)};
    accept_errors[0] = EMFILE;
    accept_errors[1] = SECOND[i];
    CHECK(step(&on, ROOM) == 0 && on.intake.code == EMFILE && accept_errors[0] == 0);
    close(fds[0]);
    close(fds[1]);
    stage_close(&on);
  }
}

/* The kernel's own word for it, and a handshake under way that needs no new descriptor. */
static void without_descriptors_clients_wait_and_handshakes_go_on(void) {
  stage on;
  client under_way;
  struct rlimit before, none;
  stage_open(&on, TIMEOUT_MS);
  client_connect(&under_way, &on, TLS1_3_VERSION, &on.good);
  take_in(&on, 1);
  client_steps(&under_way);
  int fds[] = {dial_in(&on), dial_in(&on)};
  CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
  none = before;
  none.rlim_cur = 3;
  CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
  CHECK(step(&on, ROOM) == 0 && on.intake.code == EMFILE && on.intake.accepted == 0 && !is_ready(&on));
  client_steps(&under_way);
  CHECK(step(&on, 0) == 1 && on.arrivals[0].clear);
  CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
  /* Valgrind keeps the limit itself, and closes the client that the kernel had accepted. */
  CHECK(step(&on, ROOM) == 0 && on.intake.code == 0 && on.intake.accepted >= 1);
  (void)client_close(&under_way);
  close(fds[0]);
  close(fds[1]);
  stage_close(&on);
}

/* --- who it is --- */

static void a_client_over_ipv6_is_known_by_its_address(void) {
  struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback}, own;
  socklen_t length = sizeof address;
  gw_error error;
  gw_peer peer;
  int listening = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listening < 0 || bind(listening, (struct sockaddr *)&address, length) != 0) {
    printf("skipped: this machine has no IPv6\n");
    close(listening);
    return;
  }
  CHECK(listen(listening, 1) == 0 && getsockname(listening, (struct sockaddr *)&address, &length) == 0);
  stage on;
  stage_open(&on, TIMEOUT_MS);
  CHECK(gw_front_listen(on.front, listening, &error));
  int fd = dial((struct sockaddr *)&address, sizeof address);
  say(fd, "garbage garbage");
  shake_all(&on, NULL, 0, 1);
  CHECK(getsockname(fd, (struct sockaddr *)&own, &length) == 0);
  peer = on.arrivals[0].conn->peer;
  CHECK(memcmp(&peer, &own, sizeof own) == 0);
  close(fd);
  stage_close(&on);
}

static void of_a_client_that_has_gone_already_no_address_is_known(void) {
  const struct linger now = {.l_onoff = 1};
  stage on;
  gw_peer peer;
  stage_open(&on, TIMEOUT_MS);
  int fd = dial_in(&on);
  CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0 && close(fd) == 0); /* a reset */
  shake_all(&on, NULL, 0, 1);
  peer = on.arrivals[0].conn->peer;
  CHECK(on.arrivals[0].result == GW_HANDSHAKE_FAILED && on.arrivals[0].error.text[0] != '\0' && peer.sin6_family == 0);
  stage_close(&on);
}

int main(void) {
  use_system_openssl();
  RUN(without_a_quota_clients_wait_in_the_kernel_and_nothing_spins);
  RUN(with_a_quota_left_the_next_client_is_noticed);
  RUN(a_quota_that_is_used_up_asks_for_another_one);
  RUN(one_step_takes_no_more_than_a_batch_and_says_that_there_is_more);
  RUN(who_is_turned_away_is_closed_and_costs_nothing);
  RUN(clients_come_in_by_every_socket);
  RUN(a_socket_added_without_a_quota_is_silent_until_there_is_one);
  RUN(what_cannot_be_listened_to_is_an_error_with_a_reason);
  RUN(after_listening_nobody_comes_in_and_handshakes_go_on);
  RUN(what_concerns_one_client_delays_no_other);
  RUN(who_was_somebody_elses_is_nobodys_error);
  RUN(what_concerns_us_is_told_and_clients_wait_until_the_next_step);
  RUN(an_error_of_ours_is_told_whatever_another_socket_says);
  RUN(without_descriptors_clients_wait_and_handshakes_go_on);
  RUN(a_client_over_ipv6_is_known_by_its_address);
  RUN(of_a_client_that_has_gone_already_no_address_is_known);
  return 0;
}
