// The walk through a tree of drafts under the coupled rule: which rows it looks at, and what the model emits there.
#pragma once

#include "noise.h"
#include "top.h"

namespace {

// Row 0 of `logits` [drafts + 1, stride] is the root's, row i + 1 that of draft i, which proposes tokens[i] below draft
// parents[i] (-1: the root). At each row the sample is the argmax of logit / temperature + noise over the `kept` largest;
// the walk goes on at the draft that proposed it. Per level: rows, samples, and the `kept` ids and logits, largest first.
// Returns the number of levels, -1 where a row has not that many comparable numbers.
int walk_tree(const float* logits, int64_t stride, int vocabulary, int kept, double temperature, uint64_t noise,
              int64_t position, const int64_t* tokens, const int32_t* parents, int drafts, int32_t* rows,
              int64_t* samples, int64_t* ids, float* values) {
  TopScratch scratch;
  int at = -1;
  for (int level = 0;; level++, ids += kept, values += kept) {
    if (!top_of_row(logits + (at + 1) * stride, vocabulary, kept, ids, values, scratch)) return -1;
    int best = 0;
    double most = 0;
    for (int c = 0; c < kept && kept > 1; c++) {
      double score = ((double)values[c] - values[0]) / temperature + gumbel(noise, position + level, ids[c]);
      if (c == 0 || score > most) most = score, best = c;
    }
    rows[level] = at + 1;
    samples[level] = ids[best];
    int next = at + 1;  // children stand after their parent
    while (next < drafts && !(parents[next] == at && tokens[next] == ids[best])) next++;
    if (next == drafts) return level + 1;
    at = next;
  }
}

}  // namespace
