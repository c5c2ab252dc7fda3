// What Python calls: a Llama-shaped decoder for CPUs.

#include <cstdint>

#include "forward.h"

extern "C" {

struct PassShape {
  int32_t hidden, layers, heads, kv_heads, head_dim, inner, vocabulary, threads;
  int32_t cache_format;  // of KV cache and adapters: BF16 or F32
  int32_t bits;          // of rows where weights are integers: 8 or 16
  float epsilon;
};

// table: input embeddings [vocabulary, hidden] in a format's file order; the caller keeps them as long as the model lives.
void* pass_new(const PassShape* s, const float* final_norm, const void* table, int table_format) {
  Model* m = new (std::nothrow) Model(std::max(1, s->threads));
  if (!m) return nullptr;
  m->hidden = s->hidden;
  m->layers = s->layers;
  m->heads = s->heads;
  m->kv_heads = s->kv_heads;
  m->head_dim = s->head_dim;
  m->inner = s->inner;
  m->vocabulary = s->vocabulary;
  m->cache_format = s->cache_format;
  m->bits = s->bits;
  m->epsilon = s->epsilon;
  m->blocks = std::vector<Layer>(s->layers);
  m->final_norm = copy(final_norm, s->hidden);
  m->table = table;
  m->table_format = table_format;
  return m;
}

void pass_free(void* model) {
  ((Model*)model)->team.stop();  // before anything that a late thread may still look at goes away
  delete (Model*)model;
}

// Bytes of packed weights.
int64_t pass_weight_bytes(void* model) { return (int64_t)((Model*)model)->arena.taken(); }

// The form of rows that products with weights of a format read: 0 float32, 1 bfloat16, 2 and 3 integers of 8 and 16 bits.
int pass_form(int format, int bits) { return pass::form_of(format, bits); }

// float32 [rows, inputs] as Q8_0 blocks; inputs a multiple of 32, out: 34 bytes for each 32 of them.
void pass_quantise(const float* x, int64_t rows, int inputs, uint8_t* out) {
  for (int64_t r = 0; r < rows; r++) quantise_q8(x + r * inputs, inputs, out + r * row_bytes(pass::Q8_0, inputs));
}

// Rows [outputs, inputs] in the file order of their format: formats of q k v, o, gate and up, down. Biases and norms
// float32, or null where the model has none. Returns 1 without memory.
int pass_set_layer(void* model, int index, const int32_t* formats, const void* q, const void* k, const void* v,
                   const void* o, const void* gate, const void* up, const void* down, const float* input_norm,
                   const float* post_norm, const float* qkv_bias, const float* q_norm, const float* k_norm) {
  Model& m = *(Model*)model;
  Layer& l = m.blocks[index];
  int d = m.head_dim, h = m.hidden, q_rows = m.heads * d, kv_rows = m.kv_heads * d;
  Arena* a = &m.arena;
  if (!l.qkv.reserve(formats[0], q_rows + 2 * kv_rows, h, a) || !l.output.reserve(formats[1], h, q_rows, a) ||
      !l.gate_up.reserve(formats[2], 2 * m.inner, h, a) || !l.down.reserve(formats[3], h, m.inner, a))
    return 1;
  size_t panel_bytes = 16 * row_bytes(formats[2], h);
  m.team.run(1, [=, &l, &m](Job& job, int t) {
    job.phase(0, t, 6 + m.inner / 16, 1, [&](int unit, int) {
      if (unit == 0) l.qkv.put(q, q_rows);
      if (unit == 1) l.qkv.put(k, kv_rows, q_rows);
      if (unit == 2) l.qkv.put(v, kv_rows, q_rows + kv_rows);
      if (unit == 3) l.output.put(o, h);
      if (unit == 4) l.down.put(down, h);
      if (unit < 6) return;
      int b = unit - 6;
      l.gate_up.put((const char*)gate + b * panel_bytes, 16, b * 32);
      l.gate_up.put((const char*)up + b * panel_bytes, 16, b * 32 + 16);
    });
  });
  l.input_norm = copy(input_norm, h);
  l.post_norm = copy(post_norm, h);
  l.qkv_bias = copy(qkv_bias, q_rows + 2 * kv_rows);
  l.q_norm = copy(q_norm, d);
  l.k_norm = copy(k_norm, d);
  return 0;
}

int pass_set_lm_head(void* model, const void* weight, int format) {
  Model& m = *(Model*)model;
  if (!m.lm_head.reserve(format, m.vocabulary, m.hidden, &m.arena)) return 1;
  constexpr int AT_ONCE = 256;
  m.team.run(1, [&m, weight](Job& job, int t) {
    job.phase(0, t, m.vocabulary, AT_ONCE, [&](int first, int last) {
      m.lm_head.put((const char*)weight + first * row_bytes(m.lm_head.format, m.hidden), last - first, first);
    });
  });
  return 0;
}

// vectors: float32 [steps, hidden], the inputs of look-ahead rows, or null; deep: float32 [layers, steps, hidden] or null.
void pass_set_lookahead(void* model, const float* vectors, const float* deep, int steps) {
  Model& m = *(Model*)model;
  m.lookahead_steps = steps;
  m.lookahead = copy(vectors, vectors ? (size_t)steps * m.hidden : 0);
  m.deep = copy(deep, deep ? (size_t)m.layers * steps * m.hidden : 0);
}

// down: [rank, inputs], up: [outputs, rank], in the cache's format; rank 0 removes the adapter. Returns 1 without memory.
int pass_set_adapter(void* model, int layer, int linear, const void* down, const void* up, int rank, int inputs,
                     int outputs) {
  Model& m = *(Model*)model;
  Adapter& a = m.blocks[layer].adapters[linear];
  if (rank == 0) {
    a.down.panels = 0;
    return 0;
  }
  int width = (rank + 1) / 2 * 2;
  if (!a.down.reserve(m.cache_format, (rank + 15) / 16 * 16, inputs) || !a.up.reserve(m.cache_format, outputs, width))
    return 1;
  std::memset(a.down.memory.data, 0, a.down.memory.bytes);
  std::memset(a.up.memory.data, 0, a.up.memory.bytes);
  a.down.put(down, rank);
  size_t wide = row_bytes(m.cache_format, width), narrow = row_bytes(m.cache_format, rank);
  std::vector<char> padded(outputs * wide, 0);
  for (int o = 0; o < outputs; o++) std::memcpy(&padded[o * wide], (const char*)up + o * narrow, narrow);
  a.up.put(padded.data(), outputs);
  return 0;
}

void* pass_cache_new(void* model, int capacity) {
  Model& m = *(Model*)model;
  Cache* c = new (std::nothrow) Cache{m.layers, m.kv_heads, m.head_dim, (capacity + 31) / 16 * 16, m.cache_format, {}, {}};
  if (!c) return nullptr;
  size_t bytes = (size_t)c->layers * c->kv_heads * c->head_bytes();
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
  size_t q = (size_t)m.heads * m.head_dim, ld = word_stride(rows);
  constexpr unsigned every = (1u << pass::FORMS) - 1;
  if (!m.residual.reserve((size_t)rows * m.hidden * 4) || !m.queries.reserve(rows * q * 4) ||
      !m.attended.reserve(Activations::bytes((int)q, ld, every)) ||
      !m.inner_rows.reserve(Activations::bytes(m.inner, ld, every)))
    return 1;
  float* residual = m.residual.as<float>();
  for (int r = 0; r < rows; r++) {
    float* row = residual + (size_t)r * m.hidden;
    if (r >= tokens)
      std::memcpy(row, m.lookahead.data() + (size_t)steps[r] * m.hidden, (size_t)m.hidden * 4);
    else
      wide_row(m.table_format, (const char*)m.table + ids[r] * row_bytes(m.table_format, m.hidden), m.hidden, row);
  }
  ForwardPass inputs{m, c, length, rows, tokens, ld, cosine, sine, parents, steps};
  m.team.run(m.layers * PHASES_PER_LAYER + 1,
             [inputs, hidden](Job& job, int t) { Forward(job, inputs, t).run(hidden); });
  return 0;
}

// Rows `ids` of the lm_head as a matrix of its own; null without memory.
void* pass_shortlist_new(void* model, const int32_t* ids, int count) {
  Matrix* list = new (std::nothrow) Matrix();
  if (list && list->gather(((Model*)model)->lm_head, ids, count)) return list;
  delete list;
  return nullptr;
}

void pass_shortlist_free(void* list) { delete (Matrix*)list; }

// hidden: float32 [rows, hidden]; logits: float32 [rows, 16 * panels], of all tokens, or of a shortlist's. Returns 1
// without memory.
int pass_head(void* model, const void* shortlist, const float* hidden, int rows, float* logits) {
  Model& m = *(Model*)model;
  const Matrix& head = shortlist ? *(const Matrix*)shortlist : m.lm_head;
  Form form = m.form(head);
  int panels = head.panels;
  size_t ld = word_stride(rows);
  if (!m.logits_in.reserve(Activations::bytes(m.hidden, ld, bit(form)))) return 1;
  Activations x;
  x.place(m.logits_in.data, m.hidden, ld, bit(form));
  for (int r = 0; r < rows; r++) x.put(r, 0, hidden + (size_t)r * m.hidden, m.hidden);
  size_t width = (size_t)panels * 16;
  pass::Reuse reuse = shortlist ? pass::AGAIN : pass::ONCE;
  int grain = shortlist ? 16 : 96;
  m.team.run(1, [&head, x, form, reuse, rows, panels, grain, logits, width](Job& job, int t) {
    job.phase(0, t, panels, grain, [&](int first, int last) {
      pass::product(head.format, form, reuse, head.run(first, last - first), x.of[form], x.ld, rows,
                    logits + (size_t)first * 16, width);
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
        static constexpr int SUMS = 4;  // more do not fit AVX2's registers, and then the sums are what is timed
        f32x16 sum[SUMS];
        for (int64_t i = 0; i + SUMS <= count; i += SUMS)
          for (int j = 0; j < SUMS; j++) {
            __builtin_prefetch(at + (i + j) * 16 + 192 * 16);
            sum[j] += load_f32(at + (i + j) * 16);
          }
        for (int j = 1; j < SUMS; j++) sum[0] += sum[j];
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
  const Cache& c = *(Cache*)cache;
  for (int i = 0; i < count; i++) {
    if (rows[i] == i) continue;
    if (c.format == pass::F32)
      c.move<uint32_t>(length + rows[i], length + i);
    else
      c.move<uint16_t>(length + rows[i], length + i);
  }
}
}
