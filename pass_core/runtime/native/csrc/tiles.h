// Rows by panels, tile by tile: what all kernels share.
//
// A kernel K has: RECORD, bytes of 16 outputs by one step; WORDS, of one row by one step; MOST, rows that its largest
// tile takes; vectors(rows), native vectors of outputs in a tile of so many rows (its panels, or a part of one);
// micro<R, V, ROW, REUSE>, one tile.
#pragma once

#include <algorithm>
#include <type_traits>

#include "products.h"

namespace {

using pass::AGAIN;
using pass::ONCE;
using pass::Panels;
using pass::Reuse;

// A tile is a function of its own, so that its sums have all registers, and everything within it is one piece of code.
#if defined(_MSC_VER) && !defined(__clang__)
#define PASS_TILE __declspec(noinline)
#define PASS_WITHIN
#else
#define PASS_TILE __attribute__((noinline))
#define PASS_WITHIN __attribute__((always_inline))
#endif

// Has its value here. A compiler that may add in any order first multiplies all inputs of a block, and has no registers
// for so many products; and it keeps the addresses of all of them.
template <class V>
PASS_WITHIN inline void stays(V& sum) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(sum));
#elif defined(__x86_64__)
  __asm__("" : "+x"(sum));
#else
  __asm__("" : "+w"(sum));
#endif
}
PASS_WITHIN inline void stays(const uint32_t*& at) { __asm__("" : "+r"(at)); }

constexpr int NATIVE_BYTES = 64 / PARTS;  // of a 64-byte line of 16 lanes

struct Tile {
  const char* w;
  size_t stride;  // bytes between panels
  const uint32_t* x;
  size_t word, row;  // words between a row's words, and between rows
  int steps;
  float* out;
  size_t out_stride;
  bool accumulate;
  int part = 0;  // the native vector of each panel that a tile of less than a panel begins with; w points to it
};

// Steps between calling for a line of weights and using it: memory's answer takes as long as some 200 lines are used.
template <class K, int V>
constexpr int steps_ahead() {
  constexpr int panels = (V + PARTS - 1) / PARTS, lines = (K::RECORD + 63) / 64;
  return std::max(2, (panels == 1 ? 192 : panels == 2 ? 128 : 64) / lines);
}

// step(k, ahead) for all steps; `ahead` is what to prefetch. The panels after these continue in memory: near the end of a
// panel the next ones are called for.
template <class K, int V, class Step>
PASS_WITHIN inline void walk_steps(const Tile& t, const Step& step) {
  constexpr int far = steps_ahead<K, V>(), panels = (V + PARTS - 1) / PARTS;
  int turn = std::max(0, t.steps - far);
  const char *ahead = t.w + (size_t)far * K::RECORD, *next = t.w + panels * t.stride - (size_t)turn * K::RECORD;
  if constexpr (K::RECORD == 64) {
    for (int k = 0; k < turn; k++) step(k, ahead + (size_t)k * K::RECORD);
    for (int k = turn; k < t.steps; k++) step(k, next + (size_t)k * K::RECORD);
  } else {  // a step is long code: once
    for (int k = 0; k < t.steps; k++) step(k, (k < turn ? ahead : next) + (size_t)k * K::RECORD);
  }
}

template <class K, int V, Reuse REUSE>
PASS_WITHIN inline void prefetch(const char* ahead, size_t stride) {
#pragma GCC unroll 32
  for (int p = 0; p < (V + PARTS - 1) / PARTS; p++)
#pragma GCC unroll 16
    for (size_t line = 0; line < K::RECORD; line += 64) __builtin_prefetch(ahead + p * stride + line, 0, REUSE);
}

// Where vector v of a tile lies within the record of a step.
template <class K>
PASS_WITHIN inline const char* vector_at(const Tile& t, int v, int k) {
  return t.w + (v / PARTS) * t.stride + (v % PARTS) * NATIVE_BYTES + (size_t)k * K::RECORD;
}

template <class K, int R, int V, int ROW, Reuse REUSE>
void tiles_of(Tile t, int panels) {
  if constexpr (V < PARTS) {
    for (int p = 0; p < panels; p++)
      for (int part = 0; part < PARTS; part += V) {
        Tile one = t;
        one.w += p * t.stride + part * NATIVE_BYTES;
        one.out += p * 16 + part * LANES;
        one.part = part;
        K::template micro<R, V, ROW, REUSE>(one);
      }
  } else {
    constexpr int P = V / PARTS;
    int p = 0;
    for (; p + P <= panels; p += P) {
      K::template micro<R, V, ROW, REUSE>(t);
      t.w += P * t.stride;
      t.out += P * 16;
    }
    if constexpr (P > 1) {
      constexpr int LESS = P > 4 ? 4 : P > 2 ? 2 : 1;
      if (p < panels) tiles_of<K, R, LESS * PARTS, ROW, REUSE>(t, panels - p);
    }
  }
}

template <class K, int R, int MOST, int ROW, Reuse REUSE>
void rows_of(int rows, const Tile& t, int panels) {
  if constexpr (R < MOST) {
    if (rows > R) {
      rows_of<K, R + 1, MOST, ROW, REUSE>(rows, t, panels);
      return;
    }
  }
  tiles_of<K, R, K::vectors(R), ROW, REUSE>(t, panels);
}

// Rows side by side: all of them pass over each weight once where registers allow, and from the first caches where not.
template <class K, Reuse REUSE>
void side_by_side(const Panels& w, const uint32_t* x, size_t ld, int rows, float* out, size_t out_stride,
                  bool accumulate) {
  int blocks = (rows + K::MOST - 1) / K::MOST;
  if (blocks == 0 || w.count <= 0) return;
  int base = rows / blocks, extra = rows % blocks;
  int group = blocks == 1 ? w.count : std::max(1, K::vectors(base + (extra > 0)) / PARTS);
  for (int p = 0; p < w.count; p += group) {
    int count = std::min(group, w.count - p), r = 0;
    for (int b = 0; b < blocks; b++) {
      int n = base + (b < extra ? 1 : 0);
      rows_of<K, 1, K::MOST, 1, REUSE>(n,
                                       {w.data + p * w.stride, w.stride, x + r, ld, 1, w.steps,
                                        out + r * out_stride + p * 16, out_stride, accumulate},
                                       count);
      r += n;
    }
  }
}

// Rows one after the other, a few at a time.
template <class K>
void one_by_one(const Panels& w, const uint32_t* x, size_t row, int rows, float* out, size_t out_stride) {
  constexpr int MOST = K::MOST < 6 ? K::MOST : 6;
  for (int r = 0; r < rows; r += MOST)
    rows_of<K, 1, MOST, 0, AGAIN>(
        std::min(MOST, rows - r),
        {w.data, w.stride, x + r * row, 1, row, w.steps, out + r * out_stride, out_stride, false}, w.count);
}

}  // namespace
