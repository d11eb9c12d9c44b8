/* error.h - how C tells Python what went wrong.
 *
 * A function that can fail for a reason worth reading takes a `gw_error *` as
 * its last argument, returns 0 (or NULL) and leaves one line of text there.
 * The caller owns the struct; nothing is allocated. */
#ifndef GW_ERROR_H
#define GW_ERROR_H

#include <stdarg.h>
#include <stdio.h>

typedef struct {
  char text[256];
} gw_error;

/* gw_fail writes a formatted line to |error| (which may be NULL) and returns 0,
 * so that a failing function ends with `return gw_fail(error, "...")`. */
__attribute__((format(printf, 2, 3))) static inline int gw_fail(gw_error *error, const char *format, ...) {
  if (error != NULL) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
  }
  return 0;
}

#endif
