// Drafts: heads that know the token before, and trees that grow from it level by level.
#pragma once

#include <atomic>
#include <memory>

#include "kernel.h"
#include "noise.h"
#include "nucleus.h"
#include "requests.h"
#include "top.h"

namespace {

// What corrects a look-ahead state h by the token before the drafted one. The sampler head:
// z = silu(W_in [rms(h); rms(e)] + step), h' = h + W_out z. Or the model's own bigrams: h' = h + shifts[token].
struct Head {
  int hidden = 0, inner = 0, steps = 0;
  float epsilon = 0;
  Packed from_hidden, from_token, out;
  std::vector<float> step;
  const uint16_t* shifts = nullptr;  // bfloat16 [known, hidden], the caller's; null for the sampler head
  int64_t known = 0;
  Buffer in_rows, inner_rows, state_rows, wide, prepared, quantised;

  int inner_panels() const { return shifts ? 0 : from_token.panels; }
  int outer_panels() const { return hidden / 16; }
};

void rms_rows(const float* x, int rows, int n, float epsilon, uint16_t* out) {
  for (int r = 0; r < rows; r++) {
    float total = 0;
    for (int i = 0; i < n; i++) total += x[(size_t)r * n + i] * x[(size_t)r * n + i];
    float scale = 1.0f / std::sqrt(total / n + epsilon);
    for (int i = 0; i < n; i++) out[(size_t)r * n + i] = to_bf16(x[(size_t)r * n + i] * scale);
  }
}

// One evaluation of the head: scores of `count` candidates for each of `rows` tokens that may stand before.
struct Scoring {
  Head& s;
  const uint16_t *x, *head;  // [rows, hidden] normalised embeddings (or shifts) of the tokens before; output embeddings
  uint16_t *z, *y;
  float *wide, *corrected;
  const float *state, *prepared;
  const int64_t* ids;
  int rows, count;
  float* scores;

  void inner(int first, int last) const {
    int h = s.hidden, n = s.inner;
    product_rows(s.from_token.panel(first), (size_t)s.from_token.pairs * 32, last - first, (const uint32_t*)x, h / 2,
                 rows, s.from_token.pairs, wide + first * 16, n);
    for (int r = 0; r < rows; r++)
      for (int i = first * 16; i < last * 16; i += 16)
        store_bf16(z + (size_t)r * n + i, silu16(load_f32(wide + (size_t)r * n + i) + load_f32(prepared + i)));
  }
  void outer(int first, int last) const {
    int h = s.hidden, n = s.inner;
    if (!s.shifts)
      product_rows(s.out.panel(first), (size_t)s.out.pairs * 32, last - first, (const uint32_t*)z, n / 2, rows,
                   s.out.pairs, corrected + first * 16, h);
    for (int r = 0; r < rows; r++)
      for (int i = first * 16; i < last * 16; i += 16) {
        size_t at = (size_t)r * h + i;
        store_bf16(y + at, load_f32(state + i) + (s.shifts ? load_bf16(x + at) : load_f32(corrected + at)));
      }
  }
  void score(int first, int last) const {
    int h = s.hidden;
    for (int c = first; c < last; c++) {
      const uint32_t* w = (const uint32_t*)(head + (size_t)ids[c] * h);
      for (int r = 0; r < rows; r++) {
        const uint32_t* state_row = (const uint32_t*)(y + (size_t)r * h);
        f32x16 sum{};
        for (int i = 0; i < h / 2; i += 16) {
          u32x16 a = load_u32(w + i), b = load_u32(state_row + i);
          sum += (f32x16)(a << 16) * (f32x16)(b << 16);
          sum += (f32x16)(a & 0xffff0000u) * (f32x16)(b & 0xffff0000u);
        }
        float total = 0;
        for (int i = 0; i < 16; i++) total += sum[i];
        scores[(size_t)r * count + c] = total;
      }
    }
  }
};

// Room for `rows` tokens; null without memory.
std::shared_ptr<Scoring> scoring(Head& s, const uint16_t* head, int rows) {
  int h = s.hidden, n = s.inner;
  if (!s.in_rows.reserve((size_t)rows * h * 2) || !s.inner_rows.reserve((size_t)rows * n * 2) ||
      !s.state_rows.reserve((size_t)rows * h * 2) || !s.wide.reserve((size_t)rows * (n + h) * 4))
    return nullptr;
  float* wide = s.wide.as<float>();
  return std::make_shared<Scoring>(Scoring{s, s.in_rows.as<uint16_t>(), head, s.inner_rows.as<uint16_t>(),
                                           s.state_rows.as<uint16_t>(), wide, wide + (size_t)rows * n, nullptr, nullptr,
                                           nullptr, rows, 0, nullptr});
}

// What a head takes from the token before.
void embed(const Head& s, const uint16_t* table, int64_t token, uint16_t* out) {
  if (s.shifts) {
    if (token < s.known)
      std::memcpy(out, s.shifts + (size_t)token * s.hidden, (size_t)s.hidden * 2);
    else
      std::memset(out, 0, (size_t)s.hidden * 2);
    return;
  }
  std::vector<float> wide(s.hidden);
  for (int i = 0; i < s.hidden; i++) wide[i] = from_bf16(table[(size_t)token * s.hidden + i]);
  rms_rows(wide.data(), 1, s.hidden, s.epsilon, out);
}

struct Growth {
  GrowRequest g;
  struct Node {
    int64_t token;
    int32_t parent, depth, from;
    double reach;
  };
  const double* shares;
  int64_t text_length;
  const int64_t* text;       // [text_length] the tokens so far, which drafts are to repeat
  std::vector<bool> recent;  // [vocabulary] which of them stand among the last
  std::vector<Node> nodes;
  std::vector<int> beam;         // of the level above, -1 for the root
  std::vector<int64_t> ids;      // [depth, candidates] of the plain look-ahead logits
  std::vector<float> values;     // the same candidates' plain logits
  std::vector<float> rescored;   // [width, candidates] of the present level
  std::vector<int64_t> from_ids;    // [distribution, top_k]
  std::vector<double> from_log_p;
  std::atomic<int> ended{0};  // levels from here on are not grown
  std::atomic<bool> failed{false};

  double reach(int node) const { return node < 0 ? 1.0 : nodes[node].reach; }
  int64_t token(int node) const { return node < 0 ? g.root : nodes[node].token; }
  int64_t above(int node) const { return node < 0 ? g.before : token(nodes[node].parent); }

  // What candidates gain that the text has already, as pass_core/kernels/reference.py has it.
  void repeat(int node, const int64_t* candidates, float* scores) const {
    std::vector<uint8_t> found(g.candidates, 0);
    int64_t last = token(node), second = above(node);
    for (int64_t i = 0; i + 1 < text_length; i++)
      if (text[i] == last) {
        uint8_t how = i > 0 && text[i - 1] == second ? 3 : 1;
        for (int c = 0; c < g.candidates; c++) found[c] |= candidates[c] == text[i + 1] ? how : 0;
      }
    for (int c = 0; c < g.candidates; c++) {
      float gain = recent[candidates[c]] ? g.seen : 0.0f;
      if (found[c] & 1) gain += g.after_one;
      if (found[c] & 2) gain += g.after_two;
      scores[c] += gain;
    }
  }

  // The best `branches` candidates below each node of the beam, then the next beam.
  void level(int d, bool headed, bool scored) {
    std::vector<std::pair<float, int32_t>> order(g.candidates);
    std::vector<std::pair<double, int>> drawn(g.top_k);
    size_t first = nodes.size();
    const int64_t* plain = ids.data() + (size_t)d * g.candidates;
    for (size_t b = 0; b < beam.size(); b++) {
      float* scores = (scored ? rescored.data() + b * g.candidates : values.data() + (size_t)d * g.candidates);
      if (headed && !scored) {  // each node adds to the same logits
        std::copy_n(scores, g.candidates, rescored.data() + b * g.candidates);
        scores = rescored.data() + b * g.candidates;
      }
      if (headed && text_length) repeat(beam[b], plain, scores);
      for (int c = 0; c < g.candidates; c++) order[c] = {scores[c], (int32_t)plain[c]};
      std::partial_sort(order.begin(), order.begin() + g.top_k, order.end(), before);
      double total = 0.0;
      size_t at = from_ids.size();
      for (int c = 0; c < g.top_k; c++) {
        double x = ((double)order[c].first - (double)order[0].first) / g.temperature;
        from_ids.push_back(order[c].second);
        from_log_p.push_back(x);
      }
      int kept = nucleus_kept(g.top_k, g.top_p, g.log_min_p, [&](int c) { return from_log_p[at + c]; });
      for (int c = 0; c < kept; c++) total += std::exp(from_log_p[at + c]);
      double shift = std::log(total);
      std::fill(from_log_p.begin() + at + kept, from_log_p.end(), -INFINITY);
      for (int c = 0; c < kept; c++) {
        double& log_p = from_log_p[at + c];
        log_p -= shift;
        drawn[c] = {log_p + (g.noisy ? gumbel(g.noise, g.position + d, from_ids[at + c]) : 0.0), c};
      }
      int count = std::min(g.branches, kept);
      std::stable_sort(drawn.begin(), drawn.begin() + kept, [](const auto& a, const auto& b) { return a.first > b.first; });
      double weights = 0.0;
      for (int c = 0; c < count; c++) weights += std::exp((drawn[c].first - drawn[0].first) / g.sibling_temperature);
      double share = std::min(1.0, shares[d]) / weights * reach(beam[b]);
      for (int c = 0; c < count; c++) {
        double reached = share * std::exp((drawn[c].first - drawn[0].first) / g.sibling_temperature);
        if (reached < g.min_reach) break;
        nodes.push_back({from_ids[at + drawn[c].second], beam[b], d + 1, (int32_t)(at / g.top_k), reached});
      }
    }
    std::vector<int> added(nodes.size() - first);
    for (size_t i = 0; i < added.size(); i++) added[i] = (int)(first + i);
    std::stable_sort(added.begin(), added.end(), [&](int a, int b) { return nodes[a].reach > nodes[b].reach; });
    added.resize(std::min(added.size(), (size_t)g.width));
    beam = added;
    double all = 0.0;
    for (int node : beam) all += nodes[node].reach;
    if (beam.empty() || all < g.min_level_reach) ended = d + 1;
  }
};

}  // namespace
