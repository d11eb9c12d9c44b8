#include "openssl_table.h"

#include <string.h>

struct gw_openssl gw_openssl;

#define GW_OPENSSL_NAME(name, result, parameters) #name,
static const char *const names[] = {GW_OPENSSL_FUNCTIONS(GW_OPENSSL_NAME)};

#define GW_OPENSSL_TYPE(name, result, parameters) #result "(*)" #parameters,
static const char *const types[] = {GW_OPENSSL_FUNCTIONS(GW_OPENSSL_TYPE)};

enum { COUNT = sizeof names / sizeof *names };

/* Every member is a function pointer, and POSIX gives these the size of a data
 * pointer: the struct is an array of COUNT of them. */
_Static_assert(sizeof(struct gw_openssl) == COUNT * sizeof(void *), "one pointer a function");

int gw_openssl_count(void) { return COUNT; }

const char *gw_openssl_name(int index) { return index >= 0 && index < COUNT ? names[index] : NULL; }

const char *gw_openssl_type(int index) { return index >= 0 && index < COUNT ? types[index] : NULL; }

int gw_openssl_set(int index, void *function) {
  if (index < 0 || index >= COUNT || function == NULL) {
    return 0;
  }
  memcpy((char *)&gw_openssl + (size_t)index * sizeof function, &function, sizeof function);
  return 1;
}

int gw_openssl_ready(void) {
  static const void *const unset = NULL;
  for (int i = 0; i < COUNT; i++) {
    if (memcmp((const char *)&gw_openssl + (size_t)i * sizeof unset, &unset, sizeof unset) == 0) {
      return 0;
    }
  }
  return 1;
}
