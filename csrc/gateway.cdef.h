/* What Python sees of the extension. The specification of each function is in
 * the header of the same name; the compiler checks that both agree. */

/* error.h */
typedef struct {
  char text[256];
} gw_error;

/* counters.h */
enum {
  GW_COUNT_ACCEPTED,
  GW_COUNT_HANDSHAKES,
  GW_COUNT_RESUMED,
  GW_COUNT_FAILED,
  GW_COUNT_TIMED_OUT,
  GW_COUNT_REFUSED_REVOKED,
  GW_COUNT_REFUSED_NO_LIST,
  GW_COUNT_REFUSED_STALE,
  GW_COUNT_ACCEPTED_UNCHECKED,
  GW_COUNT_LOOKUPS,
  GW_COUNT_LIVE,
  GW_COUNT_RELAYED,
  GW_COUNT_DISCONNECTED,
  GW_COUNT_BYTES_IN,
  GW_COUNT_BYTES_OUT,
  GW_COUNT_UPSTREAM_FAILED,
  GW_COUNT_STAPLED,
  GW_COUNT_HANDSHAKING,
  GW_COUNT_THROTTLED,
  GW_COUNT_TLS12,
  GW_COUNT_HANDSHAKE_MS,
  GW_COUNT_REFUSED_NO_ANSWER,
  GW_COUNT_UNLOGGED,
  GW_COUNT_HANDSHAKE_TIME,
  GW_TIME_BUCKETS = 15,
  GW_COUNT_TOTAL = 37
};
void gw_count(uint64_t *page, int which, uint64_t delta);

/* openssl_table.h */
typedef struct {
  const char *name;
  const char *type;
  void *address;
} gw_openssl_slot;
extern const gw_openssl_slot gw_openssl_slots[];

typedef struct ssl_st SSL;
typedef struct x509_st X509;

/* revoked.h */
typedef struct {
  const uint8_t *issuer_name;
  size_t issuer_name_length;
  const uint8_t *issuer_key;
  size_t issuer_key_length;
  const uint8_t *signature;
  size_t signature_length;
  const uint8_t *number;
  size_t number_length;
  int64_t this_update;
  int64_t next_update;
  int indirect;
} gw_table_meta;
typedef struct {
  const uint8_t *serial;
  size_t serial_length;
  int64_t revocation_date;
  int reason;
  size_t issuer_at;
  size_t issuer_end;
} gw_crl_entry;
int gw_crl_next_issuer(const uint8_t *entries, size_t length, size_t *position, size_t *begin, gw_crl_entry *entry,
                       gw_error *error);
typedef struct {
  int64_t revocation_date;
  int reason;
} gw_table_entry;
typedef struct {
  uint64_t facts;
  uint32_t link;
  uint8_t octets[20];
} gw_table_record;
typedef struct gw_table gw_table;
size_t gw_table_size(const uint8_t *entries, size_t length, const gw_table_meta *meta, gw_error *error);
int gw_table_compile(const uint8_t *entries, size_t length, const gw_table_meta *meta, uint8_t *table, size_t size,
                     uint64_t *count, gw_error *error);
gw_table *gw_table_open(int fd, int deep, gw_error *error);
void gw_table_free(gw_table *table);
uint64_t gw_table_count(const gw_table *table);
void gw_table_get_meta(const gw_table *table, gw_table_meta *meta);
int gw_table_find(const gw_table *table, const uint8_t *serial, size_t length, gw_table_entry *entry);
const gw_table_record *gw_table_at(const gw_table *table, uint64_t slot);

/* certificate.h */
#define GW_ALL_REASONS ...
uint64_t gw_name_digest(uint8_t tag, const uint8_t *content, size_t length);

/* world.h */
typedef struct {
  const uint8_t *name;
  size_t name_length;
  const uint8_t *key;
  size_t key_length;
} gw_issuer;
enum { GW_ALL_SUBJECTS, GW_USERS_ONLY, GW_CAS_ONLY };
typedef struct {
  gw_issuer issuer;
  uint64_t crl_issuer;
  uint64_t point;
  uint32_t reasons;
  int subjects;
  int64_t this_update;
  int64_t next_update;
  gw_table *table;
  gw_table *delta;
} gw_cover;
typedef struct gw_world gw_world;
gw_world *gw_world_new(uint64_t *counters);
void gw_world_free(gw_world *world);
int gw_world_publish(gw_world *world, const gw_cover *covers, size_t count, gw_error *error);

/* answers.h */
enum { GW_ANSWER_MISSING, GW_ANSWER_NONE, GW_ANSWER_UNKNOWN, GW_ANSWER_GOOD, GW_ANSWER_REVOKED };
enum {
  GW_ANSWER_STATUS = 2,
  GW_ANSWER_DATE,
  GW_ANSWER_ENDS,
  GW_ANSWER_DUE,
  GW_ANSWER_ROUND,
  GW_ANSWER_SEAL,
  GW_ANSWER_WORDS,
  GW_ANSWERS_IN_BUCKET = 8
};
typedef struct {
  uint64_t seeds[2];
  uint64_t buckets;
  uint64_t round;
  uint64_t none[4];
  uint64_t slots[][8];
} gw_answers;
size_t gw_answers_home(const gw_answers *answers, const gw_issuer *issuer, const uint8_t *serial, size_t length,
                       uint64_t *key);
uint64_t gw_answer_seal(const uint64_t *words);

/* verify.h */
enum { GW_CHECK_OFF, GW_CHECK_LEAF, GW_CHECK_CHAIN };
enum { GW_ASK_NOTHING, GW_ASK_LATER, GW_ASK_FIRST };
enum { GW_UNAVAILABLE_REJECT, GW_UNAVAILABLE_ACCEPT, GW_UNAVAILABLE_WAIT };
enum {
  GW_VERDICT_NONE,
  GW_VERDICT_GOOD,
  GW_VERDICT_STALE,
  GW_VERDICT_NO_LIST,
  GW_VERDICT_NO_ANSWER,
  GW_VERDICT_REVOKED,
  GW_VERDICT_UNTRUSTED
};
typedef struct {
  int verdict;
  int let_in;
  int ask;
  int depth;
  int error_code;
  gw_table_entry entry;
  int64_t next_update;
} gw_verdict;
typedef struct gw_listener gw_listener;
typedef struct {
  int check;
  int on_unavailable;
  int64_t grace;
  int disconnect_revoked;
  uint64_t *connections;
  const uint8_t *usages;
  size_t usages_length;
  const gw_answers *answers;
  int require_answer;
} gw_rules;
gw_listener *gw_listener_new(gw_world *world, const gw_rules *rules);
void gw_listener_free(gw_listener *listener);
int gw_judge(gw_world *world, const uint8_t *der, size_t length, const gw_issuer *issuer, int64_t grace, int64_t now,
             gw_verdict *verdict);
int gw_listener_add_ca(gw_listener *listener, void *x509, int parent);
void gw_listener_arm(void *ssl_ctx, int mode);
typedef struct {
  gw_verdict verdict;
  ...;
} gw_verification;

/* staple.h */
typedef struct gw_staple gw_staple;
gw_staple *gw_staple_new(uint64_t *counters, const void *x509, gw_staple *next);
void gw_staple_free(gw_staple *staple);
void gw_staple_set(gw_staple *staple, const uint8_t *der, int length, int64_t expires);
int gw_staple_attach(gw_staple *staple, void *ssl_ctx);

/* sni.h */
typedef struct {
  const char *name;
  void *ssl_ctx;
} gw_sni_name;
typedef struct {
  const gw_sni_name *names;
  size_t count;
} gw_sni;
void *gw_sni_find(const gw_sni *sni, const char *host);
void gw_sni_attach(const gw_sni *sni, void *ssl_ctx);

/* alpn.h */
int gw_alpn_select(SSL *ssl, uint8_t **selected, uint8_t *selected_length, uint8_t *offered, unsigned int length,
                   void *own);
void gw_alpn_attach(void *ssl_ctx, uint8_t *own);

/* conn.h */
typedef struct {
  ...;
} gw_peer;
typedef struct {
  SSL *ssl;
  int fd;
  gw_peer peer;
  gw_verification verification;
  ...;
} gw_conn;
enum {
  GW_HANDSHAKE_FAILED,
  GW_HANDSHAKE_DONE,
  GW_HANDSHAKE_WANT_READ,
  GW_HANDSHAKE_WANT_WRITE,
  GW_HANDSHAKE_TIMED_OUT,
  GW_HANDSHAKE_NOT_BEGUN
};
gw_conn *gw_conn_new(gw_listener *listener, void *ssl_ctx, int fd, gw_error *error);
int gw_conn_handshake(gw_conn *conn, gw_error *error);
int gw_conn_judge(gw_conn *conn);
int gw_conn_is_clear(const gw_conn *conn);
void gw_conn_free(gw_conn *conn);

/* admission.h */
typedef struct {
  int64_t handshakes;
  int64_t connections;
  int64_t interval_us;
  uint64_t *const *pages;
  size_t workers;
  size_t gauge;
} gw_limits;

/* relay.h */
typedef struct gw_relay gw_relay;
typedef struct gw_front gw_front;
enum {
  GW_END_CLIENT_CLOSED,
  GW_END_BROKER_CLOSED,
  GW_END_CLIENT_LOST,
  GW_END_BROKER_LOST,
  GW_END_BROKER_REFUSED,
  GW_END_REVOKED,
  GW_END_LINGERED,
  GW_END_STOPPED
};
typedef struct {
  uint64_t id;
  int end;
  uint64_t bytes_in;
  uint64_t bytes_out;
  int64_t duration_ms;
  gw_listener *listener;
  char detail[96];
  gw_conn *conn;
} gw_relay_event;
typedef struct {
  int64_t linger_ms;
  int64_t connect_ms;
  size_t events_max;
  int quiet;
} gw_relay_options;
gw_relay *gw_relay_new(gw_world *world, const gw_relay_options *options, gw_error *error);
enum { GW_PREFACE_MAX = 65536 };
int gw_relay_adopt(gw_relay *relay, gw_conn *conn, int upstream, uint64_t id, const uint8_t *preface,
                   size_t preface_length, gw_error *error);
int gw_relay_serve(gw_relay *relay, gw_front *front, const gw_limits *limits, gw_error *error);
void gw_relay_stop_listening(gw_relay *relay);
int gw_relay_silent(gw_relay *relay);
typedef struct {
  gw_conn *conn;
  gw_listener *listener;
  int result;
  int clear;
  int code;
  gw_error error;
  X509 *leaf;
} gw_arrival;
enum { GW_DOOR_FULL = 6, GW_DOOR_STUCK, GW_DOOR_ASK };
int gw_relay_next_arrival(gw_relay *relay, gw_arrival *arrival);
void gw_relay_recheck(gw_relay *relay);
size_t gw_relay_live(gw_relay *relay);
int gw_relay_event_fd(gw_relay *relay);
int gw_relay_next_event(gw_relay *relay, gw_relay_event *event);
void gw_relay_stop(gw_relay *relay);
void gw_relay_free(gw_relay *relay);

/* front.h */
gw_front *gw_front_new(gw_listener *listener, void *ssl_ctx, int64_t timeout_ms, gw_error *error);
void gw_front_free(gw_front *front);
struct sockaddr_storage {
  ...;
};
enum { GW_FULL_SHARE = 256 };
typedef struct {
  struct sockaddr_storage address;
  uint32_t length;
  uint32_t share;
  uint32_t credit;
} gw_broker;
struct gw_front {
  int only_accepts;
  gw_relay *relay;
  gw_broker *brokers;
  size_t broker_count;
  int shows;
  ...;
};
int gw_front_listen(gw_front *front, int listening, gw_error *error);

/* sys/prctl.h */
#define PR_SET_PDEATHSIG ...
#define PR_SET_NO_NEW_PRIVS ...
int prctl(int option, ...);
