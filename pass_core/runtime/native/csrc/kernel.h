// What draft heads and trees are made of: vectors, memory, and matrices of bfloat16 weights by bfloat16 rows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "matrix.h"

namespace {

// A packed bfloat16 matrix.
struct Packed {
  Buffer memory;
  int outputs = 0, inputs = 0, panels = 0, pairs = 0;
  bool reserve(int out, int in, Arena* arena = nullptr) {
    outputs = out;
    inputs = in;
    panels = (out + 15) / 16;
    pairs = (in + 1) / 2;
    return memory.reserve((size_t)panels * pairs * 64, arena);
  }
  // Copy row-major [rows, in] bfloat16 into outputs first..first+rows-1.
  void put(const uint16_t* source, int rows, int first = 0) {
    uint16_t* base = memory.as<uint16_t>();
    for (int r = 0; r < rows; r++) {
      int o = first + r;
      uint16_t* panel = base + (size_t)(o / 16) * pairs * 32 + (o % 16) * 2;
      const uint16_t* row = source + (size_t)r * inputs;
      for (int i = 0; i < inputs; i++) panel[(size_t)(i / 2) * 32 + (i & 1)] = row[i];
    }
  }
  const uint16_t* panel(int p) const { return memory.as<uint16_t>() + (size_t)p * pairs * 32; }
  bool empty() const { return panels == 0; }
};

// out[r, p * 16 ..] = x[r] . panel p; x: rows of bfloat16 pairs, `row` pairs apart; panel_stride in bfloat16 numbers.
inline void product_rows(const uint16_t* w, size_t panel_stride, int panels, const uint32_t* x, size_t row, int rows,
                         int pairs, float* out, size_t out_stride) {
  pass::product_rows(pass::BF16, pass::PAIRS, {(const char*)w, panel_stride * 2, panels, pairs}, x, row, rows, out,
                     out_stride);
}

}  // namespace
