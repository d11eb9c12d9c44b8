/* bench_lookup.c - nanoseconds a lookup, beside a plain binary search over the same serials, in one run.
 *
 * Serials of 16 octets, a million precomputed lookups in random order, timed in
 * two ways: back to back, where the processor guesses an answer and begins the
 * next lookup before it has it, and alone, where it may not. Not a test: it prints. */
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "make_crl.h"
#include "revoked.h"

enum { WIDTH = 16, LOOKUPS = 1000000 };

static double now_ms(void) {
  struct timespec now;
  CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* serial_number writes serial |i|; random ones are a one-to-one mix of |i|, so that a stranger is never a member. */
static void serial_number(uint64_t i, int sequential, uint8_t serial[WIDTH]) {
  uint64_t state = i * UINT64_C(0x9e3779b97f4a7c15), mixed = next_random(&state), more = next_random(&state);
  memset(serial, 0, WIDTH);
  serial[0] = 1;
  if (sequential) {
    for (size_t at = 0; at < 8; at++) {
      serial[WIDTH - 1 - at] = (uint8_t)(i >> 8 * at);
    }
  } else {
    memcpy(serial + 1, &more, 7);
    memcpy(serial + 8, &mixed, 8);
  }
}

static gw_table *compile(uint64_t count, int sequential, double *milliseconds) {
  bytes entries = {0};
  uint8_t serial[WIDTH];
  for (uint64_t i = 0; i < count; i++) {
    serial_number(i, sequential, serial);
    entry_add(&entries, serial, WIDTH, "260101000000Z", NULL);
  }
  bytes list = list_make(&entries, 0);
  bytes_free(&entries);
  gw_crl_parts parts;
  gw_error error;
  gw_table_meta meta = {0};
  uint64_t compiled;
  int fd = memfd_create("bench", MFD_CLOEXEC);
  double start = now_ms();
  CHECK(gw_crl_split(list.at, list.length, &parts, &error));
  CHECK(gw_table_compile(list.at, list.length, &parts, &meta, fd, &compiled, &error));
  *milliseconds = now_ms() - start;
  CHECK(compiled == count);
  gw_table *table = gw_table_open(fd, 0, &error);
  CHECK(table != NULL);
  close(fd);
  bytes_free(&list);
  return table;
}

static int compare(const void *a, const void *b) { return memcmp(a, b, WIDTH); }

static int binary_search(const uint8_t (*sorted)[WIDTH], uint64_t count, const uint8_t *serial) {
  uint64_t begin = 0, end = count;
  while (begin < end) {
    uint64_t middle = begin + (end - begin) / 2;
    int order = memcmp(sorted[middle], serial, WIDTH);
    if (order == 0) {
      return 1;
    }
    if (order < 0) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return 0;
}

/* choose fills |keys| with random members, or serials |count| above them, which are none. */
static void choose(uint8_t (*keys)[WIDTH], uint64_t count, int sequential, int hit) {
  uint64_t state = count;
  for (size_t i = 0; i < LOOKUPS; i++) {
    serial_number(next_random(&state) % count + (hit ? 0 : count), sequential, keys[i]);
  }
}

static inline void wait_for_loads(void) {
#if defined(__x86_64__)
  __asm__ volatile("lfence" ::: "memory");
#else
  __asm__ volatile("" ::: "memory");
#endif
}

/* time_lookups returns nanoseconds each, of the table or, where |table| is NULL, of the sorted array. */
static double time_lookups(const gw_table *table, const uint8_t (*sorted)[WIDTH], uint64_t count,
                           const uint8_t (*keys)[WIDTH], int hit, int alone) {
  uint64_t found = 0;
  double start = now_ms();
  for (uint64_t i = 0; i < LOOKUPS; i++) {
    if (alone) {
      wait_for_loads();
    }
    int answer = table != NULL ? gw_table_find(table, keys[i], WIDTH, NULL) : binary_search(sorted, count, keys[i]);
    found += (uint64_t)answer;
  }
  double nanoseconds = (now_ms() - start) * 1e6 / LOOKUPS;
  CHECK(found == (hit ? (uint64_t)LOOKUPS : 0));
  return nanoseconds;
}

static void bench(uint64_t count, int sequential, uint8_t (*keys)[WIDTH]) {
  double milliseconds;
  gw_table *table = compile(count, sequential, &milliseconds);
  uint8_t(*sorted)[WIDTH] = malloc(count * WIDTH);
  CHECK(sorted != NULL);
  for (uint64_t i = 0; i < count; i++) {
    serial_number(i, sequential, sorted[i]);
  }
  qsort(sorted, count, WIDTH, compare);
  printf("%9llu %-10s compiled in %7.1f ms", (unsigned long long)count, sequential ? "sequential" : "random",
         milliseconds);
  for (int hit = 1; hit >= 0; hit--) {
    choose(keys, count, sequential, hit);
    const uint8_t(*wanted)[WIDTH] = (const uint8_t(*)[WIDTH])keys;
    const uint8_t(*plain)[WIDTH] = (const uint8_t(*)[WIDTH])sorted;
    (void)time_lookups(table, NULL, count, wanted, hit, 0);
    for (int alone = 0; alone < 2; alone++) {
      printf(" | %s %s %5.1f ns, binary search %5.1f", hit ? "hit" : "miss", alone ? "alone" : "back to back",
             time_lookups(table, NULL, count, wanted, hit, alone), time_lookups(NULL, plain, count, wanted, hit, alone));
    }
  }
  printf("\n");
  fflush(stdout);
  free(sorted);
  gw_table_free(table);
}

int main(void) {
  uint8_t(*keys)[WIDTH] = malloc((size_t)LOOKUPS * WIDTH);
  CHECK(keys != NULL);
  for (uint64_t count = 1000; count <= 10000000; count *= 10) {
    bench(count, 0, keys);
    bench(count, 1, keys);
  }
  free(keys);
  return 0;
}
