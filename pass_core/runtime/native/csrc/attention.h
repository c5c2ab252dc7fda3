// The KV cache, and attention over context and ancestors.
//
// The cache holds what products read: keys in panels of 16 slots, values in panels of 16 dimensions, bfloat16 or float32.
#pragma once

#include "activations.h"
#include "matrix.h"

namespace {

struct Cache {
  int layers, kv_heads, head_dim, capacity;  // capacity is a multiple of 16
  int format;                                // BF16 or F32
  Buffer keys, values;

  size_t element() const { return format == pass::F32 ? 4 : 2; }
  size_t head_bytes() const { return (size_t)capacity * head_dim * element(); }
  char* key_head(int layer, int head) const {
    return keys.as<char>() + ((size_t)layer * kv_heads + head) * head_bytes();
  }
  char* value_head(int layer, int head) const {
    return values.as<char>() + ((size_t)layer * kv_heads + head) * head_bytes();
  }
  // Elements from the head's first.
  size_t key_at(int slot, int dim) const {
    if (format == pass::F32) return ((size_t)(slot / 16) * head_dim + dim) * 16 + slot % 16;
    return ((size_t)(slot / 16) * (head_dim / 2) + dim / 2) * 32 + (slot % 16) * 2 + (dim & 1);
  }
  size_t value_at(int slot, int dim) const {
    if (format == pass::F32) return ((size_t)(dim / 16) * capacity + slot) * 16 + dim % 16;
    return ((size_t)(dim / 16) * (capacity / 2) + slot / 2) * 32 + (dim % 16) * 2 + (slot & 1);
  }
  Panels key_panels(const char* head, int slots) const {
    return {head, (size_t)16 * head_dim * element(), slots / 16, head_dim / pass::inputs_a_step(format)};
  }
  Panels value_panels(const char* head, int slots) const {
    return {head, (size_t)16 * capacity * element(), head_dim / 16, slots / pass::inputs_a_step(format)};
  }

  void put_key(int layer, int head, int slot, const float* x) const {
    char* target = key_head(layer, head);
    for (int i = 0; i < head_dim; i += 16) {
      f32x16 v = load_f32(x + i);
      if (format == pass::F32)
        for (int j = 0; j < 16; j++) ((float*)target)[key_at(slot, i + j)] = x[i + j];
      else
        store_pairs((uint32_t*)((uint16_t*)target + key_at(slot, i)), 16, v);
    }
  }
  void put_value(int layer, int head, int slot, const float* x) const {
    char* target = value_head(layer, head);
    for (int i = 0; i < head_dim; i += 16) {
      f32x16 v = load_f32(x + i);
      if (format == pass::F32) {
        store_f32((float*)target + value_at(slot, i), v);
        continue;
      }
      uint16_t* pairs = (uint16_t*)target + value_at(slot & ~1, i);
      u32x16 bits = upper_bf16(v), old = load_u32(pairs);
      store_u32(pairs, slot & 1 ? (old & 0xffffu) | bits : (old & 0xffff0000u) | (bits >> 16));
    }
  }
  template <class T>
  void move(int from, int to) const {
    for (int l = 0; l < layers; l++)
      for (int h = 0; h < kv_heads; h++) {
        T *k = (T*)key_head(l, h), *v = (T*)value_head(l, h);
        for (int d = 0; d < head_dim; d++) {
          k[key_at(to, d)] = k[key_at(from, d)];
          v[value_at(to, d)] = v[value_at(from, d)];
        }
      }
  }
};

// Weights that the next phase will read, fetched into the second-level cache while memory has nothing else to do.
struct Ahead {
  static constexpr int AT_ONCE = 64;
  const char *at = nullptr, *end = nullptr;
  void fetch() {
    for (int i = 0; i < AT_ONCE && at < end; i++, at += 64) __builtin_prefetch(at, 0, 2);
  }
};

// What attention reads and writes for a forward pass.
struct Attention {
  const Cache& cache;
  int layer, length, rows, heads;
  const int32_t* parents;  // [rows]
  const uint32_t* queries;  // [kv head][row][head in group][head_dim], rows as products read them
  const Activations& out;   // [rows, heads * head_dim]

  // Scratch of a thread, in 32-bit words: scores, scores in logical order, weights of eight rows.
  static size_t scratch_words(int slots) { return (size_t)slots * 9 + 64 + (size_t)(slots + 32) * 8; }

  // Rows (kv head, row, head in group) first..last-1: softmax(q k / sqrt(d)) v.
  template <int KV, Form FORM>
  void run(int first, int last, float* scratch, Ahead& ahead) const;
};

template <int KV, Form FORM>
void Attention::run(int first, int last, float* scratch, Ahead& ahead) const {
  constexpr bool PAIRED = FORM == pass::PAIRS;
  int d = cache.head_dim, group = heads / cache.kv_heads, per_head = rows * group;
  int slots = (length + rows + 15) / 16 * 16;
  // Slots that the product with values takes; what is left of the context comes after it, in order.
  int taken = KV == pass::F32 ? length : length / 2 * 2;
  size_t query_words = PAIRED ? d / 2 : d, weight_words = PAIRED ? (slots + 32) / 2 : slots + 32;
  float scale = 1.0f / std::sqrt((float)d);
  float *scores = scratch, *ordered = scores + (size_t)slots * 8;
  uint32_t* weights = (uint32_t*)(ordered + slots + 64);
  std::vector<int> tail(rows + 1);
  alignas(64) float result[8 * 256];
  for (int at = first; at < last;) {
    int head = at / per_head;
    int n = std::min({6, last - at, (head + 1) * per_head - at});
    // Queries lie as [kv head][row][head in group], so these n are adjacent.
    const char *keys = cache.key_head(layer, head), *values = cache.value_head(layer, head);
    pass::product_rows(KV, FORM, cache.key_panels(keys, slots), queries + (size_t)at * query_words, query_words, n,
                       scores, slots);
    float sums[8];
    int totals[8];
    for (int i = 0; i < n; i++) {
      ahead.fetch();
      const float* s = scores + (size_t)i * slots;
      int row = (at + i - head * per_head) / group;
      int depth = 0;
      for (int r = row; r >= 0; r = parents[r]) depth++;
      int total = length + depth;
      // Scores in logical order: whole blocks of the context where they are, the rest of it and the ancestors here.
      int whole = length / 16 * 16, padded = (total + 15) / 16 * 16;
      for (int j = whole; j < length; j++) ordered[j - whole] = s[j];
      for (int r = row, j = total - 1; r >= 0; r = parents[r], j--) ordered[j - whole] = s[length + r];
      for (int j = total; j < padded; j++) ordered[j - whole] = -INFINITY;
      f32x16 most[4];
      for (auto& m4 : most) m4 = splat(-INFINITY);
      int j = 0;
      for (; j + 64 <= whole; j += 64)
        for (int b = 0; b < 4; b++) most[b] = larger(most[b], load_f32(s + j + 16 * b));
      for (; j < whole; j += 16) most[0] = larger(most[0], load_f32(s + j));
      for (j = whole; j < padded; j += 16) most[1] = larger(most[1], load_f32(ordered + j - whole));
      float top = max16(larger(larger(most[0], most[1]), larger(most[2], most[3])));
      f32x16 sum;
      uint32_t* weight_row = weights + i * weight_words;
      auto weigh = [&](int slot, const f32x16& v) {
        f32x16 e = exp16((v - top) * scale);
        sum += e;
        if constexpr (PAIRED)
          store_bf16((uint16_t*)weight_row + slot, e);
        else
          store_f32((float*)weight_row + slot, e);
      };
      for (j = 0; j < whole; j += 16) weigh(j, load_f32(s + j));
      for (; j < padded; j += 16) weigh(j, load_f32(ordered + j - whole));
      sums[i] = 1.0f / sum16(sum);
      totals[i] = total;
    }
    pass::product_rows(KV, FORM, cache.value_panels(values, taken), weights, weight_words, n, result, d);
    for (int i = 0; i < n; i++) {
      int row = (at + i - head * per_head) / group;
      // The logical order of what the product above left out: an odd last slot, then the ancestors, then the row.
      int count = totals[i] - taken, j = count;
      for (int r = row; r >= 0; r = parents[r]) tail[--j] = length + r;
      if (j == 1) tail[0] = length - 1;
      const uint32_t* weight_row = weights + i * weight_words;
      for (int p = 0; p < d / 16; p++) {
        float* target = result + i * d + p * 16;
        const char* panel = values + (size_t)p * 16 * cache.capacity * cache.element();
        f32x16 sum = load_f32(target);
        if constexpr (PAIRED) {
          const uint16_t* pr = (const uint16_t*)weight_row + taken;
          for (int t = 0; t < count; t += 2) {
            int a = tail[t];
            u32x16 va = load_u32(panel + (size_t)(a / 2) * 64);
            u32x16 pair = a & 1 ? va >> 16 : va & 0xffffu;
            uint32_t both = pr[t];
            if (t + 1 < count) {
              int b = tail[t + 1];
              u32x16 vb = load_u32(panel + (size_t)(b / 2) * 64);
              pair = pair | (b & 1 ? vb & 0xffff0000u : vb << 16);
              both |= (uint32_t)pr[t + 1] << 16;
            }
#if defined(__AVX512BF16__)
            sum.part[0] = (vf)_mm512_dpbf16_ps((__m512)sum.part[0], (__m512bh)pair.part[0],
                                               (__m512bh)_mm512_set1_epi32((int)both));
#endif
          }
        } else {
          for (int t = 0; t < count; t++) {
            int a = tail[t];
            f32x16 v;
            if constexpr (KV == pass::F32) {
              v = load_f32((const float*)panel + (size_t)a * 16);
            } else {
              u32x16 pair = load_u32(panel + (size_t)(a / 2) * 64);
              v = f32x16(a & 1 ? pair & 0xffff0000u : pair << 16);
            }
            sum = fma(v, splat(((const float*)weight_row)[taken + t]), sum);
          }
        }
        store_f32(target, sum * sums[i]);
      }
      int in_group = (at + i - head * per_head) % group, input = (head * group + in_group) * d;
      if (d % BLOCK == 0)
        out.put(row, input, result + i * d, d);
      else
        for (int k = 0; k < d; k += 16) out.put16(row, input + k, load_f32(result + i * d + k));
    }
    at += n;
  }
}

}  // namespace
