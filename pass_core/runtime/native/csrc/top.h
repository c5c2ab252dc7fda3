// The largest logits of a row.
#pragma once

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "kernel.h"

namespace {

constexpr int TOP_BLOCK = 128;  // a row is read in whole blocks
constexpr int SMALL_BLOCK = 32;  // where so many are wanted that most large blocks would hold one

struct TopScratch {
  std::vector<float> most, sorted;
  std::vector<std::pair<float, int32_t>> found;
};

bool before(const std::pair<float, int32_t>& a, const std::pair<float, int32_t>& b) {
  return a.first > b.first || (a.first == b.first && a.second < b.second);
}

// The `count` largest of a row, largest first, ties by lower id; see pass_top.
bool top_of_row(const float* row, int vocabulary, int count, int64_t* ids, float* values, TopScratch& scratch) {
  int block = vocabulary / TOP_BLOCK >= 4 * count ? TOP_BLOCK : SMALL_BLOCK, blocks = vocabulary / block;
  auto& most = scratch.most;
  most.resize(blocks);
  for (int b = 0; b < blocks; b++) {
    f32x16 top = load_f32(row + b * block);
    for (int i = 16; i < block; i += 16) {
      f32x16 v = load_f32(row + b * block + i);
      top = larger(v, top);
    }
    float best = top[0];
    for (int i = 1; i < 16; i++) best = top[i] > best ? top[i] : best;
    most[b] = best;
  }
  // At least `count` numbers reach the count-th largest maximum: whatever is below cannot be among the largest.
  auto& sorted = scratch.sorted;
  sorted = most;
  std::nth_element(sorted.begin(), sorted.begin() + count - 1, sorted.end(), std::greater<float>());
  float least = sorted[count - 1];
  auto& found = scratch.found;
  found.clear();
  for (int b = 0; b < blocks; b++) {
    if (!(most[b] >= least)) continue;
    for (int i = b * block; i < (b + 1) * block; i += 16) {
      auto reach = load_f32(row + i) >= least;
      bool any = false;
      for (int j = 0; j < 16; j++) any |= reach[j] != 0;
      if (any)
        for (int j = i; j < i + 16; j++)
          if (row[j] >= least) found.push_back({row[j], j});
    }
  }
  if ((int)found.size() < count) return false;
  std::partial_sort(found.begin(), found.begin() + count, found.end(), before);
  for (int i = 0; i < count; i++) {
    values[i] = found[i].first;
    ids[i] = found[i].second;
  }
  return true;
}

}  // namespace
