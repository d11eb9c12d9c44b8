/* Which certificates a client is shown, by the name that it asks for (RFC 6066, section 3). */
#include "../sni.h"
#include "tls_ends.h"

static const int VERSIONS[] = {TLS1_2_VERSION, TLS1_3_VERSION};
enum { A, B, C }; /* what the names below lead to: any addresses do */
static char places[3];

static const gw_sni_name NAMES[] = {
    {"*.example.com", &places[A]}, {"a.b.example.com", &places[B]}, {"www.example.com", &places[C]}};
static const gw_sni SNI = {NAMES, sizeof NAMES / sizeof *NAMES};

static void a_name_is_found_whatever_its_case_and_with_a_dot_at_its_end(void) {
  CHECK(gw_sni_find(&SNI, "www.example.com") == &places[C]);
  CHECK(gw_sni_find(&SNI, "WWW.Example.COM") == &places[C]);
  CHECK(gw_sni_find(&SNI, "www.example.com.") == &places[C]);
  CHECK(gw_sni_find(&SNI, "www.example.com..") == NULL);
}

static void a_wildcard_stands_for_one_label(void) {
  CHECK(gw_sni_find(&SNI, "api.example.com") == &places[A]);
  CHECK(gw_sni_find(&SNI, "API.EXAMPLE.COM.") == &places[A]);
  CHECK(gw_sni_find(&SNI, "a.b.example.com") == &places[B]);
  CHECK(gw_sni_find(&SNI, "c.b.example.com") == NULL);
  CHECK(gw_sni_find(&SNI, "example.com") == NULL);
  CHECK(gw_sni_find(&SNI, ".example.com") == NULL);
}

static void what_is_no_name_is_not_found(void) {
  char longest[258];
  memset(longest, 'a', sizeof longest);
  memcpy(longest + 242, ".example.com", 13);
  CHECK(strlen(longest) == 254 && gw_sni_find(&SNI, longest) == &places[A]);
  memset(longest, 'a', sizeof longest);
  memcpy(longest + 244, ".example.com", 13);
  CHECK(strlen(longest) == 256 && gw_sni_find(&SNI, longest) == NULL);
  CHECK(gw_sni_find(&SNI, "") == NULL);
  CHECK(gw_sni_find(&SNI, ".") == NULL);
  CHECK(gw_sni_find(&SNI, "\xff\xfe") == NULL);
}

/* A door with two contexts: `door.context` for most, `other` for www.example.com. */
typedef struct {
  gateway door;
  identity shown;
  SSL_CTX *other;
  gw_sni_name name;
  gw_sni sni;
} stage;

static void open_stage(stage *on) {
  gateway_open(&on->door, (gw_rules){.check = GW_CHECK_OFF}, SSL_VERIFY_PEER);
  on->shown = identity_make("shown", "04", &on->door.root, 0);
  on->other = SSL_CTX_new(TLS_server_method());
  CHECK(on->other != NULL && SSL_CTX_use_certificate(on->other, on->shown.certificate) == 1);
  CHECK(SSL_CTX_use_PrivateKey(on->other, on->shown.key) == 1);
  CHECK(SSL_CTX_set_session_id_context(on->other, (const unsigned char *)"test", 4) == 1);
  CHECK(X509_STORE_add_cert(SSL_CTX_get_cert_store(on->other), on->door.root.certificate) == 1);
  on->name = (gw_sni_name){"www.example.com", on->other};
  on->sni = (gw_sni){&on->name, 1};
  gw_sni_attach(&on->sni, on->door.context);
}

static void close_stage(stage *on) {
  gateway_close(&on->door);
  SSL_CTX_free(on->other);
  identity_free(&on->shown);
}

/* shown returns 1 when a client that asks for |host| (NULL for none) is shown |expected|, after a full handshake
 * or, with |session|, a resumed one. It keeps a ticket in |ticket|, unless NULL. */
static int shown(stage *on, int version, const char *host, SSL_SESSION *session, const identity *expected,
                 SSL_SESSION **ticket) {
  client end;
  client_open(&end, &on->door, version, NULL, session);
  CHECK(host == NULL || SSL_set_tlsext_host_name(end.ssl, host) == 1);
  CHECK(shake(&end) == GW_HANDSHAKE_DONE && SSL_session_reused(end.ssl) == (session != NULL));
  X509 *certificate = SSL_get_peer_certificate(end.ssl);
  int same = certificate != NULL && X509_cmp(certificate, expected->certificate) == 0;
  X509_free(certificate);
  if (ticket != NULL) {
    *ticket = end.session;
    end.session = NULL;
  }
  (void)client_close(&end);
  return same;
}

static void the_certificate_of_the_name_is_shown_and_else_the_first(void) {
  for (int i = 0; i < 2; i++) {
    stage on;
    open_stage(&on);
    CHECK(shown(&on, VERSIONS[i], "www.example.com", NULL, &on.shown, NULL));
    CHECK(shown(&on, VERSIONS[i], "WWW.EXAMPLE.COM.", NULL, &on.shown, NULL));
    CHECK(shown(&on, VERSIONS[i], "elsewhere.example.com", NULL, &on.door.server, NULL));
    CHECK(shown(&on, VERSIONS[i], NULL, NULL, &on.door.server, NULL));
    close_stage(&on);
  }
}

static void a_ticket_is_taken_whatever_name_it_was_made_with(void) {
  for (int i = 0; i < 2; i++) {
    stage on;
    SSL_SESSION *ticket = NULL;
    open_stage(&on);
    CHECK(shown(&on, VERSIONS[i], "www.example.com", NULL, &on.shown, &ticket) && ticket != NULL);
    CHECK(shown(&on, VERSIONS[i], "www.example.com", ticket, &on.shown, NULL));
    SSL_SESSION_free(ticket);
    CHECK(shown(&on, VERSIONS[i], "elsewhere.example.com", NULL, &on.door.server, &ticket) && ticket != NULL);
    CHECK(shown(&on, VERSIONS[i], "elsewhere.example.com", ticket, &on.door.server, NULL));
    SSL_SESSION_free(ticket);
    close_stage(&on);
  }
}

static void a_name_that_is_served_is_acknowledged(void) {
  stage on;
  open_stage(&on);
  client end;
  client_open(&end, &on.door, TLS1_2_VERSION, NULL, NULL);
  CHECK(SSL_set_tlsext_host_name(end.ssl, "www.example.com") == 1 && shake(&end) == GW_HANDSHAKE_DONE);
  /* OpenSSL's client keeps the name with the session once the server has acknowledged it. */
  CHECK(strcmp(SSL_SESSION_get0_hostname(SSL_get0_session(end.ssl)), "www.example.com") == 0);
  (void)client_close(&end);
  close_stage(&on);
}

/* The verify callback and its mode are those of the context that the handshake began in. */
static void a_client_is_judged_the_same_under_every_name(void) {
  for (int i = 0; i < 2; i++) {
    stage on;
    open_stage(&on);
    identity stranger = identity_make("stranger", "01", NULL, 1), device = identity_make("device", "07", &on.door.root, 0);
    for (int j = 0; j < 2; j++) {
      client end;
      client_open(&end, &on.door, VERSIONS[i], j == 0 ? &device : &stranger, NULL);
      CHECK(SSL_set_tlsext_host_name(end.ssl, "www.example.com") == 1);
      CHECK(shake(&end) == (j == 0 ? GW_HANDSHAKE_DONE : GW_HANDSHAKE_FAILED));
      CHECK(client_close(&end) == (j == 0 ? SSL_AD_CLOSE_NOTIFY : SSL_AD_UNKNOWN_CA));
    }
    identity_free(&stranger);
    identity_free(&device);
    close_stage(&on);
  }
}

int main(void) {
  use_system_openssl();
  RUN(a_name_is_found_whatever_its_case_and_with_a_dot_at_its_end);
  RUN(a_wildcard_stands_for_one_label);
  RUN(what_is_no_name_is_not_found);
  RUN(the_certificate_of_the_name_is_shown_and_else_the_first);
  RUN(a_ticket_is_taken_whatever_name_it_was_made_with);
  RUN(a_name_that_is_served_is_acknowledged);
  RUN(a_client_is_judged_the_same_under_every_name);
  return 0;
}
