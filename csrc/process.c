#include "process.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

int gw_die_with_parent(int parent) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
    return 0;
  }
  /* The parent may have died before prctl took effect: nobody would tell us. */
  return getppid() == parent;
}
