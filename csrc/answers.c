#include "answers.h"

#include "table_file.h"

size_t gw_answers_home(const gw_answers *answers, const gw_issuer *issuer, const uint8_t *serial, size_t length,
                       uint64_t *key) {
  gw_crl_trim(&serial, &length);
  for (int i = 0; i < 2; i++) {
    key[i] = gw_table_digest(issuer->name, issuer->name_length, answers->seeds[i]);
    key[i] = gw_table_digest(issuer->key, issuer->key_length, key[i]);
    key[i] = gw_table_digest(serial, length, key[i]);
  }
  return (size_t)((unsigned __int128)key[0] * answers->buckets >> 64) * GW_ANSWERS_IN_BUCKET;
}

uint64_t gw_answer_seal(const uint64_t *words) {
  return gw_table_digest((const uint8_t *)words, GW_ANSWER_SEAL * sizeof *words, 1);
}

int gw_answers_find(const gw_answers *answers, const gw_issuer *issuer, const uint8_t *serial, size_t length,
                    int64_t now, gw_answer *answer) {
  uint64_t key[2], words[GW_ANSWER_WORDS];
  const uint64_t *slot = answers->slots[gw_answers_home(answers, issuer, serial, length, key)];
  *answer = (gw_answer){0};
  for (int i = 0; i < GW_ANSWERS_IN_BUCKET; i++, slot += GW_ANSWER_WORDS) {
    for (int j = 0; j < GW_ANSWER_WORDS; j++) words[j] = __atomic_load_n(&slot[j], __ATOMIC_RELAXED);
    if (words[0] != key[0] || words[1] != key[1] || words[GW_ANSWER_SEAL] != gw_answer_seal(words)) continue;
    if ((int64_t)words[GW_ANSWER_ENDS] <= now) break;
    answer->status = (int)(words[GW_ANSWER_STATUS] & 0xff);
    answer->entry = (gw_table_entry){(int64_t)words[GW_ANSWER_DATE], (int)(words[GW_ANSWER_STATUS] >> 8 & 0xff) - 1};
    return (int64_t)words[GW_ANSWER_DUE] <= now ||
           words[GW_ANSWER_ROUND] < __atomic_load_n(&answers->round, __ATOMIC_RELAXED);
  }
  return 1;
}
