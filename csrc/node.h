/* node.h - doubly linked lists whose nodes live inside what they link.
 *
 * A list is a ring through a node of its own. A node that is in no list has
 * |next| NULL once it was removed (or zeroed); nothing here allocates. */
#ifndef GW_NODE_H
#define GW_NODE_H

#include <stddef.h>

typedef struct gw_node {
  struct gw_node *next, *previous;
} gw_node;

static inline void gw_list_init(gw_node *list) { list->next = list->previous = list; }

static inline int gw_list_empty(const gw_node *list) { return list->next == list; }

static inline void gw_list_append(gw_node *list, gw_node *node) {
  node->next = list;
  node->previous = list->previous;
  list->previous->next = node;
  list->previous = node;
}

static inline void gw_list_remove(gw_node *node) {
  node->next->previous = node->previous;
  node->previous->next = node->next;
  node->next = node->previous = NULL;
}

/* gw_list_move appends all of |from| to |to|, and leaves |from| empty. */
static inline void gw_list_move(gw_node *to, gw_node *from) {
  if (gw_list_empty(from)) return;
  from->next->previous = to->previous;
  to->previous->next = from->next;
  from->previous->next = to;
  to->previous = from->previous;
  gw_list_init(from);
}

#endif
