/* Which protocol is selected (RFC 7301, section 3.2). */
#include "../alpn.h"

#include <string.h>

#include "check.h"

static uint8_t own[] = "\4mqtt\1x";

/* The octets are on the heap, at their exact length: reading beyond them is seen. */
static const uint8_t *selected_of(const char *text, size_t length) {
  uint8_t *offered = malloc(length), *selected = NULL, selected_length = 0;
  CHECK(offered != NULL);
  memcpy(offered, text, length);
  int result = gw_alpn_select(NULL, &selected, &selected_length, offered, (unsigned)length, own);
  free(offered);
  CHECK((result == GW_SSL_TLSEXT_ERR_OK) == (selected != NULL));
  CHECK(selected == NULL || selected[-1] == selected_length);
  return selected;
}

static void the_first_of_ours_is_selected_that_is_offered(void) {
  CHECK(selected_of("\1x\4mqtt", 7) == own + 1);
  CHECK(selected_of("\2h2\1x", 5) == own + 6);
}

static void others_are_none(void) {
  CHECK(selected_of("\2h2", 3) == NULL);
  CHECK(selected_of("\3mqt", 4) == NULL);
  CHECK(selected_of("\5mqttt", 6) == NULL);
}

int main(void) {
  RUN(the_first_of_ours_is_selected_that_is_offered);
  RUN(others_are_none);
  return 0;
}
