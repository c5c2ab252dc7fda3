// Rows as products read them: float32, bfloat16 pairs, or integers by blocks.
#pragma once

#include "products.h"

namespace {

using pass::BLOCK;
using pass::Form;

// How far apart the words of one row are: next to each other for few rows, and never a power of two for many, whose
// words would crowd into a few sets of the cache.
inline size_t word_stride(int rows) { return rows <= 48 ? rows : (rows + 15) / 16 * 16 + 16; }

constexpr unsigned bit(Form form) { return 1u << form; }

// 16 values as 8 bfloat16 pairs of one row, each `ld` words after the last.
inline void store_pairs(uint32_t* out, size_t ld, const f32x16& v) {
  uint32_t pairs[8];
  store_bf16((uint16_t*)pairs, v);
  for (int i = 0; i < 8; i++) out[i * ld] = pairs[i];
}

struct Whole32 {  // 32 whole numbers
  alignas(64) int32_t n[BLOCK];
  int32_t sum = 0;
};
inline void round_block(const f32x16& low, const f32x16& high, float inverse, Whole32& out) {
  vi sum{};
  for (int i = 0; i < PARTS; i++) {
    vi a = nearest(low.part[i] * inverse), b = nearest(high.part[i] * inverse);
    store(out.n + i * LANES, a);
    store(out.n + 16 + i * LANES, b);
    sum += a + b;
  }
  for (int i = 0; i < LANES; i++) out.sum += sum[i];
}

inline void put_tail(uint32_t* at, size_t ld, float scale, int32_t sum) {
  float scaled = scale * (float)sum;
  int32_t less = -sum;
  std::memcpy(at, &scale, 4);
  std::memcpy(at + ld, &scaled, 4);
  std::memcpy(at + 2 * ld, &less, 4);
}

// 8-bit integers, four inputs a word.
inline void quantise_bytes(uint32_t* at, size_t ld, const f32x16& low, const f32x16& high, float most) {
  Whole32 w;
  round_block(low, high, most > 1e-30f ? 127.0f / most : 0.0f, w);
  alignas(64) uint32_t words[8];
  typedef int32_t i32x32 __attribute__((vector_size(128)));
  typedef int8_t i8x32 __attribute__((vector_size(32)));
  i32x32 wide;
  std::memcpy(&wide, w.n, 128);
  i8x32 narrow = __builtin_convertvector(wide, i8x32);
  std::memcpy(words, &narrow, 32);
  for (int i = 0; i < 8; i++) at[i * ld] = words[i];
  put_tail(at + 8 * ld, ld, most / 127.0f, w.sum);
}

// 16-bit integers: of each eight inputs the pairs (0, 2), (1, 3), (4, 6), (5, 7), as the codes of weights come apart.
inline void quantise_words(uint32_t* at, size_t ld, const f32x16& low, const f32x16& high, float most) {
  Whole32 w;
  round_block(low, high, most > 1e-30f ? 32767.0f / most : 0.0f, w);
  for (int i = 0; i < BLOCK; i += 8)
    for (int half = 0; half < 8; half += 4)
      for (int odd = 0; odd < 2; odd++) {
        const int32_t* n = w.n + i + half + odd;
        at[(i / 2 + half / 2 + odd) * ld] = (uint32_t)(n[0] & 0xffff) | (uint32_t)n[2] << 16;
      }
  put_tail(at + 16 * ld, ld, most / 32767.0f, w.sum);
}

// Some rows of `inputs` numbers, side by side (word w of row r is at w * ld + r), in each form that is needed.
struct Activations {
  uint32_t* of[pass::FORMS] = {};  // null where nobody reads it
  size_t ld = 0;
  int inputs = 0;

  static size_t words(int form, int inputs) {
    int blocks = (inputs + BLOCK - 1) / BLOCK;
    return form == pass::FLOATS  ? inputs
           : form == pass::PAIRS ? (inputs + 1) / 2
           : form == pass::BYTES ? blocks * pass::BYTES_RECORD
                                 : blocks * pass::WORDS_RECORD;
  }
  static size_t bytes(int inputs, size_t ld, unsigned needs) {
    size_t sum = 0;
    for (int f = 0; f < pass::FORMS; f++)
      if (needs >> f & 1) sum += (words(f, inputs) * ld * 4 + 63) / 64 * 64;
    return sum;
  }
  // Lie in `memory`, of `bytes` bytes.
  void place(void* memory, int count, size_t stride, unsigned needs) {
    char* at = (char*)memory;
    inputs = count;
    ld = stride;
    for (int f = 0; f < pass::FORMS; f++) {
      of[f] = needs >> f & 1 ? (uint32_t*)at : nullptr;
      if (of[f]) at += (words(f, count) * ld * 4 + 63) / 64 * 64;
    }
  }
  bool whole_numbers() const { return of[pass::BYTES] || of[pass::WORDS]; }

  // 16 inputs of a row from input i on, in the forms that have no blocks.
  void put16(int r, int i, const f32x16& v) const {
    if (uint32_t* pairs = of[pass::PAIRS]) store_pairs(pairs + (size_t)i / 2 * ld + r, ld, v);
    if (uint32_t* floats = of[pass::FLOATS]) {
      float* out = (float*)floats + (size_t)i * ld + r;
      if (ld == 1) {
        store_f32(out, v);
      } else {
        alignas(64) float x[16];
        store_f32(x, v);
        for (int j = 0; j < 16; j++) out[j * ld] = x[j];
      }
    }
  }
  // The 32 inputs of a block as integers.
  void put_block(int r, int block, const f32x16& low, const f32x16& high) const {
    float most = max16(larger(magnitude(low), magnitude(high)));
    if (uint32_t* at = of[pass::BYTES]) quantise_bytes(at + (size_t)block * pass::BYTES_RECORD * ld + r, ld, low, high, most);
    if (uint32_t* at = of[pass::WORDS]) quantise_words(at + (size_t)block * pass::WORDS_RECORD * ld + r, ld, low, high, most);
  }
  // Inputs i .. i + count - 1 of a row; where blocks are needed i is a multiple of 32, and inputs beyond `count` are zero.
  void put(int r, int i, const float* x, int count) const {
    if (of[pass::PAIRS] || of[pass::FLOATS])
      for (int j = 0; j < count; j += 16) put16(r, i + j, load_f32(x + j));
    if (whole_numbers())
      for (int j = 0; j < count; j += BLOCK)
        put_block(r, (i + j) / BLOCK, load_f32(x + j), j + 16 < count ? load_f32(x + j + 16) : f32x16());
  }
};

}  // namespace
