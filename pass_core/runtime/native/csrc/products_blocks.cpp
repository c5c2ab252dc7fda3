// Products with GGUF's blocks of 32 inputs: integer sums within a block, which do not depend on their order, then one
// float32 step with the scales of weights and row.
//
// Record of a block, 16 outputs: codes without sign (8-bit ones plus 128), then 16 float16 scales, then (Q4_1) 16 float16
// minimums. 4-bit codes: four lines of 64 bytes, line g, byte 4 o + j: output o, input 8 g + j in the low and
// 8 g + 4 + j in the high half. 8-bit codes: eight lines, line g, byte 4 o + j: output o, input 4 g + j.
// What is taken from the codes for their sign, 8 or 128, comes back through the row's sum.

#include "tiles.h"

namespace {

using pass::Format;
using pass::Form;

typedef uint16_t v16 __attribute__((vector_size(LANES * 4)));

inline vi broadcast(const uint32_t* p) { return all((int32_t)*p); }
inline vf broadcast_float(const uint32_t* p) {
  float x;
  std::memcpy(&x, p, 4);
  return all(x);
}

// Four products of bytes, w without sign, x with it, onto each sum.
inline vi dot_bytes(vi acc, vi w, vi x) {
#if defined(__AVX512VNNI__)
  return (vi)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, (__m512i)x);
#elif defined(__AVX512F__)
  return (vi)_mm512_add_epi16((__m512i)acc, _mm512_maddubs_epi16((__m512i)w, (__m512i)x));
#elif defined(__AVXVNNI__)
  return (vi)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)w, (__m256i)x);
#elif defined(__AVX2__)
  return (vi)_mm256_add_epi16((__m256i)acc, _mm256_maddubs_epi16((__m256i)w, (__m256i)x));
#elif defined(__ARM_FEATURE_DOTPROD)
  return (vi)vdotq_s32((int32x4_t)acc, (int8x16_t)w, (int8x16_t)x);
#else
  return acc;  // form_of asks for words here
#endif
}
// Sums of a block from what dot_bytes left.
inline vi whole(vi acc) {
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
  return acc;
#elif defined(__AVX512F__)
  return (vi)_mm512_madd_epi16((__m512i)acc, _mm512_set1_epi16(1));
#elif defined(__AVX2__)
  return (vi)_mm256_madd_epi16((__m256i)acc, _mm256_set1_epi16(1));
#else
  return acc;
#endif
}
// Two products of 16 bits onto each sum.
inline vi dot_words(vi acc, vi w, vi x) {
#if defined(__AVX512VNNI__)
  return (vi)_mm512_dpwssd_epi32((__m512i)acc, (__m512i)w, (__m512i)x);
#elif defined(__AVX512F__)
  return acc + (vi)_mm512_madd_epi16((__m512i)w, (__m512i)x);
#elif defined(__AVXVNNI__)
  return (vi)_mm256_dpwssd_avx_epi32((__m256i)acc, (__m256i)w, (__m256i)x);
#elif defined(__AVX2__)
  return acc + (vi)_mm256_madd_epi16((__m256i)w, (__m256i)x);
#elif defined(__aarch64__)
  int32x4_t a = vmlal_s16((int32x4_t)acc, vmovn_s32((int32x4_t)w), vmovn_s32((int32x4_t)x));
  return (vi)vmlal_s16(a, vshrn_n_s32((int32x4_t)w, 16), vshrn_n_s32((int32x4_t)x, 16));
#endif
}

template <int FORMAT, int FORM>
struct Blocks {
  static constexpr size_t RECORD = pass::record_bytes(FORMAT);
  static constexpr bool EIGHT = FORMAT == pass::Q8_0, BYTES = FORM == pass::BYTES;
  static constexpr int WORDS = BYTES ? pass::BYTES_RECORD : pass::WORDS_RECORD, NUMBERS = WORDS - 3;
  static constexpr size_t CODES = EIGHT ? 512 : 256;
  static constexpr int ZERO_BITS = EIGHT ? 7 : 3;  // codes have 2^ZERO_BITS added
#if defined(__ARM_FEATURE_DOTPROD)
  static constexpr bool SIGNED = EIGHT && BYTES;  // the products here take both with sign
#else
  static constexpr bool SIGNED = false;
#endif
#if defined(__AVX512VNNI__)
  static constexpr bool STAY = !EIGHT || BYTES;  // one instruction multiplies and adds: measured, not necessary
#else
  static constexpr bool STAY = true;
#endif
  static constexpr bool SHIFTED = FORMAT != pass::Q4_1 && !SIGNED;

  // A tile's integer sums, weights and an input fit the registers; the float32 sums may wait in memory, for each is read
  // once a block.
#if defined(__AVX512F__)
  static constexpr int MOST = 12;
  static constexpr int vectors(int rows) { return rows <= 3 ? 4 : rows == 4 ? 3 : rows <= 6 ? 2 : 1; }
#elif defined(__AVX2__)
  static constexpr int MOST = 6;
  static constexpr int vectors(int rows) { return rows == 1 || (BYTES && rows == 2) ? 4 : 2; }
#else
  static constexpr int MOST = 6;
  static constexpr int vectors(int rows) { return rows <= 2 ? 4 : rows <= 5 ? 2 : 1; }
#endif

  template <int R, int V>
  PASS_WITHIN static inline void block(vf (&acc)[R][V], const Tile& t, const char* ahead, int k) {
    const uint32_t* x = t.x + (size_t)k * WORDS * t.word;  // goes from number to number, then over the scales
    vi sums[R][V] = {};
    auto add = [&](const vi (&w)[V]) PASS_WITHIN {
#pragma GCC unroll 32
      for (int r = 0; r < R; r++) {
        vi xr = broadcast(x + r);
#pragma GCC unroll 32
        for (int v = 0; v < V; v++) {
          sums[r][v] = BYTES ? dot_bytes(sums[r][v], w[v], xr) : dot_words(sums[r][v], w[v], xr);
          if constexpr (STAY) stays(sums[r][v]);
        }
      }
      x += t.word;
      if constexpr (STAY) stays(x);
    };
    const vi low4 = all(BYTES ? 0x0f0f0f0f : 0x000f000f), low8 = all(0x00ff00ff);
#pragma GCC unroll 8
    for (int g = 0; g < (int)CODES / 64; g++) {
#pragma GCC unroll 32
      for (int p = 0; p < (V + PARTS - 1) / PARTS; p++) __builtin_prefetch(ahead + p * t.stride + g * 64, 0, ONCE);
      vi codes[V], w[V];
#pragma GCC unroll 32
      for (int v = 0; v < V; v++) codes[v] = load<vi>(vector_at<Blocks>(t, v, k) + g * 64);
      auto each = [&](auto take) PASS_WITHIN {
#pragma GCC unroll 32
        for (int v = 0; v < V; v++) w[v] = (vi)take((vu)codes[v]);
        add(w);
      };
      if constexpr (EIGHT && BYTES) {
        if constexpr (SIGNED)
          each([](vu c) { return c ^ 0x80808080u; });
        else
          each([](vu c) { return c; });
      } else if constexpr (EIGHT) {
        each([&](vu c) { return c & (vu)low8; });
        each([&](vu c) { return (c >> 8) & (vu)low8; });
      } else if constexpr (BYTES) {
        each([&](vu c) { return c & (vu)low4; });
        each([&](vu c) { return (c >> 4) & (vu)low4; });
      } else {
        each([&](vu c) { return c & (vu)low4; });
        each([&](vu c) { return (c >> 8) & (vu)low4; });
        each([&](vu c) { return (c >> 4) & (vu)low4; });
        each([&](vu c) { return (vu)((v16)c >> 12); });
      }
    }
#pragma GCC unroll 32
    for (int v = 0; v < V; v++) {
      const char* tail = vector_at<Blocks>(t, v, k) + CODES - (v % PARTS + t.part) * (NATIVE_BYTES - LANES * 2);
      if (v % PARTS == 0) __builtin_prefetch(ahead + (v / PARTS) * t.stride + CODES, 0, ONCE);
      vf scale = load_half(tail), least{};
      if constexpr (FORMAT == pass::Q4_1) least = load_half(tail + 32);
#pragma GCC unroll 32
      for (int r = 0; r < R; r++) {
        vi sum = sums[r][v];
        if constexpr (BYTES) sum = whole(sum);
        if constexpr (SHIFTED) sum += broadcast(x + 2 * t.word + r) << ZERO_BITS;
        acc[r][v] = fma(floats_of(sum), scale * broadcast_float(x + r), acc[r][v]);
        if constexpr (FORMAT == pass::Q4_1) acc[r][v] = fma(least, broadcast_float(x + t.word + r), acc[r][v]);
      }
    }
  }

  template <int R, int V, int ROW, Reuse REUSE>
  PASS_TILE static void micro(const Tile& given) {
    const Tile t = given;
    vf acc[R][V] = {};
    walk_steps<Blocks, V>(t, [&](int k, const char* ahead) PASS_WITHIN { block<R, V>(acc, t, ahead, k); });
#pragma GCC unroll 32
    for (int r = 0; r < R; r++)
#pragma GCC unroll 32
      for (int v = 0; v < V; v++) store(t.out + r * t.out_stride + v * LANES, acc[r][v]);
  }
};

}  // namespace

namespace pass {

void product_blocks(int format, Form form, const Panels& w, const uint32_t* x, size_t ld, int rows, float* out,
                    size_t out_stride) {
  auto run = format == Q8_0   ? side_by_side<Blocks<Q8_0, WORDS>, ONCE>
             : format == Q4_0 ? side_by_side<Blocks<Q4_0, WORDS>, ONCE>
                              : side_by_side<Blocks<Q4_1, WORDS>, ONCE>;
  if constexpr (BYTES_FOR_Q8)
    if (form == BYTES && format == Q8_0) run = side_by_side<Blocks<Q8_0, BYTES>, ONCE>;
  if constexpr (BYTES_FOR_Q4) {
    if (form == BYTES && format == Q4_0) run = side_by_side<Blocks<Q4_0, BYTES>, ONCE>;
    if (form == BYTES && format == Q4_1) run = side_by_side<Blocks<Q4_1, BYTES>, ONCE>;
  }
  run(w, x, ld, rows, out, out_stride, false);
}

}  // namespace pass
