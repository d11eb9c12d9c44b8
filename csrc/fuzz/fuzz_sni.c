/* fuzz_sni.c - whatever a client gives for a name, what is found is for it, and nothing outside of it is read. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "check.h"
#include "sni.h"

static const gw_sni_name NAMES[] = {{"*.com", "*.com"}, {"*.example.com", "*.example.com"}, {"a", "a"},
                                    {"a.com", "a.com"}, {"www.example.com", "www.example.com"}};
static const gw_sni SNI = {NAMES, sizeof NAMES / sizeof *NAMES};

static int is_for(const char *name, const char *host) {
  const char *rest = strchr(host, '.');
  const char *compared = name[0] == '*' && rest != NULL ? rest : host;
  size_t length = strlen(name) - (compared == rest);
  return strncasecmp(compared, name + (compared == rest), length) == 0 &&
         (compared[length] == '\0' || strcmp(compared + length, ".") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char *host = malloc(size + 1); /* as large as it says, for ASan */
  CHECK(host != NULL);
  memcpy(host, data, size);
  host[size] = '\0';
  const char *found = gw_sni_find(&SNI, host);
  CHECK(found == NULL || is_for(found, host));
  for (size_t i = 0; found == NULL && i < SNI.count; i++) {
    CHECK(strcasecmp(NAMES[i].name, host) != 0);
  }
  free(host);
  return 0;
}
