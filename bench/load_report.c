/* load_report.c - counting, percentiles, JSON. */
#include "load.h"

#include <math.h>

/* The share of the wall time from which on we, not the server, may have been the limit. */
static const double saturated_share = 0.9;

static const char *const kind_names[FAIL_KINDS] = {
    [FAIL_CONNECT] = "connect", [FAIL_NO_PORT] = "no port", [FAIL_TIMEOUT] = "timeout",   [FAIL_RESET] = "reset",
    [FAIL_CLOSED] = "closed",   [FAIL_TLS] = "tls",         [FAIL_BYTES] = "wrong bytes", [FAIL_ALERT] = "alert",
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

void report_done(report *report, uint64_t ns, int resumed) {
  report->done++;
  report->resumed += resumed != 0;
  report->latency[bucket_of(ns)]++;
  if (ns > report->worst_ns) {
    report->worst_ns = ns;
  }
}

void report_failure(report *report, failure why) {
  report->failed++;
  report->by_kind[why.kind]++;
  if (why.kind == FAIL_ALERT) {
    report->by_alert[why.alert]++;
  }
}

uint64_t report_percentile(const report *report, double share) {
  uint64_t wanted = (uint64_t)ceil(share * (double)report->done);
  uint64_t seen = 0;
  for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
    seen += report->latency[bucket];
    if (seen >= wanted && seen > 0) {
      uint64_t top = bucket_top(bucket);
      return top < report->worst_ns ? top : report->worst_ns;
    }
  }
  return 0;
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

static double microseconds(uint64_t ns) {
  return (double)ns / 1e3;
}

int report_print(FILE *out, const report *report, const load_options *options, double seconds, double cpu_seconds) {
  fprintf(out, "{\"mode\": \"%s\", \"connections\": %u, \"bytes\": %zu, \"done\": %llu, \"resumed\": %llu, ",
          options->mode_name, options->connections, options->bytes, (unsigned long long)report->done,
          (unsigned long long)report->resumed);
  fputs("\"failed\": ", out);
  print_failures(out, report);
  fprintf(out, ", \"seconds\": %.6f, \"cpu_seconds\": %.6f, ", seconds, cpu_seconds);
  fprintf(out, "\"load_was_limit\": %s, ", cpu_seconds > saturated_share * seconds ? "true" : "false");
  fprintf(out, "\"latency_us\": {\"p50\": %.1f, \"p99\": %.1f, \"p99.9\": %.1f, \"max\": %.1f}}\n",
          microseconds(report_percentile(report, 0.5)), microseconds(report_percentile(report, 0.99)),
          microseconds(report_percentile(report, 0.999)), microseconds(report->worst_ns));
  return fflush(out) == 0 && !ferror(out);
}

int report_print_ready(FILE *out, const report *report, uint32_t ready) {
  fprintf(out, "{\"ready\": %u, \"failed\": ", ready);
  print_failures(out, report);
  fputs("}\n", out);
  return fflush(out) == 0 && !ferror(out);
}
