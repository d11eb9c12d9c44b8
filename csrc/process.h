/* process.h - what Linux offers to a family of processes and Python does not. */
#ifndef GW_PROCESS_H
#define GW_PROCESS_H

/* gw_die_with_parent makes the kernel kill the calling process when its parent
 * |parent| dies. 1, or 0 when it cannot be arranged or the parent has died already. */
int gw_die_with_parent(int parent);

#endif
