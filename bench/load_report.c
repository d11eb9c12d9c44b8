/* load_report.c - counting, percentiles, JSON. */
#include "load_report.h"

#include <math.h>
#include <openssl/ssl.h>

/* The share of the wall time from which on we, not the server, may have been the limit. */
static const double saturated_share = 0.9;

/* An arrival that starts this long after it was due is late. */
static const uint64_t late_ns = 1000000;

/* With more arrivals than this share late for want of CPU, the load was not what was asked for, and p99 is ours. */
static const double late_share = 0.01;

static const char *const kind_names[FAIL_KINDS] = {
    [FAIL_CONNECT] = "connect", [FAIL_NO_PORT] = "no port", [FAIL_TIMEOUT] = "timeout",
    [FAIL_RESET] = "reset",     [FAIL_CLOSED] = "closed",   [FAIL_TLS] = "tls",
    [FAIL_BYTES] = "wrong bytes", [FAIL_SERVED] = "revoked but served", [FAIL_ALERT] = "alert",
};

static unsigned bucket_of(uint64_t ns) {
  unsigned magnitude = 63U - (unsigned)__builtin_clzll(ns | 1);
  if (magnitude <= HISTOGRAM_SUB_BITS) {
    return (unsigned)ns;
  }
  unsigned shift = magnitude - HISTOGRAM_SUB_BITS;
  return (shift << HISTOGRAM_SUB_BITS) + (unsigned)(ns >> shift);
}

/* The highest value that falls into the bucket: a percentile must never flatter. */
static uint64_t bucket_top(unsigned bucket) {
  unsigned shift = bucket >> HISTOGRAM_SUB_BITS;
  if (shift <= 1) {
    return bucket;
  }
  shift--;
  uint64_t lead = (uint64_t)bucket - ((uint64_t)shift << HISTOGRAM_SUB_BITS);
  return ((lead + 1) << shift) - 1;
}

static void histogram_add(histogram *histogram, uint64_t ns) {
  histogram->count++;
  histogram->buckets[bucket_of(ns)]++;
  if (ns > histogram->worst_ns) {
    histogram->worst_ns = ns;
  }
}

/* The latency in ns that |share| (0 to 1) of those counted did not exceed. */
static uint64_t percentile(const histogram *histogram, double share) {
  uint64_t wanted = (uint64_t)ceil(share * (double)histogram->count);
  uint64_t seen = 0;
  for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
    seen += histogram->buckets[bucket];
    if (seen >= wanted && seen > 0) {
      uint64_t top = bucket_top(bucket);
      return top < histogram->worst_ns ? top : histogram->worst_ns;
    }
  }
  return 0;
}

void report_done(report *report, uint64_t ns, int resumed) {
  report->resumed += resumed != 0;
  histogram_add(&report->served, ns);
}

void report_refused(report *report, uint64_t ns) {
  histogram_add(&report->refused, ns);
}

void report_failure(report *report, failure why) {
  report->failed++;
  report->by_kind[why.kind]++;
  if (why.kind == FAIL_ALERT) {
    report->by_alert[why.alert]++;
  }
}

void report_arrival(report *report, uint64_t due_ns, int no_slot, uint64_t now_ns) {
  int late = now_ns - due_ns > late_ns;
  report->arrivals++;
  report->late += (uint64_t)late;
  report->late_no_slot += (uint64_t)(late && no_slot);
}

/* Did we fall short of the load that was asked for? Connections that are all in
 * use say nothing of it: whoever keeps them is the server. */
static int load_was_limit(const report *report, double seconds, double cpu_seconds) {
  uint64_t late_no_cpu = report->late - report->late_no_slot;
  return cpu_seconds > saturated_share * seconds || report->by_kind[FAIL_NO_PORT] > 0 ||
         (double)late_no_cpu > late_share * (double)report->arrivals;
}

/* {"timeout": 2, "alert certificate revoked": 1}; OpenSSL's names of alerts hold no character that JSON escapes. */
static void print_failures(FILE *out, const report *report) {
  const char *separator = "";
  fputc('{', out);
  for (int kind = 0; kind < FAIL_ALERT; kind++) {
    if (report->by_kind[kind] > 0) {
      fprintf(out, "%s\"%s\": %llu", separator, kind_names[kind], (unsigned long long)report->by_kind[kind]);
      separator = ", ";
    }
  }
  for (int alert = 0; alert < 256; alert++) {
    if (report->by_alert[alert] > 0) {
      fprintf(out, "%s\"alert %d %s\": %llu", separator, alert, SSL_alert_desc_string_long(alert),
              (unsigned long long)report->by_alert[alert]);
      separator = ", ";
    }
  }
  fputc('}', out);
}

static void print_latency(FILE *out, const char *key, const histogram *histogram) {
  static const struct {
    const char *name;
    double share;
  } points[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}};
  fprintf(out, "\"%s\": {", key);
  for (size_t at = 0; at < sizeof points / sizeof *points; at++) {
    fprintf(out, "\"%s\": %.1f, ", points[at].name, (double)percentile(histogram, points[at].share) / 1e3);
  }
  fprintf(out, "\"max\": %.1f}", (double)histogram->worst_ns / 1e3);
}

int report_print(FILE *out, const report *report, const load_options *options, double seconds, double cpu_seconds) {
  fprintf(out, "{\"mode\": \"%s\", \"connections\": %u, \"bytes\": %zu, ", options->mode_name, options->connections,
          options->bytes);
  fprintf(out, "\"done\": %llu, \"resumed\": %llu, \"refused\": %llu, \"failed\": ",
          (unsigned long long)report->served.count, (unsigned long long)report->resumed,
          (unsigned long long)report->refused.count);
  print_failures(out, report);
  fprintf(out, ", \"late\": %llu, \"late_no_slot\": %llu, ", (unsigned long long)report->late,
          (unsigned long long)report->late_no_slot);
  fprintf(out, "\"seconds\": %.6f, \"cpu_seconds\": %.6f, \"load_was_limit\": %s, ", seconds, cpu_seconds,
          load_was_limit(report, seconds, cpu_seconds) ? "true" : "false");
  print_latency(out, "latency_us", &report->served);
  fputs(", ", out);
  print_latency(out, "refused_latency_us", &report->refused);
  fputs("}\n", out);
  return fflush(out) == 0 && !ferror(out);
}

int report_print_ready(FILE *out, const report *report, uint32_t ready) {
  fprintf(out, "{\"ready\": %u, \"failed\": ", ready);
  print_failures(out, report);
  fputs("}\n", out);
  return fflush(out) == 0 && !ferror(out);
}
