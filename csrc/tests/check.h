/* check.h - the whole test harness of the C tests.
 *
 * Each tests/test_*.c is a program: CHECK stops it with file and line, main
 * names its claims with RUN, and prints one line a claim. */
#ifndef GW_CHECK_H
#define GW_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                         \
  do {                                                                           \
    if (!(condition)) {                                                          \
      fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);    \
      abort();                                                                   \
    }                                                                            \
  } while (0)

#define RUN(claim)            \
  do {                        \
    claim();                  \
    printf("ok %s\n", #claim); \
    fflush(stdout);           \
  } while (0)

#endif
