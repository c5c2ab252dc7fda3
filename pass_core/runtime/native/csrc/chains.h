// Look-ahead chains below the root and its drafts, each made longer where that promises most; what is computed here is
// said in pass_core/kernels/reference_plan.py.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace {

struct Chains {
  int nodes, steps;
  const double* hits;
  std::vector<int> parents, lengths;
  std::vector<double> stops, values, gains;
  std::vector<char> below;
  double promised = 0.0;

  Chains(const double* reaches, const int32_t* above, int drafts, const double* hits, int steps)
      : nodes(drafts + 1),
        steps(steps),
        hits(hits),
        parents(nodes, -1),
        lengths(nodes, 0),
        stops(nodes, 0.0),
        values(nodes, 0.0),
        gains(nodes, -1.0),
        below(nodes) {
    stops[0] = 1.0;
    for (int i = 0; i < drafts; i++) {
      parents[i + 1] = above[i] + 1;
      stops[i + 1] += reaches[i];
    }
    for (int i = 0; i < drafts; i++) stops[above[i] + 1] -= reaches[i];
    for (auto& stop : stops) stop = std::max(stop, 0.0);
  }

  bool extend() {
    int best = -1;
    double best_gain = 0.0;
    for (int node = 0; node < nodes; node++) {
      if (lengths[node] >= steps) continue;
      if (gains[node] < 0.0) gains[node] = gain(node);
      if (gains[node] > best_gain) {
        best = node;
        best_gain = gains[node];
      }
    }
    if (best < 0) return false;
    lengths[best]++;
    mark(best);
    for (int node = best; node < nodes; node++)
      if (below[node]) {
        values[node] = value(node);
        gains[node] = -1.0;  // to be computed again
      }
    for (int node = parents[best]; node >= 0; node = parents[node]) gains[node] = -1.0;
    promised += best_gain;
    return true;
  }

 private:
  void mark(int node) {
    std::fill(below.begin(), below.end(), 0);
    below[node] = 1;
    for (int other = node + 1; other < nodes; other++) below[other] = below[parents[other]];
    for (int other = 0; other < node; other++) below[other] = 0;
  }
  double gain(int node) {
    lengths[node]++;
    mark(node);
    double total = 0.0;
    for (int other = node; other < nodes; other++)
      if (below[other]) total += stops[other] * (value(other) - values[other]);
    lengths[node]--;
    return total;
  }
  double value(int node) const {
    double total = 0.0, product = 1.0;
    for (int depth = 1;; depth++) {
      int above = node, step = depth;
      while (above >= 0 && lengths[above] < step) {
        above = parents[above];
        step++;
      }
      if (above < 0) return total;
      product *= hits[step - 1];
      total += product;
    }
  }
};

}  // namespace
