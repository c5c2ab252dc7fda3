// Products with float32 and bfloat16 weights.

#include "tiles.h"

namespace {

// Native vectors of outputs that a tile of some rows has: the sums, the weights and an input must fit the registers, and
// below eight or so sums the latency of one shows. Three rows on AVX2 have six all the same: with twelve they are faster in
// the caches, and slower where weights come from memory, as two panels at once.
constexpr int dense_vectors(int rows) {
#if defined(__AVX512F__)
  return rows <= 3 ? 8 : rows == 4 ? 6 : rows == 5 ? 5 : rows == 6 ? 4 : rows <= 8 ? 3 : rows <= 14 ? 2 : 1;
#elif defined(__AVX2__)
  return rows == 1 ? 8 : rows == 2 ? 4 : 2;
#else
  return rows == 1 ? 16 : rows == 2 ? 8 : rows == 3 ? 8 : 4;
#endif
}
constexpr int DENSE_MOST = LANES == 16 ? 24 : 6;

inline vf broadcast(const uint32_t* p) {
  float x;
  std::memcpy(&x, p, 4);
  return all(x);
}

// acc += w * x in acc's own register. GCC otherwise leaves the sum in that of a factor and, where sums take nearly all
// registers, brings it back through memory: a step then waits for that.
PASS_WITHIN inline void add_product(vf& acc, vf w, vf x) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  __asm__("vfmadd231ps %2, %1, %0" : "+x"(acc) : "x"(w), "x"(x));
#else
  acc = fma(w, x, acc);
#endif
}

// acc += weight(v) * x for each row. More vectors than rows: their inputs stay in registers, else the weights do.
template <int R, int V, class Weight>
PASS_WITHIN inline void rows_by(vf (&acc)[R][V], const uint32_t* x, size_t row, const Weight& weight) {
  if constexpr (V > R) {
    vf xr[R];
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) xr[r] = broadcast(x + r * row);
#pragma GCC unroll 32
    for (int v = 0; v < V; v++) {
      vf w = weight(v);
#pragma GCC unroll 32
      for (int r = 0; r < R; r++) add_product(acc[r][v], w, xr[r]);
    }
  } else {
    vf w[V];
#pragma GCC unroll 32
    for (int v = 0; v < V; v++) w[v] = weight(v);
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) {
      vf xr = broadcast(x + r * row);
#pragma GCC unroll 32
      for (int v = 0; v < V; v++) add_product(acc[r][v], w[v], xr);
    }
  }
}

struct DenseF32 {
  static constexpr size_t RECORD = 64;
  static constexpr int MOST = DENSE_MOST > 14 ? 14 : DENSE_MOST;
  static constexpr int vectors(int rows) { return dense_vectors(rows); }
  template <int R, int V>
  PASS_WITHIN static inline void step(vf (&acc)[R][V], const Tile& t, size_t row, int k) {
    rows_by<R, V>(acc, t.x + k * t.word, row,
                  [&](int v) PASS_WITHIN { return load<vf>(vector_at<DenseF32>(t, v, k)); });
  }
  template <int R, int V, int ROW, Reuse REUSE>
  static void micro(const Tile& t);
};

// bfloat16 weights by float32 inputs.
struct DenseBf16 {
  static constexpr size_t RECORD = 64;
  static constexpr int MOST = DENSE_MOST > 14 ? 14 : DENSE_MOST;
  static constexpr int vectors(int rows) { return dense_vectors(rows); }
  template <int R, int V>
  PASS_WITHIN static inline void step(vf (&acc)[R][V], const Tile& t, size_t row, int k) {
    const uint32_t* x = t.x + 2 * k * t.word;
    rows_by<R, V>(acc, x, row,
                  [&](int v) PASS_WITHIN { return (vf)(load<vu>(vector_at<DenseBf16>(t, v, k)) << 16); });
    // Read again: kept, both halves would need more registers than there are.
    const char* again = t.w;
    __asm__("" : "+r"(again));
    Tile odd = t;
    odd.w = again;
    rows_by<R, V>(acc, x + t.word, row,
                  [&](int v) PASS_WITHIN { return (vf)(load<vu>(vector_at<DenseBf16>(odd, v, k)) & 0xffff0000u); });
  }
  template <int R, int V, int ROW, Reuse REUSE>
  static void micro(const Tile& t);
};

// bfloat16 weights by bfloat16 inputs.
struct DensePairs {
  static constexpr size_t RECORD = 64;
#if defined(__AVX512BF16__)
  static constexpr int MOST = DENSE_MOST;
#else
  static constexpr int MOST = 4;  // draft heads alone
#endif
  static constexpr int vectors(int rows) { return dense_vectors(rows); }
  template <int R, int V>
  PASS_WITHIN static inline void step(vf (&acc)[R][V], const Tile& t, size_t row, int k) {
    vu w[V];
#pragma GCC unroll 32
    for (int v = 0; v < V; v++) w[v] = load<vu>(vector_at<DensePairs>(t, v, k));
    const uint32_t* x = t.x + k * t.word;
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) {
#if defined(__AVX512BF16__)
      __m512bh pair = (__m512bh)_mm512_set1_epi32((int)x[r * row]);
#pragma GCC unroll 32
      for (int v = 0; v < V; v++) acc[r][v] = (vf)_mm512_dpbf16_ps((__m512)acc[r][v], (__m512bh)w[v], pair);
#else
      uint32_t even = x[r * row] << 16, odd = x[r * row] & 0xffff0000u;
      vf xe = broadcast(&even), xo = broadcast(&odd);
#pragma GCC unroll 32
      for (int v = 0; v < V; v++)
        acc[r][v] = fma((vf)(w[v] & 0xffff0000u), xo, fma((vf)(w[v] << 16), xe, acc[r][v]));
#endif
    }
  }
  template <int R, int V, int ROW, Reuse REUSE>
  static void micro(const Tile& t);
};

template <class K, int R, int V, int ROW, Reuse REUSE>
PASS_TILE void run(const Tile& t) {
  vf acc[R][V];
  const size_t row = ROW ? ROW : t.row;
  const Tile tile = t;
#pragma GCC unroll 32
  for (int r = 0; r < R; r++)
#pragma GCC unroll 32
    for (int v = 0; v < V; v++)
      acc[r][v] = tile.accumulate ? load<vf>(tile.out + r * tile.out_stride + v * LANES) : vf{};
  walk_steps<K, V>(tile, [&](int k, const char* ahead) PASS_WITHIN {
    prefetch<K, V, REUSE>(ahead, tile.stride);
    K::template step<R, V>(acc, tile, row, k);
  });
#pragma GCC unroll 32
  for (int r = 0; r < R; r++)
#pragma GCC unroll 32
    for (int v = 0; v < V; v++) store(tile.out + r * tile.out_stride + v * LANES, acc[r][v]);
}
template <int R, int V, int ROW, Reuse REUSE>
void DenseF32::micro(const Tile& t) {
  run<DenseF32, R, V, ROW, REUSE>(t);
}
template <int R, int V, int ROW, Reuse REUSE>
void DenseBf16::micro(const Tile& t) {
  run<DenseBf16, R, V, ROW, REUSE>(t);
}
template <int R, int V, int ROW, Reuse REUSE>
void DensePairs::micro(const Tile& t) {
  run<DensePairs, R, V, ROW, REUSE>(t);
}

template <class K>
void either(Reuse reuse, const Panels& w, const uint32_t* x, size_t ld, int rows, float* out, size_t out_stride,
            bool accumulate) {
  (reuse == ONCE ? side_by_side<K, ONCE> : side_by_side<K, AGAIN>)(w, x, ld, rows, out, out_stride, accumulate);
}

}  // namespace

namespace pass {

void product_dense(int format, Form form, Reuse reuse, const Panels& w, const uint32_t* x, size_t ld, int rows,
                   float* out, size_t out_stride, bool accumulate) {
  auto run = format == F32 ? either<DenseF32> : either<DenseBf16>;
#if defined(__AVX512BF16__)
  if (form == PAIRS) run = either<DensePairs>;
#endif
  run(reuse, w, x, ld, rows, out, out_stride, accumulate);
}

void product_rows(int format, Form form, const Panels& w, const uint32_t* x, size_t row, int rows, float* out,
                  size_t out_stride) {
  auto run = format == F32 ? one_by_one<DenseF32> : form == PAIRS ? one_by_one<DensePairs> : one_by_one<DenseBf16>;
  run(w, x, row, rows, out, out_stride);
}

}  // namespace pass
