// Products of a few rows with panels of 16 outputs, for every format of weights. The kernels are compiled in
// products_dense.cpp and products_blocks.cpp.
//
// Each (row, output) has one accumulator that runs over its inputs in logical order, with one rounding a step, whatever
// tile computes it. So a row's bits depend on that row and on the weights alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd.h"

namespace pass {

// Formats of weights; Python has the same numbers (pass_core/runtime/native/formats.py). Q4_0, Q4_1 and Q8_0 are GGUF's
// blocks of 32 inputs: float16 scale (and minimum), then codes (ggml-common.h of llama.cpp).
enum Format : int32_t { F32 = 0, BF16 = 1, Q8_0 = 2, Q4_0 = 3, Q4_1 = 4, FORMATS };

// What a product reads of its rows. FLOATS: float32. PAIRS: two bfloat16 in 32 bits. BYTES and WORDS: blocks of 32 inputs as
// 8-bit or 16-bit integers with a scale for each row and block, see quantise in activations.h.
enum Form : int32_t { FLOATS = 0, PAIRS = 1, BYTES = 2, WORDS = 3, FORMS };

// How weights are prefetched. A forward pass reads all weights once: what passes through the first cache alone leaves the
// others to what every step needs again (keys, values, adapters, draft heads, the interpreter).
enum Reuse { ONCE = 0, AGAIN = 3 };

constexpr int BLOCK = 32;  // inputs that share a scale

// Bytes of 16 outputs by one step: an input (F32), two (BF16) or a block.
constexpr size_t record_bytes(int format) {
  return format == F32 || format == BF16 ? 64 : format == Q8_0 ? 544 : format == Q4_0 ? 288 : 320;
}
constexpr int inputs_a_step(int format) { return format == F32 ? 1 : format == BF16 ? 2 : BLOCK; }

// 32-bit words of one row and block: the integers, then scale, scale * sum, and minus the sum of the integers.
constexpr int BYTES_RECORD = 11, WORDS_RECORD = 19;

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(__ARM_FEATURE_DOTPROD)
constexpr bool BYTES_FOR_Q8 = true;
#else
constexpr bool BYTES_FOR_Q8 = false;
#endif
#if defined(__AVX2__) || defined(__ARM_FEATURE_DOTPROD)
constexpr bool BYTES_FOR_Q4 = true;
#else
constexpr bool BYTES_FOR_Q4 = false;
#endif
#if defined(__AVX512BF16__)
constexpr Form BF16_ROWS = PAIRS;
#else
constexpr Form BF16_ROWS = FLOATS;
#endif

// What a product with weights of a format reads; bits: 8 or 16, of the integers.
constexpr Form form_of(int format, int bits) {
  return format == F32 ? FLOATS
         : format == BF16 ? BF16_ROWS
         : bits == 8 && (format == Q8_0 ? BYTES_FOR_Q8 : BYTES_FOR_Q4) ? BYTES
                                                                         : WORDS;
}

// `count` panels, each `stride` bytes after the last, of `steps` records.
struct Panels {
  const char* data;
  size_t stride;
  int count, steps;
};

// out[r * out_stride + p * 16 ..] = (or +=) x[r] . panel p. Rows lie side by side: word w of row r is x[w * ld + r].
void product(int format, Form form, Reuse reuse, const Panels& w, const uint32_t* x, size_t ld, int rows, float* out,
             size_t out_stride, bool accumulate = false);
void product_dense(int format, Form form, Reuse reuse, const Panels& w, const uint32_t* x, size_t ld, int rows,
                   float* out, size_t out_stride, bool accumulate);
void product_blocks(int format, Form form, const Panels& w, const uint32_t* x, size_t ld, int rows, float* out,
                    size_t out_stride);
// The same with rows one after the other, `row` words apart, for F32 and BF16: attention and draft heads.
void product_rows(int format, Form form, const Panels& w, const uint32_t* x, size_t row, int rows, float* out,
                  size_t out_stride);

inline void product(int format, Form form, Reuse reuse, const Panels& w, const uint32_t* x, size_t ld, int rows,
                    float* out, size_t out_stride, bool accumulate) {
  if (format == F32 || format == BF16)
    product_dense(format, form, reuse, w, x, ld, rows, out, out_stride, accumulate);
  else
    product_blocks(format, form, w, x, ld, rows, out, out_stride);
}

}  // namespace pass
