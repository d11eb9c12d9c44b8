#include "openssl_table.h"

struct gw_openssl gw_openssl;

#define GW_OPENSSL_SLOT(name, result, parameters) {#name, #result "(*)" #parameters, &gw_openssl.name},
const gw_openssl_slot gw_openssl_slots[] = {GW_OPENSSL_FUNCTIONS(GW_OPENSSL_SLOT){NULL, NULL, NULL}};
