// What Python calls: a Llama-shaped decoder in bfloat16 for CPUs.

#include <cstdint>

#include "forward.h"

extern "C" {

struct PassShape {
  int32_t hidden, layers, heads, kv_heads, head_dim, inner, vocabulary, threads;
  float epsilon;
};

// table: bfloat16 [vocabulary, hidden] input embeddings; the caller keeps them as long as the model lives.
void* pass_new(const PassShape* s, const float* final_norm, const uint16_t* table) {
  Model* m = new (std::nothrow) Model(std::max(1, s->threads));
  if (!m) return nullptr;
  m->hidden = s->hidden;
  m->layers = s->layers;
  m->heads = s->heads;
  m->kv_heads = s->kv_heads;
  m->head_dim = s->head_dim;
  m->inner = s->inner;
  m->vocabulary = s->vocabulary;
  m->epsilon = s->epsilon;
  m->blocks = std::vector<Layer>(s->layers);
  m->final_norm = copy(final_norm, s->hidden);
  m->table = table;
  return m;
}

void pass_free(void* model) {
  ((Model*)model)->team.stop();  // before anything that a late thread may still look at goes away
  delete (Model*)model;
}

// Row-major bfloat16 [outputs, inputs]; biases and norms float32, or null where the model has none.
int pass_set_layer(void* model, int index, const uint16_t* q, const uint16_t* k, const uint16_t* v, const uint16_t* o,
                   const uint16_t* gate, const uint16_t* up, const uint16_t* down, const float* input_norm,
                   const float* post_norm, const float* qkv_bias, const float* q_norm, const float* k_norm) {
  Model& m = *(Model*)model;
  Layer& l = m.blocks[index];
  int d = m.head_dim, h = m.hidden, q_rows = m.heads * d, kv_rows = m.kv_heads * d;
  Arena* a = &m.arena;
  if (!l.qkv.reserve(q_rows + 2 * kv_rows, h, a) || !l.output.reserve(h, q_rows, a) ||
      !l.gate_up.reserve(2 * m.inner, h, a) || !l.down.reserve(h, m.inner, a))
    return 1;
  l.qkv.put(q, q_rows);
  l.qkv.put(k, kv_rows, q_rows);
  l.qkv.put(v, kv_rows, q_rows + kv_rows);
  l.output.put(o, h);
  for (int b = 0; b < m.inner / 16; b++) {
    l.gate_up.put(gate + (size_t)b * 16 * h, 16, b * 32);
    l.gate_up.put(up + (size_t)b * 16 * h, 16, b * 32 + 16);
  }
  l.down.put(down, h);
  l.input_norm = copy(input_norm, h);
  l.post_norm = copy(post_norm, h);
  l.qkv_bias = copy(qkv_bias, q_rows + 2 * kv_rows);
  l.q_norm = copy(q_norm, d);
  l.k_norm = copy(k_norm, d);
  return 0;
}

int pass_set_head(void* model, const uint16_t* weight) {
  Model& m = *(Model*)model;
  if (!m.head.reserve(m.vocabulary, m.hidden, &m.arena)) return 1;
  m.head.put(weight, m.vocabulary);
  return 0;
}

// vectors: float32 [steps, hidden], the inputs of look-ahead rows, or null; deep: float32 [layers, steps, hidden] or null.
void pass_set_lookahead(void* model, const float* vectors, const float* deep, int steps) {
  Model& m = *(Model*)model;
  m.lookahead_steps = steps;
  m.lookahead = copy(vectors, vectors ? (size_t)steps * m.hidden : 0);
  m.deep = copy(deep, deep ? (size_t)m.layers * steps * m.hidden : 0);
}

// down: bfloat16 [rank, inputs], up: bfloat16 [outputs, rank]; rank 0 removes the adapter.
int pass_set_adapter(void* model, int layer, int linear, const uint16_t* down, const uint16_t* up, int rank,
                     int inputs, int outputs) {
  Adapter& a = ((Model*)model)->blocks[layer].adapters[linear];
  if (rank == 0) {
    a.down.panels = 0;
    return 0;
  }
  int width = (rank + 1) / 2 * 2;
  if (!a.down.reserve((rank + 15) / 16 * 16, inputs) || !a.up.reserve(outputs, width)) return 1;
  std::memset(a.down.memory.data, 0, a.down.memory.bytes);
  std::memset(a.up.memory.data, 0, a.up.memory.bytes);
  a.down.put(down, rank);
  std::vector<uint16_t> padded((size_t)outputs * width, 0);
  for (int o = 0; o < outputs; o++) std::memcpy(&padded[(size_t)o * width], up + (size_t)o * rank, rank * 2);
  a.up.put(padded.data(), outputs);
  return 0;
}

void* pass_cache_new(void* model, int capacity) {
  Model& m = *(Model*)model;
  Cache* c = new (std::nothrow) Cache{m.layers, m.kv_heads, m.head_dim, (capacity + 31) / 16 * 16, {}, {}};
  if (!c) return nullptr;
  size_t bytes = (size_t)c->layers * c->kv_heads * c->head_elements() * 2;
  if (!c->keys.reserve(bytes) || !c->values.reserve(bytes)) {
    delete c;
    return nullptr;
  }
  return c;
}

void pass_cache_free(void* cache) { delete (Cache*)cache; }

int64_t pass_cache_bytes(void* cache) { return (int64_t)(((Cache*)cache)->keys.bytes + ((Cache*)cache)->values.bytes); }

// ids: [tokens] token rows, before the look-ahead rows; parents, steps: [rows]; hidden: float32 [rows, hidden], final norm
// applied. Returns 1 without memory, 2 when the rows do not fit the cache.
int pass_forward(void* model, void* cache, int length, int rows, int tokens, const int64_t* ids, const float* cosine,
                 const float* sine, const int32_t* parents, const int32_t* steps, float* hidden) {
  Model& m = *(Model*)model;
  Cache& c = *(Cache*)cache;
  if (length + rows > c.capacity) return 2;
  size_t q = (size_t)m.heads * m.head_dim, ld = pair_stride(rows);
  if (!m.residual.reserve((size_t)rows * m.hidden * 4) || !m.queries.reserve(rows * q * 2) ||
      !m.attended.reserve(ld * q * 2) || !m.inner_rows.reserve(ld * m.inner * 2))
    return 1;
  float* residual = m.residual.as<float>();
  for (int r = 0; r < rows; r++) {
    float* row = residual + (size_t)r * m.hidden;
    if (r >= tokens) {
      std::memcpy(row, m.lookahead.data() + (size_t)steps[r] * m.hidden, (size_t)m.hidden * 4);
      continue;
    }
    const uint16_t* embedding = m.table + (size_t)ids[r] * m.hidden;
    for (int i = 0; i < m.hidden; i++) row[i] = from_bf16(embedding[i]);
  }
  Call call{m, c, length, rows, tokens, ld, cosine, sine, parents, steps};
  m.team.run(m.layers * PHASES_PER_LAYER + 1, [call, hidden](Job& job, int t) { forward_thread(job, call, t, hidden); });
  return 0;
}

// hidden: float32 [rows, hidden]; logits: float32 [rows, vocabulary rounded up to 16].
int pass_head(void* model, const float* hidden, int rows, float* logits) {
  Model& m = *(Model*)model;
  size_t ld = pair_stride(rows);
  if (!m.logits_in.reserve(ld * m.hidden * 2)) return 1;
  uint32_t* x = m.logits_in.as<uint32_t>();
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < m.hidden; i += 16)
      store_pairs(x + i / 2 * ld + r, ld, load_f32(hidden + (size_t)r * m.hidden + i));
  size_t width = (size_t)m.head.panels * 16;
  m.team.run(1, [&m, x, ld, rows, logits, width](Job& job, int t) {
    job.phase(0, t, m.head.panels, 96, [&](int first, int last) {
      product<ONCE>(m.head.panel(first), (size_t)m.head.pairs * 32, last - first, x, ld, rows,
              m.head.pairs, logits + (size_t)first * 16, width);
    });
  });
  return 0;
}

// Read `lines` of 64 bytes once, every thread its own run of them, as the kernel does: what the memory can give. Returns
// their sum as numbers, so that no compiler leaves the reading out.
float pass_read(void* model, const float* data, int64_t lines) {
  Model& m = *(Model*)model;
  static constexpr int64_t BLOCK = 4096;
  int blocks = (int)((lines + BLOCK - 1) / BLOCK);
  std::vector<float> sums(blocks);
  float* out = sums.data();
  m.team.run(1, [data, lines, blocks, out](Job& job, int t) {
    job.phase(0, t, blocks, 1, [&](int first, int last) {
      for (int b = first; b < last; b++) {
        const float* at = data + b * BLOCK * 16;
        int64_t count = std::min(BLOCK, lines - b * BLOCK);
        f32x16 sum[8] = {};
        for (int64_t i = 0; i + 8 <= count; i += 8)
          for (int j = 0; j < 8; j++) {
            __builtin_prefetch(at + (i + j) * 16 + 192 * 16);
            sum[j] += load_f32(at + (i + j) * 16);
          }
        for (int j = 1; j < 8; j++) sum[0] += sum[j];
        float total = 0;
        for (int j = 0; j < 16; j++) total += sum[0][j];
        out[b] = total;
      }
    });
  });
  float total = 0;
  for (float s : sums) total += s;
  return total;
}

// Move slots length + rows[i] to length + i, in order (rows[i] >= i and rising).
void pass_commit(void* cache, int length, const int32_t* rows, int count) {
  Cache& c = *(Cache*)cache;
  for (int i = 0; i < count; i++) {
    if (rows[i] == i) continue;
    for (int l = 0; l < c.layers; l++)
      for (int h = 0; h < c.kv_heads; h++) {
        uint16_t *k = c.key_head(l, h), *v = c.value_head(l, h);
        for (int d = 0; d < c.head_dim; d++) {
          k[c.key_at(length + i, d)] = k[c.key_at(length + rows[i], d)];
          v[c.value_at(length + i, d)] = v[c.value_at(length + rows[i], d)];
        }
      }
  }
}
}

// One translation unit: what the compiler makes of kernel.h is made once.
#include "algorithm_api.cpp"
