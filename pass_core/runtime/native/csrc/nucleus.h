// Top-p and min-p, as pass_core/sampling/nucleus.py has them: how many of the likeliest tokens they keep.
#pragma once

#include <cmath>
#include <cstdint>

namespace {

constexpr double NUCLEUS_ONE = 8796093022208.0;  // 2^43: the weight of the likeliest token

inline int64_t nucleus_weight(double scaled) { return (int64_t)std::nearbyint(std::exp(scaled) * NUCLEUS_ONE); }

// scaled(c): logit / temperature of candidate c less that of the first; it falls. At least 1 of `count` is kept.
template <class Scaled>
int nucleus_kept(int count, double top_p, double log_min_p, Scaled scaled) {
  if (count < 2 || (top_p >= 1.0 && log_min_p == -INFINITY)) return count;
  int64_t total = 0, likelier = 0;
  for (int c = 0; c < count && top_p < 1.0; c++) total += nucleus_weight(scaled(c));
  for (int c = 0; c < count; c++) {
    bool inside = (top_p >= 1.0 || (double)likelier < top_p * (double)total) && scaled(c) >= log_min_p;
    if (!inside) return c > 0 ? c : 1;
    if (top_p < 1.0) likelier += nucleus_weight(scaled(c));
  }
  return count;
}

}  // namespace
