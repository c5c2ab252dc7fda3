// Sixteen numbers at once on every instruction set: as many native vectors as sixteen lanes need. Held in a struct of
// native vectors, for compilers keep vectors wider than the processor's registers in memory.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
constexpr int PARTS = 16 / LANES;  // native vectors in sixteen lanes

typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));
typedef uint32_t vu __attribute__((vector_size(LANES * 4)));
typedef uint16_t vh __attribute__((vector_size(LANES * 2)));

template <class V>
inline V load(const void* p) {
  V v;
  std::memcpy(&v, p, sizeof(V));
  return v;
}
template <class V>
inline void store(void* p, V v) {
  std::memcpy(p, &v, sizeof(V));
}
inline vf all(float x) {
#if defined(__AVX512F__)
  return (vf)_mm512_set1_ps(x);
#elif defined(__AVX2__)
  return (vf)_mm256_set1_ps(x);
#else
  return vf{} + x;
#endif
}
inline vi all(int32_t x) {
#if defined(__AVX512F__)
  return (vi)_mm512_set1_epi32(x);
#elif defined(__AVX2__)
  return (vi)_mm256_set1_epi32(x);
#else
  return vi{} + x;
#endif
}

// a * b + c, rounded once.
inline vf fma(vf a, vf b, vf c) {
#if defined(__AVX512F__)
  return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  for (int i = 0; i < LANES; i++) c[i] = std::fma(a[i], b[i], c[i]);
  return c;
#endif
}

// Nearest whole numbers, ties to even.
inline vi nearest(vf x) {
#if defined(__AVX512F__)
  return (vi)_mm512_cvtps_epi32((__m512)x);
#elif defined(__AVX2__)
  return (vi)_mm256_cvtps_epi32((__m256)x);
#elif defined(__aarch64__)
  return (vi)vcvtnq_s32_f32((float32x4_t)x);
#else
  vi n;
  for (int i = 0; i < LANES; i++) n[i] = (int32_t)std::nearbyint(x[i]);
  return n;
#endif
}
inline vf floats_of(vi x) { return __builtin_convertvector(x, vf); }

// LANES half precision numbers.
inline vf load_half(const void* p) {
#if defined(__AVX512F__)
  return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#elif defined(__AVX2__)
  return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#elif defined(__aarch64__)
  return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t*)p)));
#else
  vf out;
  for (int i = 0; i < LANES; i++) out[i] = 0;
  static_assert(LANES == 0, "no half precision here");
  return out;
#endif
}

template <class V>
struct Sixteen {
  V part[PARTS];
  auto operator[](int i) const { return part[i / LANES][i % LANES]; }
};
struct u32x16;
struct f32x16 : Sixteen<vf> {
  f32x16() : Sixteen<vf>{} {}
  explicit f32x16(const u32x16& bits);
};
struct i32x16 : Sixteen<vi> {
  i32x16() : Sixteen<vi>{} {}
};
struct u32x16 : Sixteen<vu> {
  u32x16() : Sixteen<vu>{} {}
  explicit u32x16(const f32x16& x) { std::memcpy(part, x.part, 64); }
};
inline f32x16::f32x16(const u32x16& bits) { std::memcpy(part, bits.part, 64); }

#define PASS_EACH for (int i = 0; i < PARTS; i++)
#define PASS_OPERATOR(T, S, op)                                  \
  inline T operator op(T a, const T& b) {                        \
    PASS_EACH a.part[i] = a.part[i] op b.part[i];                \
    return a;                                                    \
  }                                                              \
  inline T operator op(T a, S b) {                               \
    PASS_EACH a.part[i] = a.part[i] op b;                        \
    return a;                                                    \
  }                                                              \
  inline T& operator op##=(T& a, const T& b) { return a = a op b; }
PASS_OPERATOR(f32x16, float, +)
PASS_OPERATOR(f32x16, float, -)
PASS_OPERATOR(f32x16, float, *)
PASS_OPERATOR(f32x16, float, /)
PASS_OPERATOR(u32x16, uint32_t, &)
PASS_OPERATOR(u32x16, uint32_t, |)
PASS_OPERATOR(u32x16, uint32_t, <<)
PASS_OPERATOR(u32x16, uint32_t, >>)
#undef PASS_OPERATOR
inline f32x16 operator-(f32x16 a) {
  PASS_EACH a.part[i] = -a.part[i];
  return a;
}
inline i32x16 operator>=(const f32x16& a, float b) {
  i32x16 out;
  PASS_EACH out.part[i] = a.part[i] >= b;
  return out;
}

inline u32x16 load_u32(const void* p) {
  u32x16 v;
  std::memcpy(v.part, p, 64);
  return v;
}
inline void store_u32(void* p, const u32x16& v) { std::memcpy(p, v.part, 64); }
inline f32x16 load_f32(const float* p) {
  f32x16 v;
  std::memcpy(v.part, p, 64);
  return v;
}
inline void store_f32(float* p, const f32x16& v) { std::memcpy(p, v.part, 64); }
inline f32x16 splat(float x) {
  f32x16 v;
  PASS_EACH v.part[i] = all(x);
  return v;
}
inline f32x16 fma(const f32x16& a, const f32x16& b, f32x16 c) {
  PASS_EACH c.part[i] = fma(a.part[i], b.part[i], c.part[i]);
  return c;
}
inline f32x16 larger(f32x16 a, const f32x16& b) {
  PASS_EACH a.part[i] = a.part[i] > b.part[i] ? a.part[i] : b.part[i];
  return a;
}
inline f32x16 magnitude(const f32x16& x) { return f32x16(u32x16(x) & 0x7fffffffu); }

// Sum and maximum of 16 values, halves first: a short chain of operations.
inline float sum16(const f32x16& v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v.part[0]);
#else
  float a[8];
  for (int i = 0; i < 8; i++) a[i] = v[i] + v[i + 8];
  for (int n = 4; n; n /= 2)
    for (int i = 0; i < n; i++) a[i] += a[i + n];
  return a[0];
#endif
}
inline float max16(const f32x16& v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)v.part[0]);
#elif defined(__AVX2__)
  __m256 a = _mm256_max_ps((__m256)v.part[0], (__m256)v.part[1]);
  __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(b, _mm_shuffle_ps(b, b, 1)));
#else
  float a[8];
  for (int i = 0; i < 8; i++) a[i] = v[i] > v[i + 8] ? v[i] : v[i + 8];
  for (int n = 4; n; n /= 2)
    for (int i = 0; i < n; i++) a[i] = a[i] > a[i + n] ? a[i] : a[i + n];
  return a[0];
#endif
}

// Round to the nearest bfloat16, ties to even; the scalar form rounds the same.
inline uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline float from_bf16(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}
// The bfloat16 of each number in the upper half of its lane.
inline u32x16 upper_bf16(const f32x16& x) {
  u32x16 bits(x);
  PASS_EACH bits.part[i] = (bits.part[i] + 0x7fffu + ((bits.part[i] >> 16) & 1u)) & 0xffff0000u;
  return bits;
}
inline void store_bf16(uint16_t* p, const f32x16& v) {
#if defined(__AVX512BF16__)
  store(p, _mm512_cvtneps_pbh((__m512)v.part[0]));
#else
  u32x16 bits = upper_bf16(v);
  for (int i = 0; i < PARTS; i++) store(p + i * LANES, __builtin_convertvector(bits.part[i] >> 16, vh));
#endif
}
inline f32x16 load_bf16(const uint16_t* p) {
  u32x16 bits;
  for (int i = 0; i < PARTS; i++) bits.part[i] = __builtin_convertvector(load<vh>(p + i * LANES), vu) << 16;
  return f32x16(bits);
}

// exp for x <= 0: 2^n times a polynomial of the fraction, error below 2 ulp.
inline f32x16 exp16(f32x16 x) {
#if defined(__AVX512F__)
  x = larger(x, splat(-1000.0f));  // -inf less itself would be no number
  __m512 t = _mm512_mul_ps((__m512)x.part[0], _mm512_set1_ps(1.44269504088896341f));
  vf n = (vf)_mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  vf g = (x.part[0] - n * 0.693359375f) + n * 2.12194440e-4f;
  vf q = all(8.3334519073e-3f);
  q = q * g + 4.1665795894e-2f;
  q = q * g + 1.6666665459e-1f;
  q = q * g + 5.0000001201e-1f;
  q = q * g * g + g + 1.0f;
  f32x16 out;
  out.part[0] = (vf)_mm512_scalef_ps((__m512)q, (__m512)n);
  return out;
#else
  f32x16 out;
  PASS_EACH {
    vf v = x.part[i] < -87.0f ? all(-87.0f) : x.part[i];
    vi n = nearest(v * 1.44269504088896341f);
    vf nf = floats_of(n);
    vf f = (v - nf * 0.693359375f) + nf * 2.12194440e-4f;
    vf p = all(1.9875691500e-4f);
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * f * f + f + 1.0f;
    out.part[i] = p * (vf)((n + 127) << 23);
  }
  return out;
#endif
}

inline f32x16 silu16(const f32x16& x) {
  f32x16 e = exp16(-magnitude(x)), out;
  PASS_EACH out.part[i] = x.part[i] * ((x.part[i] < 0.0f ? e.part[i] : all(1.0f)) / (1.0f + e.part[i]));
  return out;
}
#undef PASS_EACH

}  // namespace
