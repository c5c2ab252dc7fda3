// One forward call of a Llama-shaped decoder in bfloat16 over a few rows.
//
// Every row's result depends on that row, its ancestors and the committed context alone, never on how many other rows
// share the call or where in the cache its ancestors wait. So speculative and plain decoding agree bit for bit, in low
// precision too.
#pragma once

#include "kernel.h"
#include "team.h"

namespace {

struct Adapter {  // y += up (down x), for look-ahead rows
  Packed down, up;
};

enum Linear { Q, K, V, O, GATE, UP, DOWN, LINEARS };

struct Layer {
  Packed qkv, output, gate_up, down;  // gate and up panels alternate
  std::vector<float> input_norm, post_norm, qkv_bias, q_norm, k_norm;
  Adapter adapters[LINEARS];
};

struct Model {
  int hidden, layers, heads, kv_heads, head_dim, inner, vocabulary;
  float epsilon;
  Arena arena;
  Team team;
  std::vector<Layer> blocks;
  std::vector<float> final_norm, deep, lookahead;
  const uint16_t* table = nullptr;  // input embeddings, the caller's
  int lookahead_steps = 0;
  Packed head;
  Buffer residual, queries, attended, inner_rows, logits_in;
  std::vector<Buffer> scratch;
  Model(int threads) : team(threads), scratch(threads) {}
};

struct Cache {
  int layers, kv_heads, head_dim, capacity;  // capacity is a multiple of 16
  Buffer keys, values;
  size_t head_elements() const { return (size_t)capacity * head_dim; }
  uint16_t* key_head(int layer, int head) const {
    return keys.as<uint16_t>() + ((size_t)layer * kv_heads + head) * head_elements();
  }
  uint16_t* value_head(int layer, int head) const {
    return values.as<uint16_t>() + ((size_t)layer * kv_heads + head) * head_elements();
  }
  size_t key_at(int slot, int dim) const {
    return ((size_t)(slot / 16) * (head_dim / 2) + dim / 2) * 32 + (slot % 16) * 2 + (dim & 1);
  }
  size_t value_at(int slot, int dim) const {
    return ((size_t)(dim / 16) * (capacity / 2) + slot / 2) * 32 + (dim % 16) * 2 + (slot & 1);
  }
};

inline float rms_scale(const float* x, int n, float epsilon) {
  f32x16 sums[4] = {};
  int i = 0;
  for (; i + 64 <= n; i += 64)
    for (int j = 0; j < 4; j++) {
      f32x16 v = load_f32(x + i + 16 * j);
      sums[j] += v * v;
    }
  for (; i < n; i += 16) {
    f32x16 v = load_f32(x + i);
    sums[0] += v * v;
  }
  return 1.0f / std::sqrt(sum16((sums[0] + sums[1]) + (sums[2] + sums[3])) / n + epsilon);
}

// x / sqrt(mean(x^2) + eps) * weight.
void rms_norm(const float* x, const float* weight, int n, float epsilon, float* out) {
  float scale = rms_scale(x, n, epsilon);
  for (int i = 0; i < n; i += 16) store_f32(out + i, load_f32(x + i) * scale * load_f32(weight + i));
}

// 16 values as 8 bfloat16 pairs of one row, each `ld` after the last.
inline void store_pairs(uint32_t* out, size_t ld, f32x16 v) {
  uint32_t pairs[8];
  store_bf16((uint16_t*)pairs, v);
  for (int i = 0; i < 8; i++) out[i * ld] = pairs[i];
}

// The same, rounded to bfloat16, pairs of one row `ld` apart.
void rms_norm_pairs(const float* x, const float* weight, int n, float epsilon, uint32_t* out, size_t ld) {
  float scale = rms_scale(x, n, epsilon);
  for (int i = 0; i < n; i += 16) store_pairs(out + i / 2 * ld, ld, load_f32(x + i) * scale * load_f32(weight + i));
}

void rope(float* head, int head_dim, const float* cosine, const float* sine) {
  int half = head_dim / 2;
  for (int i = 0; i < half; i++) {
    float a = head[i], b = head[i + half];
    head[i] = a * cosine[i] - b * sine[i];
    head[i + half] = b * cosine[i] + a * sine[i];
  }
}

// How far apart the pairs of one row are: next to each other for few rows, and never a power of two for many, whose
// pairs would crowd into a few sets of the cache.
inline size_t pair_stride(int rows) { return rows <= 48 ? rows : (rows + 15) / 16 * 16 + 16; }

struct Call {
  Model& m;
  Cache& cache;
  int length, rows, tokens;  // rows from `tokens` on are look-ahead rows
  size_t ld;  // of activations that linear layers read
  const float *cosine, *sine;  // [rows, head_dim / 2] of each row's position
  const int32_t *parents, *steps;
};

// down x for the look-ahead rows, rounded to bfloat16; computed once a phase by each thread that needs it.
struct LowRank {
  Buffer memory;
  bool ready = false;
  const uint32_t* narrow = nullptr;  // [pair][row]
  void prepare(const Call& c, const Adapter& a, const uint32_t* x) {
    if (ready) return;
    ready = true;
    int m = c.rows - c.tokens, width = a.down.panels * 16;
    memory.reserve((size_t)m * width * 6 + 256);
    float* wide = memory.as<float>();
    uint32_t* out = (uint32_t*)(wide + (size_t)m * width);
    product<AGAIN>(a.down.panel(0), (size_t)a.down.pairs * 32, a.down.panels, x + c.tokens, c.ld, m, a.down.pairs, wide,
            width);
    for (int r = 0; r < m; r++)
      for (int i = 0; i < width; i += 16)
        store_pairs(out + (size_t)i / 2 * m + r, m, load_f32(wide + (size_t)r * width + i));
    narrow = out;
  }
};

// out[r, panels] += up (down x_r) for the look-ahead rows; `from` and `count` are panels of the full output, `apart` how
// many panels of `out` each is from the one before.
void adapt(const Call& c, const Adapter& a, LowRank& low, const uint32_t* x, int from, int count, float* out,
           size_t out_stride, int apart = 1) {
  int m = c.rows - c.tokens;
  if (a.down.empty() || m <= 0) return;
  low.prepare(c, a, x);
  int at_once = apart == 1 ? count : 1;
  for (int p = 0; p < count; p += at_once)
    product<AGAIN>(a.up.panel(from + p), (size_t)a.up.pairs * 32, at_once, low.narrow, m, m, a.up.pairs,
            out + (size_t)c.tokens * out_stride + p * apart * 16, out_stride, true);
}

// Calls for what other threads have just written: one after the other its lines would come from their caches slowly.
inline void fetch(const void* data, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char*)data + i);
}

// Weights that the next phase will read, called into the second-level cache while memory has nothing else to do.
struct Ahead {
  static constexpr int AT_ONCE = 64;
  const char *at = nullptr, *end = nullptr;
  void call() {
    for (int i = 0; i < AT_ONCE && at < end; i++, at += 64) __builtin_prefetch(at, 0, 2);
  }
};

inline f32x16 larger(f32x16 a, f32x16 b) { return a > b ? a : b; }

// Rows (kv head, row, head in group) first..last-1: softmax(q k / sqrt(d)) v over context and ancestors.
void attend(const Call& c, int layer, int first, int last, float* scores, float* ordered, uint16_t* p, Ahead& ahead) {
  const Model& m = c.m;
  int d = m.head_dim, group = m.heads / m.kv_heads, per_head = c.rows * group;
  int slots = (c.length + c.rows + 15) / 16 * 16, pairs = c.length / 2;
  float scale = 1.0f / std::sqrt((float)d);
  const uint16_t* queries = m.queries.as<uint16_t>();
  uint32_t* attended = m.attended.as<uint32_t>();
  std::vector<int> tail(c.rows + 1);
  alignas(64) float out[8 * 256];
  for (int at = first; at < last;) {
    int head = at / per_head;
    int n = std::min({6, last - at, (head + 1) * per_head - at});
    // Queries are stored [kv head][row][head in group][d], so these n are adjacent.
    const uint32_t* q = (const uint32_t*)(queries + (size_t)at * d);
    const uint16_t* keys = c.cache.key_head(layer, head);
    const uint16_t* values = c.cache.value_head(layer, head);
    product_rows(keys, (size_t)d / 2 * 32, slots / 16, q, d / 2, n, d / 2, scores, slots);
    float sums[8];
    int tails[8];
    for (int i = 0; i < n; i++) {
      ahead.call();
      const float* s = scores + (size_t)i * slots;
      int row = (at + i - head * per_head) / group;
      int depth = 0;
      for (int r = row; r >= 0; r = c.parents[r]) depth++;
      int total = c.length + depth;
      // Scores in logical order: whole blocks of the context where they are, the rest of it and the ancestors here.
      int whole = c.length / 16 * 16, padded = (total + 15) / 16 * 16;
      for (int j = whole; j < c.length; j++) ordered[j - whole] = s[j];
      for (int r = row, j = total - 1; r >= 0; r = c.parents[r], j--) ordered[j - whole] = s[c.length + r];
      for (int j = total; j < padded; j++) ordered[j - whole] = -INFINITY;
      f32x16 most[4];
      for (auto& m4 : most) m4 = splat(-INFINITY);
      int j = 0;
      for (; j + 64 <= whole; j += 64)
        for (int b = 0; b < 4; b++) most[b] = larger(most[b], load_f32(s + j + 16 * b));
      for (; j < whole; j += 16) most[0] = larger(most[0], load_f32(s + j));
      for (j = whole; j < padded; j += 16) most[1] = larger(most[1], load_f32(ordered + j - whole));
      float top = max16(larger(larger(most[0], most[1]), larger(most[2], most[3])));
      f32x16 sum{};
      uint16_t* pr = p + (size_t)i * (slots + 32);
      auto weigh = [&](int at, f32x16 v) {
        f32x16 e = exp16((v - top) * scale);
        sum += e;
        store_bf16(pr + at, e);
      };
      for (j = 0; j < whole; j += 16) weigh(j, load_f32(s + j));
      for (; j < padded; j += 16) weigh(j, load_f32(ordered + j - whole));
      sums[i] = 1.0f / sum16(sum);
      tails[i] = total;
    }
    int panels = d / 16;
    product_rows(values, (size_t)c.cache.capacity / 2 * 32, panels, (const uint32_t*)p, (slots + 32) / 2, n, pairs, out,
                 d);
    for (int i = 0; i < n; i++) {
      int row = (at + i - head * per_head) / group;
      int total = tails[i];
      // The logical order of what the product above left out: an odd last slot, then the ancestors, then the row.
      int count = total - 2 * pairs;
      int j = count;
      for (int r = row; r >= 0; r = c.parents[r]) tail[--j] = c.length + r;
      if (j == 1) tail[0] = c.length - 1;
      const uint16_t* pr = p + (size_t)i * (slots + 32) + 2 * pairs;
      for (int panel = 0; panel < panels; panel++) {
        const uint16_t* v = values + (size_t)panel * (c.cache.capacity / 2) * 32;
        f32x16 acc = load_f32(out + i * d + panel * 16);
        for (int t = 0; t < count; t += 2) {
          int a = tail[t];
          u32x16 va = load_u32(v + (size_t)(a / 2) * 32);
          u32x16 pair = (a & 1) ? va >> 16 : va & 0xffffu;
          uint32_t weights = pr[t];
          if (t + 1 < count) {
            int b = tail[t + 1];
            u32x16 vb = load_u32(v + (size_t)(b / 2) * 32);
            pair |= (b & 1) ? vb & 0xffff0000u : vb << 16;
            weights |= (uint32_t)pr[t + 1] << 16;
          }
          acc = dot_pair(acc, pair, weights);
        }
        store_f32(out + i * d + panel * 16, acc * sums[i]);
      }
      int in_group = (at + i - head * per_head) % group;
      uint32_t* target = attended + (size_t)(head * group + in_group) * (d / 2) * c.ld + row;
      for (int k = 0; k < d; k += 16) store_pairs(target + k / 2 * c.ld, c.ld, load_f32(out + i * d + k));
    }
    at += n;
  }
}

constexpr int PHASES_PER_LAYER = 6;

void forward_thread(Job& job, const Call& c, int t, float* hidden_out) {
  Model& m = c.m;
  int n = c.rows, h = m.hidden, d = m.head_dim, group = m.heads / m.kv_heads;
  int slots = (c.length + n + 15) / 16 * 16;
  int head_panels = d / 16, units = m.heads + 2 * m.kv_heads;
  int head_grain = m.team.grain(units), out_grain = m.team.grain(h / 16), inner_grain = m.team.grain(m.inner / 16);
  int widest = std::max({head_grain * d, out_grain * 16, inner_grain * 32});
  Buffer& memory = m.scratch[t];
  size_t x_bytes = (c.ld * h * 2 + 63) / 64 * 64, wide_bytes = (size_t)n * widest * 4;
  memory.reserve(x_bytes + wide_bytes + (size_t)slots * 4 * 9 + (size_t)(slots + 32) * 2 * 8 + 1024);
  char* cursor = memory.as<char>();
  uint32_t* x = (uint32_t*)cursor;
  cursor += x_bytes;
  float* wide = (float*)cursor;
  cursor += wide_bytes;
  float* scores = (float*)cursor;
  cursor += (size_t)slots * 4 * 8;
  float* ordered = (float*)cursor;
  cursor += (size_t)slots * 4;
  uint16_t* p = (uint16_t*)cursor;
  static thread_local LowRank low[3];

  float* residual = m.residual.as<float>();
  uint16_t* queries = m.queries.as<uint16_t>();
  uint32_t* attended = m.attended.as<uint32_t>();
  uint32_t* inner_rows = m.inner_rows.as<uint32_t>();
  bool adapted = n > c.tokens;

  for (int l = 0; l < m.layers; l++) {
    Layer& layer = m.blocks[l];
    int phase = l * PHASES_PER_LAYER;
    if (!m.deep.empty() && adapted)
      job.phase(phase, t, n - c.tokens, n, [&](int first, int last) {
        for (int r = c.tokens + first; r < c.tokens + last; r++) {
          const float* add = m.deep.data() + ((size_t)l * m.lookahead_steps + c.steps[r]) * h;
          for (int i = 0; i < h; i++) residual[(size_t)r * h + i] += add[i];
        }
      });

    bool normed = false;
    auto fresh = [&](const std::vector<float>& norm) {
      if (normed) return;
      normed = true;
      for (auto& one : low) one.ready = false;
      fetch(residual, (size_t)n * h * 4);
      for (int r = 0; r < n; r++) rms_norm_pairs(residual + (size_t)r * h, norm.data(), h, m.epsilon, x + r, c.ld);
    };
    job.phase(phase + 1, t, units, head_grain, [&](int first, int last) {
      fresh(layer.input_norm);
      int panels = (last - first) * head_panels, width = panels * 16;
      product<ONCE>(layer.qkv.panel(first * head_panels), (size_t)layer.qkv.pairs * 32, panels, x, c.ld, n,
              layer.qkv.pairs, wide, width);
      // The adapters of q, k and v each cover a run of whole heads.
      const int starts[4] = {0, m.heads, m.heads + m.kv_heads, units};
      for (int which = 0; adapted && which < 3; which++) {
        int a = std::max(first, starts[which]), b = std::min(last, starts[which + 1]);
        if (a < b)
          adapt(c, layer.adapters[Q + which], low[which], x, (a - starts[which]) * head_panels,
                (b - a) * head_panels, wide + (a - first) * d, width);
      }
      for (int u = first; u < last; u++) {
        for (int r = 0; r < n; r++) {
          float* head = wide + (size_t)r * width + (u - first) * d;
          if (!layer.qkv_bias.empty())
            for (int i = 0; i < d; i++) head[i] += layer.qkv_bias[u * d + i];
          const float* cosine = c.cosine + (size_t)r * (d / 2);
          const float* sine = c.sine + (size_t)r * (d / 2);
          if (u < m.heads) {
            if (!layer.q_norm.empty()) rms_norm(head, layer.q_norm.data(), d, m.epsilon, head);
            rope(head, d, cosine, sine);
            uint16_t* target = queries + (((size_t)(u / group) * n + r) * group + u % group) * d;
            for (int i = 0; i < d; i += 16) store_bf16(target + i, load_f32(head + i));
          } else if (u < m.heads + m.kv_heads) {
            if (!layer.k_norm.empty()) rms_norm(head, layer.k_norm.data(), d, m.epsilon, head);
            rope(head, d, cosine, sine);
            uint16_t* target = c.cache.key_head(l, u - m.heads);
            uint32_t* pairs = (uint32_t*)(target + c.cache.key_at(c.length + r, 0));
            for (int i = 0; i < d; i += 16) store_pairs(pairs + i / 2 * 16, 16, load_f32(head + i));
          } else {
            uint16_t* target = c.cache.value_head(l, u - m.heads - m.kv_heads);
            bool odd = (c.length + r) & 1;
            for (int i = 0; i < d; i += 16) {
              uint16_t* pairs = target + c.cache.value_at((c.length + r) & ~1, i);
              u32x16 bits = __builtin_convertvector(to_bf16x16(load_f32(head + i)), u32x16), old = load_u32(pairs);
              bits = odd ? (old & 0xffffu) | (bits << 16) : (old & 0xffff0000u) | bits;
              std::memcpy(pairs, &bits, 64);
            }
          }
        }
      }
    });

    auto mine = job.share(t % job.shares, h / 16, out_grain);
    Ahead ahead{(const char*)layer.output.panel(mine.first), (const char*)layer.output.panel(mine.second)};
    job.phase(phase + 2, t, n * m.heads, std::max(m.team.grain(n * m.heads), std::min(8, n * m.heads / m.team.size() + 1)),
              [&](int first, int last) { attend(c, l, first, last, scores, ordered, p, ahead); });

    // A linear layer whose outputs are added to the residual stream.
    auto onto_residual = [&](int index, const Packed& weights, const Adapter& adapter, const uint32_t* rows) {
      for (auto& one : low) one.ready = false;
      fetch(rows, (size_t)weights.pairs * c.ld * 4);
      job.phase(index, t, h / 16, out_grain, [&](int first, int last) {
        int width = (last - first) * 16;
        product<ONCE>(weights.panel(first), (size_t)weights.pairs * 32, last - first, rows, c.ld, n, weights.pairs, wide,
                width);
        adapt(c, adapter, low[0], rows, first, last - first, wide, width);
        for (int r = 0; r < n; r++)
          for (int i = 0; i < width; i++) residual[(size_t)r * h + first * 16 + i] += wide[(size_t)r * width + i];
      });
    };
    onto_residual(phase + 3, layer.output, layer.adapters[O], attended);

    normed = false;
    // Gate and up panels alternate.
    job.phase(phase + 4, t, m.inner / 16, inner_grain, [&](int first, int last) {
      fresh(layer.post_norm);
      int width = (last - first) * 32;
      product<ONCE>(layer.gate_up.panel(first * 2), (size_t)layer.gate_up.pairs * 32, (last - first) * 2, x,
              c.ld, n, layer.gate_up.pairs, wide, width);
      for (int which = GATE; adapted && which <= UP; which++)
        adapt(c, layer.adapters[which], low[which - GATE], x, first, last - first, wide + (which - GATE) * 16, width, 2);
      for (int r = 0; r < n; r++)
        for (int b = 0; b < last - first; b++) {
          const float* pair = wide + (size_t)r * width + b * 32;
          f32x16 v = silu16(load_f32(pair)) * load_f32(pair + 16);
          store_pairs(inner_rows + (size_t)(first + b) * 8 * c.ld + r, c.ld, v);
        }
    });

    onto_residual(phase + 5, layer.down, layer.adapters[DOWN], inner_rows);
  }
  job.phase(m.layers * PHASES_PER_LAYER, t, n, m.team.grain(n), [&](int first, int last) {
    for (int r = first; r < last; r++)
      rms_norm(residual + (size_t)r * h, m.final_norm.data(), h, m.epsilon, hidden_out + (size_t)r * h);
  });
}

std::vector<float> copy(const float* source, size_t n) {
  return source ? std::vector<float>(source, source + n) : std::vector<float>();
}

}  // namespace
