/* lookup.c - nanoseconds a lookup: the gateway's table beside OpenSSL's X509_CRL_get0_by_serial, in turns.
 *
 *     lookup CRL TABLE HITS MISSES
 *
 * CRL is in DER; TABLE is its table; HITS and MISSES are serials of 20 octets, one after the other.
 * For each line on the standard input: one round, whose figures are a line of JSON.
 *
 * A round times lookups in two ways: back to back, where the processor begins the next one before it has the answer
 * of the last, and alone, where it may not. The clock is the thread's: what others do on the machine is not in it. */
#include <fcntl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "revoked.h"

/* OpenSSL, some twenty times slower, takes its turns on a part of the serials, each time on another one. */
enum { OCTETS = 20, PARTS = 20 };

#define INSIST(condition)                                                       \
  do {                                                                          \
    if (!(condition)) {                                                         \
      fprintf(stderr, "lookup: line %d: failed: %s\n", __LINE__, #condition);   \
      exit(1);                                                                  \
    }                                                                           \
  } while (0)

typedef struct {
  const uint8_t *octets;
  ASN1_INTEGER **integers; /* the same serials, as OpenSSL wants them */
  size_t count;
  int listed;
} sample;

typedef struct {
  double together, alone;
} nanoseconds;

static double now_ns(void) {
  struct timespec now;
  INSIST(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* map_file maps |path|, which is not empty, for as long as the program runs. */
static const uint8_t *map_file(const char *path, size_t *length) {
  struct stat status;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  INSIST(fd >= 0 && fstat(fd, &status) == 0);
  *length = (size_t)status.st_size;
  void *map = mmap(NULL, *length, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  INSIST(map != MAP_FAILED && close(fd) == 0);
  return map;
}

static gw_table *open_table(const char *path) {
  gw_error error;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  gw_table *table = fd < 0 ? NULL : gw_table_open(fd, 0, &error);
  INSIST(table != NULL && close(fd) == 0);
  return table;
}

static sample load_sample(const char *path, int listed) {
  size_t length;
  sample sample = {.octets = map_file(path, &length), .listed = listed};
  sample.count = length / OCTETS;
  INSIST(sample.count >= PARTS && (sample.integers = calloc(sample.count, sizeof *sample.integers)) != NULL);
  for (size_t i = 0; i < sample.count; i++) {
    sample.integers[i] = ASN1_INTEGER_new();
    INSIST(sample.integers[i] != NULL && ASN1_STRING_set(sample.integers[i], sample.octets + i * OCTETS, OCTETS));
  }
  return sample;
}

static inline void wait_for_loads(void) {
#if defined(__x86_64__)
  __asm__ volatile("lfence" ::: "memory");
#elif defined(__aarch64__)
  __asm__ volatile("dsb sy\n\tisb" ::: "memory");
#else
  __asm__ volatile("" ::: "memory");
#endif
}

static double time_table(const gw_table *table, const sample *sample, int alone) {
  size_t found = 0;
  double start = now_ns();
  for (size_t i = 0; i < sample->count; i++) {
    if (alone) {
      wait_for_loads();
    }
    found += (size_t)gw_table_find(table, sample->octets + i * OCTETS, OCTETS, NULL);
  }
  double took = now_ns() - start;
  INSIST(found == (sample->listed ? sample->count : 0));
  return took / (double)sample->count;
}

static double time_openssl(X509_CRL *crl, const sample *sample, size_t part, int alone) {
  size_t found = 0, count = sample->count / PARTS;
  double start = now_ns();
  for (size_t i = part * count; i < (part + 1) * count; i++) {
    X509_REVOKED *entry;
    if (alone) {
      wait_for_loads();
    }
    found += X509_CRL_get0_by_serial(crl, &entry, sample->integers[i]) == 1;
  }
  double took = now_ns() - start;
  INSIST(found == (sample->listed ? count : 0));
  return took / (double)count;
}

static void measure_round(const gw_table *table, X509_CRL *crl, const sample samples[2], size_t part) {
  const char *separator = "{";
  for (int i = 0; i < 2; i++) {
    nanoseconds ours = {time_table(table, &samples[i], 0), time_table(table, &samples[i], 1)};
    nanoseconds openssl = {time_openssl(crl, &samples[i], part, 0), time_openssl(crl, &samples[i], part, 1)};
    printf("%s\"%s\": {\"table\": [%.2f, %.2f], \"openssl\": [%.2f, %.2f]}", separator, i == 0 ? "hit" : "miss",
           ours.together, ours.alone, openssl.together, openssl.alone);
    separator = ", ";
  }
  printf("}\n");
  INSIST(fflush(stdout) == 0);
}

int main(int count, char **arguments) {
  size_t length;
  char line[16];
  INSIST(count == 5);
  const uint8_t *der = map_file(arguments[1], &length), *at = der;
  gw_table *table = open_table(arguments[2]);
  X509_CRL *crl = d2i_X509_CRL(NULL, &at, (long)length);
  INSIST(crl != NULL);
  const sample samples[2] = {load_sample(arguments[3], 1), load_sample(arguments[4], 0)};
  /* OpenSSL sorts at its first lookup, and the table's pages are mapped as they are read. */
  (void)time_openssl(crl, &samples[0], 0, 0);
  (void)time_table(table, &samples[0], 0);
  for (size_t turn = 0; fgets(line, sizeof line, stdin) != NULL; turn++) {
    measure_round(table, crl, samples, turn % PARTS);
  }
  return 0; /* the system takes all memory back faster than ten million objects are freed */
}
