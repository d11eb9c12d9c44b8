/* load_report.h - what the load generator counts, and its line of JSON. */
#ifndef LOAD_REPORT_H
#define LOAD_REPORT_H

#include <stdint.h>
#include <stdio.h>

#include "load_options.h"

typedef enum {
  FAIL_CONNECT, /* refused or unreachable */
  FAIL_NO_PORT, /* this machine has no source port or descriptor left */
  FAIL_TIMEOUT,
  FAIL_RESET,
  FAIL_CLOSED, /* end of stream, with close_notify or without */
  FAIL_TLS,    /* our side of TLS refused: the server's certificate, the protocol */
  FAIL_BYTES,  /* other bytes came back than were sent */
  FAIL_SERVED, /* a revoked client got its bytes back */
  FAIL_ALERT,  /* the server sent an alert */
  FAIL_KINDS,
} fail_kind;

typedef struct {
  fail_kind kind;
  uint8_t alert; /* AlertDescription (RFC 8446, section 6), for FAIL_ALERT */
} failure;

/* Buckets of 1/64 of a power of two: a percentile is at most 1.6 % off, at any length of run. */
enum { HISTOGRAM_SUB_BITS = 6, HISTOGRAM_BUCKETS = (64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS };

typedef struct {
  uint64_t count;
  uint64_t worst_ns;
  uint64_t buckets[HISTOGRAM_BUCKETS];
} histogram;

typedef struct {
  histogram served;
  histogram refused; /* revoked clients, as they should be */
  uint64_t resumed;
  uint64_t failed;
  uint64_t by_kind[FAIL_KINDS];
  uint64_t by_alert[256];
  uint64_t arrivals;     /* open loop only, as are the next two */
  uint64_t late;         /* started noticeably after they were due */
  uint64_t late_no_slot; /* of those, no connection was free when they were due: held by the server, or too few */
} report;

/* report_done counts one that was served |ns| after its start. */
void report_done(report *report, uint64_t ns, int resumed);

/* report_refused counts a revoked client that was refused |ns| after its start. */
void report_refused(report *report, uint64_t ns);

/* report_failure counts one that failed. */
void report_failure(report *report, failure why);

/* report_arrival counts an arrival of an open loop that was due at |due_ns|, when there was |no_slot| for it, and is
 * started or given up at |now_ns|. */
void report_arrival(report *report, uint64_t due_ns, int no_slot, uint64_t now_ns);

/* report_print writes the result as one line of JSON and flushes. Returns 1, or 0 when it cannot be written. */
int report_print(FILE *out, const report *report, const load_options *options, double seconds, double cpu_seconds);

/* report_print_ready writes the line that says that the preparation is over. Returns as report_print. */
int report_print_ready(FILE *out, const report *report, uint32_t ready);

#endif
