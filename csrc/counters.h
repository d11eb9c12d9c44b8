/* counters.h - the counters that workers and their relay threads share.
 *
 * One page of 64-bit counters per worker, mapped by the supervisor before the
 * fork, so that counting costs no system call and any process can add them up.
 * A page belongs to the supervisor; C only ever adds to it, atomically. */
#ifndef GW_COUNTERS_H
#define GW_COUNTERS_H

#include <stddef.h>
#include <stdint.h>

enum {
  GW_COUNT_ACCEPTED,          /* connections accepted */
  GW_COUNT_HANDSHAKES,        /* handshakes completed, full and resumed */
  GW_COUNT_RESUMED,           /* of these, resumed */
  GW_COUNT_FAILED,            /* handshakes that failed in TLS: garbage, no common version, bad certificate */
  GW_COUNT_TIMED_OUT,         /* handshakes given up after handshake_timeout */
  GW_COUNT_REFUSED_REVOKED,   /* refused: certificate revoked */
  GW_COUNT_REFUSED_NO_LIST,   /* refused: no list covers the certificate */
  GW_COUNT_REFUSED_STALE,     /* refused: the list has expired */
  GW_COUNT_ACCEPTED_UNCHECKED, /* let in by on_unavailable = accept */
  GW_COUNT_LOOKUPS,           /* serial numbers looked up */
  GW_COUNT_LIVE,              /* gauge: connections in the relay */
  GW_COUNT_RELAYED,           /* connections handed to the relay */
  GW_COUNT_DISCONNECTED,      /* live connections closed because their certificate was revoked */
  GW_COUNT_BYTES_IN,          /* plain bytes, client to broker */
  GW_COUNT_BYTES_OUT,         /* plain bytes, broker to client */
  GW_COUNT_UPSTREAM_FAILED,   /* the broker could not be reached */
  GW_COUNT_STAPLED,           /* handshakes with an OCSP response stapled */
  GW_COUNT_HANDSHAKING,       /* gauge: handshakes in progress */
  GW_COUNT_THROTTLED,         /* connections refused or delayed by a limit */
  GW_COUNT_TLS12,             /* handshakes completed in TLS 1.2; the others are TLS 1.3 */
  GW_COUNT_HANDSHAKE_MS,      /* milliseconds from accept to the end of completed handshakes, added up */
  GW_COUNT_REFUSED_NO_ANSWER, /* refused: no OCSP responder says that the certificate is good */
  GW_COUNT_UNLOGGED,          /* lines of the log, and ends that nobody read in time, that were lost */
  GW_COUNT_HANDSHAKE_TIME,    /* GW_TIME_BUCKETS counters: completed in below 1, 2, 4 ... ms, the last in any time */
  GW_TIME_BUCKETS = 15,
  GW_COUNT_TOTAL = GW_COUNT_HANDSHAKE_TIME + GW_TIME_BUCKETS /* number of counters */
};

/* gw_count adds |delta| to counter |which| of |page|; a NULL page counts nowhere. */
static inline void gw_count(uint64_t *page, int which, uint64_t delta) {
  if (page != 0) (void)__atomic_fetch_add(&page[which], delta, __ATOMIC_RELAXED);
}

/* gw_counted reads counter |which| of |page|; 0 of a NULL page. */
static inline int64_t gw_counted(const uint64_t *page, size_t which) {
  return page == 0 ? 0 : (int64_t)__atomic_load_n(&page[which], __ATOMIC_RELAXED);
}

#endif
