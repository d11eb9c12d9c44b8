/* load_options.h - the command line of the load generator. */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include "load.h"

/* options_parse fills |options|; its strings borrow from |argv|. Returns 1, or
 * 0 with what is wrong and the usage on stderr. */
int options_parse(int argc, char **argv, load_options *options);

#endif
