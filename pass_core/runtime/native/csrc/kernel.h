// Sixteen numbers at once: bfloat16, exponentials, packed weights, and the microkernel that multiplies them.
//
// Weights are packed in panels of 16 outputs: [outputs / 16][inputs / 2][16][2] bfloat16. The KV cache uses the same
// layout (keys: slots are outputs; values: slots are inputs), so that one microkernel serves everything. Each (row,
// output) has one accumulator that runs over its inputs in logical order.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));

inline u32x16 load_u32(const void* p) {
  u32x16 v;
  std::memcpy(&v, p, 64);
  return v;
}
inline f32x16 load_f32(const float* p) {
  f32x16 v;
  std::memcpy(&v, p, 64);
  return v;
}
inline void store_f32(float* p, f32x16 v) { std::memcpy(p, &v, 64); }
inline f32x16 splat(float x) { return f32x16{} + x; }

// acc += w.even * x.even + w.odd * x.odd for 16 outputs; x holds one pair of inputs.
inline f32x16 dot_pair(f32x16 acc, u32x16 w, uint32_t x) {
#if defined(__AVX512BF16__)
  return (f32x16)_mm512_dpbf16_ps((__m512)acc, (__m512bh)w, (__m512bh)_mm512_set1_epi32((int)x));
#else
  uint32_t even_bits = x << 16, odd_bits = x & 0xffff0000u;
  float even, odd;
  std::memcpy(&even, &even_bits, 4);
  std::memcpy(&odd, &odd_bits, 4);
  acc += (f32x16)(w & 0xffff0000u) * odd;
  acc += (f32x16)(w << 16) * even;
  return acc;
#endif
}

// Sum and maximum of 16 values, halves first: a short chain of operations.
inline float sum16(f32x16 v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#else
  float a[8];
  for (int i = 0; i < 8; i++) a[i] = v[i] + v[i + 8];
  for (int n = 4; n; n /= 2)
    for (int i = 0; i < n; i++) a[i] += a[i + n];
  return a[0];
#endif
}
inline float max16(f32x16 v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)v);
#else
  float a[8];
  for (int i = 0; i < 8; i++) a[i] = v[i] > v[i + 8] ? v[i] : v[i + 8];
  for (int n = 4; n; n /= 2)
    for (int i = 0; i < n; i++) a[i] = a[i] > a[i + n] ? a[i] : a[i + n];
  return a[0];
#endif
}

typedef uint16_t u16x16 __attribute__((vector_size(32)));

// Round to the nearest bfloat16, ties to even, 16 at once; the scalar form rounds the same.
inline u16x16 to_bf16x16(f32x16 x) {
#if defined(__AVX512BF16__)
  return (u16x16)_mm512_cvtneps_pbh((__m512)x);
#else
  u32x16 bits = (u32x16)x;
  return __builtin_convertvector((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, u16x16);
#endif
}
inline void store_bf16(uint16_t* p, f32x16 v) {
  u16x16 narrow = to_bf16x16(v);
  std::memcpy(p, &narrow, 32);
}

inline uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline f32x16 load_bf16(const uint16_t* p) {
  u16x16 v;
  std::memcpy(&v, p, 32);
  return (f32x16)(__builtin_convertvector(v, u32x16) << 16);
}
inline float from_bf16(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

// exp for x <= 0 (clamped at -87): 2^n times a polynomial of the fraction, error below 2 ulp.
inline f32x16 exp16(f32x16 x) {
#if defined(__AVX512F__)
  x = x < -1000.0f ? splat(-1000.0f) : x;  // -inf less itself would be no number
  __m512 t = _mm512_mul_ps((__m512)x, _mm512_set1_ps(1.44269504088896341f));
  f32x16 n = (f32x16)_mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  f32x16 g = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  f32x16 q = splat(8.3334519073e-3f);
  q = q * g + 4.1665795894e-2f;
  q = q * g + 1.6666665459e-1f;
  q = q * g + 5.0000001201e-1f;
  q = q * g * g + g + 1.0f;
  return (f32x16)_mm512_scalef_ps((__m512)q, (__m512)n);
#else
  x = x < -87.0f ? splat(-87.0f) : x;
  f32x16 t = x * 1.44269504088896341f;
  i32x16 n = __builtin_convertvector(t - 0.5f, i32x16);  // truncation towards zero of t - 0.5: rounds, as t <= 0
  f32x16 nf = __builtin_convertvector(n, f32x16);
  f32x16 f = (x - nf * 0.693359375f) + nf * 2.12194440e-4f;
  f32x16 p = splat(1.9875691500e-4f);
  p = p * f + 1.3981999507e-3f;
  p = p * f + 8.3334519073e-3f;
  p = p * f + 4.1665795894e-2f;
  p = p * f + 1.6666665459e-1f;
  p = p * f + 5.0000001201e-1f;
  p = p * f * f + f + 1.0f;
  i32x16 scale = (n + 127) << 23;
  return p * (f32x16)scale;
#endif
}

inline f32x16 silu16(f32x16 x) {
  f32x16 magnitude = x < 0.0f ? x : -x;
  f32x16 e = exp16(magnitude);  // e^-|x|
  f32x16 sigmoid = (x < 0.0f ? e : splat(1.0f)) / (1.0f + e);
  return x * sigmoid;
}

constexpr size_t HUGE_PAGE = 2 << 20;

// Aligned memory, in huge pages where it is large and the system has them: a call reads all weights, and with small
// pages it waits for their addresses as well.
inline void* allocate(size_t n) {
  void* data = nullptr;
  if (posix_memalign(&data, n >= HUGE_PAGE ? HUGE_PAGE : 64, n)) return nullptr;
#if defined(MADV_HUGEPAGE)
  if (n >= HUGE_PAGE) madvise(data, n / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
  return data;
}

// Weights that live as long as their model, side by side.
class Arena {
 public:
  ~Arena() {
    for (void* c : chunks_) std::free(c);
  }
  void* take(size_t n) {
    n = (n + 63) / 64 * 64;
    if (n > left_) {
      size_t size = (std::max(n, (size_t)16 * HUGE_PAGE) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
      char* chunk = (char*)allocate(size);
      if (!chunk) return nullptr;
      chunks_.push_back(chunk);
      at_ = chunk;
      left_ = size;
    }
    void* out = at_;
    at_ += n;
    left_ -= n;
    return out;
  }

 private:
  std::vector<void*> chunks_;
  char* at_ = nullptr;
  size_t left_ = 0;
};

struct Buffer {  // 64-byte aligned memory
  void* data = nullptr;
  size_t bytes = 0;
  bool owned = true;
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { release(); }
  void release() {
    if (owned) std::free(data);
    data = nullptr;
    bytes = 0;
    owned = true;
  }
  bool reserve(size_t n, Arena* arena = nullptr) {
    if (n <= bytes) return true;
    release();
    data = arena ? arena->take(n + 64) : allocate(n + 64);
    if (!data) return false;
    owned = !arena;
    std::memset(data, 0, n + 64);
    bytes = n;
    return true;
  }
  template <class T>
  T* as() const {
    return (T*)data;
  }
};

// A packed weight matrix: panels of 16 outputs.
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

// Where row r keeps its input pair k: x[k * pair + r * row]. Activations that many panels read are stored pair by pair
// (row = 1), so that a kernel walks one pointer however many rows it has.
struct Strides {
  size_t pair, row;
};

// Input pairs between calling for a weight line and using it: memory's answer takes as long as some 200 lines are used.
template <int P>
constexpr int prefetch_pairs() {
  return P == 1 ? 192 : P == 2 ? 128 : 64;
}

// How weights are called for. A call reads all of a model's once: what passes through the first cache alone leaves the
// others to what every step needs again (keys, values, adapters, draft heads, the interpreter).
enum Reuse { ONCE = 0, AGAIN = 3 };

// R rows by P panels; out[r * out_stride + p * 16 ..] = (or +=) x[r] . panel p, over `pairs` input pairs.
// ROW: the row stride of x where it is known when compiling (1), else 0.
template <int R, int P, int ROW, Reuse REUSE>
inline void micro(const uint16_t* w, size_t panel_stride, const uint32_t* x, Strides strides, int pairs, float* out,
                  size_t out_stride, bool accumulate) {
  f32x16 acc[R][P];
  const size_t row = ROW ? ROW : strides.row;
#pragma GCC unroll 32
  for (int r = 0; r < R; r++)
#pragma GCC unroll 32
    for (int p = 0; p < P; p++) acc[r][p] = accumulate ? load_f32(out + r * out_stride + p * 16) : f32x16{};
  // The panels after these continue in memory: near the end of a panel the next ones are called for.
  auto run = [&](int first, int last, const uint16_t* ahead) {
    for (int k = first; k < last; k++) {
      u32x16 weights[P];
#pragma GCC unroll 32
      for (int p = 0; p < P; p++) {
        weights[p] = load_u32(w + p * panel_stride + (size_t)k * 32);
        __builtin_prefetch(ahead + p * panel_stride + (size_t)k * 32, 0, REUSE);
      }
      const uint32_t* pair = x + k * strides.pair;
#pragma GCC unroll 32
      for (int r = 0; r < R; r++)
#pragma GCC unroll 32
        for (int p = 0; p < P; p++) acc[r][p] = dot_pair(acc[r][p], weights[p], pair[r * row]);
    }
  };
  int turn = std::max(0, pairs - prefetch_pairs<P>());
  run(0, turn, w + (size_t)prefetch_pairs<P>() * 32);
  run(turn, pairs, w + P * panel_stride - (size_t)turn * 32);
#pragma GCC unroll 32
  for (int r = 0; r < R; r++)
#pragma GCC unroll 32
    for (int p = 0; p < P; p++) store_f32(out + r * out_stride + p * 16, acc[r][p]);
}

// Sums in registers: 32 less what weights and inputs pass through. Below eight or so the latency of a sum shows.
template <int R>
constexpr int panels_at_once() {
  return R <= 3 ? 8 : R == 4 ? 6 : R == 5 ? 5 : R == 6 ? 4 : R <= 8 ? 3 : R <= 14 ? 2 : 1;
}

template <int R, int P, int ROW, Reuse REUSE>
int run_of(const uint16_t* w, size_t panel_stride, int p, int panels, const uint32_t* x, Strides strides, int pairs,
           float* out, size_t out_stride, bool accumulate) {
  for (; p + P <= panels; p += P)
    micro<R, P, ROW, REUSE>(w + p * panel_stride, panel_stride, x, strides, pairs, out + p * 16, out_stride,
                            accumulate);
  return p;
}

template <int R, int ROW, Reuse REUSE>
void panels_of(const uint16_t* w, size_t panel_stride, int panels, const uint32_t* x, Strides strides, int pairs,
               float* out, size_t out_stride, bool accumulate) {
  constexpr int P = panels_at_once<R>();
  auto run = [&](auto at_once, int p) {
    return run_of<R, decltype(at_once)::value, ROW, REUSE>(w, panel_stride, p, panels, x, strides, pairs, out, out_stride,
                                                           accumulate);
  };
  int p = run(std::integral_constant<int, P>(), 0);
  if (P > 4) p = run(std::integral_constant<int, 4>(), p);
  if (P > 2) p = run(std::integral_constant<int, 2>(), p);
  if (P > 1) run(std::integral_constant<int, 1>(), p);
}

template <int R, int MOST, int ROW, Reuse REUSE>
void rows_of(int rows, const uint16_t* w, size_t panel_stride, int panels, const uint32_t* x, Strides strides,
             int pairs, float* out, size_t out_stride, bool accumulate) {
  if constexpr (R < MOST) {
    if (rows > R) {
      rows_of<R + 1, MOST, ROW, REUSE>(rows, w, panel_stride, panels, x, strides, pairs, out, out_stride, accumulate);
      return;
    }
  }
  panels_of<R, ROW, REUSE>(w, panel_stride, panels, x, strides, pairs, out, out_stride, accumulate);
}

// Rows side by side ([pair][row], `ld` apart): all of them pass over each weight once where registers allow.
template <Reuse REUSE>
void product(const uint16_t* w, size_t panel_stride, int panels, const uint32_t* x, size_t ld, int rows, int pairs,
             float* out, size_t out_stride, bool accumulate = false) {
  constexpr int MOST = 24;
  int blocks = (rows + MOST - 1) / MOST;
  if (blocks == 0 || panels <= 0) return;
  int base = rows / blocks, extra = rows % blocks;
  // With several blocks a few panels at a time, so that they stay in the first caches from block to block.
  int group = blocks == 1 ? panels : 2;
  for (int p = 0; p < panels; p += group) {
    int count = std::min(group, panels - p), r = 0;
    for (int b = 0; b < blocks; b++) {
      int n = base + (b < extra ? 1 : 0);
      auto run = blocks == 1 ? rows_of<1, MOST, 1, REUSE> : rows_of<1, MOST, 1, AGAIN>;
      run(n, w + p * panel_stride, panel_stride, count, x + r, {ld, 1}, pairs, out + r * out_stride + p * 16, out_stride,
          accumulate);
      r += n;
    }
  }
}

// Rows one after the other ([row][pair]): attention and the draft head, a few rows at a time.
void product_rows(const uint16_t* w, size_t panel_stride, int panels, const uint32_t* x, size_t row, int rows,
                  int pairs, float* out, size_t out_stride) {
  constexpr int MOST = 6;
  for (int r = 0; r < rows; r += MOST)
    rows_of<1, MOST, 0, AGAIN>(std::min(MOST, rows - r), w, panel_stride, panels, x + r * row, {1, row}, pairs,
                        out + r * out_stride, out_stride, false);
}

}  // namespace
