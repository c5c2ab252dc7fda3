// The walk through a tree of drafts under the coupled rule: which rows it looks at, and what the model emits there.
#pragma once

#include "noise.h"
#include "nucleus.h"
#include "requests.h"
#include "top.h"

namespace {

// Row 0 of `logits` [drafts + 1, stride] is the root's, row i + 1 that of draft i, which proposes tokens[i] below draft
// parents[i] (-1: the root). At each row the sample is the argmax of logit / temperature + noise over what top-p and min-p
// leave of the `top_k` largest; the walk goes on at the draft that proposed it. Per level: rows, samples, the `top_k` ids and
// logits, largest first, and how many of them were left.
// Returns the number of levels, -1 where a row has not that many comparable numbers.
int walk_tree(const WalkRequest& q, const WalkArrays& a) {
  TopScratch scratch;
  int at = -1;
  int64_t* ids = a.ids;
  float* values = a.values;
  for (int level = 0;; level++, ids += q.top_k, values += q.top_k) {
    if (!top_of_row(a.logits + (at + 1) * a.stride, a.vocabulary, q.top_k, ids, values, scratch)) return -1;
    int best = 0;
    double most = 0;
    auto scaled = [&](int c) { return ((double)values[c] - values[0]) / q.temperature; };
    int kept = nucleus_kept(q.top_k, q.top_p, q.log_min_p, scaled);
    for (int c = 0; c < kept && kept > 1; c++) {
      double score = scaled(c) + gumbel(q.noise, q.position + level, ids[c]);
      if (c == 0 || score > most) most = score, best = c;
    }
    a.rows[level] = at + 1;
    a.samples[level] = ids[best];
    a.kept[level] = kept;
    int next = at + 1;  // children stand after their parent
    while (next < a.drafts && !(a.parents[next] == at && a.tokens[next] == ids[best])) next++;
    if (next == a.drafts) return level + 1;
    at = next;
  }
}

}  // namespace
