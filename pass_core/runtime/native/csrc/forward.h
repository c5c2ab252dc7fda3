// One forward pass of a Llama-shaped decoder over a few rows.
//
// Every row's result depends on that row, its ancestors and the committed context alone, never on how many other rows
// share the pass or where in the cache its ancestors wait. So speculative and plain decoding agree bit for bit, in low
// precision too.
#pragma once

#include "kernel.h"
#include "model.h"

namespace {

inline float rms_scale(const float* x, int n, float epsilon) {
  f32x16 sums[4];
  int i = 0;
  for (; i + 64 <= n; i += 64)
    for (int j = 0; j < 4; j++) {
      f32x16 v = load_f32(x + i + 16 * j);
      sums[j] = fma(v, v, sums[j]);
    }
  for (; i < n; i += 16) {
    f32x16 v = load_f32(x + i);
    sums[0] = fma(v, v, sums[0]);
  }
  return 1.0f / std::sqrt(sum16((sums[0] + sums[1]) + (sums[2] + sums[3])) / n + epsilon);
}

// x / sqrt(mean(x^2) + eps) * weight.
inline void rms_norm(const float* x, const float* weight, int n, float epsilon, float* out) {
  float scale = rms_scale(x, n, epsilon);
  for (int i = 0; i < n; i += 16) store_f32(out + i, load_f32(x + i) * scale * load_f32(weight + i));
}
// The same, as a row that products read.
inline void rms_norm(const float* x, const float* weight, int n, float epsilon, const Activations& out, int row) {
  float scale = rms_scale(x, n, epsilon);
  auto at = [&](int i) { return load_f32(x + i) * scale * load_f32(weight + i); };
  if (out.whole_numbers())
    for (int i = 0; i < n; i += BLOCK) out.put_block(row, i / BLOCK, at(i), i + 16 < n ? at(i + 16) : f32x16());
  if (out.of[pass::PAIRS] || out.of[pass::FLOATS])
    for (int i = 0; i < n; i += 16) out.put16(row, i, at(i));
}

inline void rope(float* head, int head_dim, const float* cosine, const float* sine) {
  int half = head_dim / 2;
  for (int i = 0; i < half; i++) {
    float a = head[i], b = head[i + half];
    head[i] = a * cosine[i] - b * sine[i];
    head[i + half] = b * cosine[i] + a * sine[i];
  }
}

struct ForwardPass {
  Model& m;
  Cache& cache;
  int length, rows, tokens;  // rows from `tokens` on are look-ahead rows
  size_t ld;                 // of activations that linear layers read
  const float *cosine, *sine;  // [rows, head_dim / 2] of each row's position
  const int32_t *parents, *steps;
};

// down x for the look-ahead rows; computed once a phase by each thread that needs it.
struct LowRank {
  Buffer memory;
  bool ready = false;
  Activations narrow;
  void prepare(const ForwardPass& c, const Adapter& a, const Activations& x) {
    if (ready) return;
    ready = true;
    int rows = c.rows - c.tokens, width = a.down.panels * 16;
    Form form = c.m.own_form();
    size_t wide_bytes = (size_t)rows * width * 4;
    memory.reserve(wide_bytes + Activations::bytes(width, rows, bit(form)));
    float* wide = memory.as<float>();
    narrow.place(memory.as<char>() + wide_bytes, width, rows, bit(form));
    pass::product(a.down.format, form, pass::AGAIN, a.down.run(0, a.down.panels), x.of[form] + c.tokens, x.ld, rows,
                  wide, width);
    for (int r = 0; r < rows; r++)
      for (int i = 0; i < width; i += 16) narrow.put16(r, i, load_f32(wide + (size_t)r * width + i));
  }
};

// out[r, panels] += up (down x_r) for the look-ahead rows; `from` and `count` are panels of the full output, `apart` how
// many panels of `out` each is from the one before.
inline void adapt(const ForwardPass& c, const Adapter& a, LowRank& low, const Activations& x, int from, int count, float* out,
                  size_t out_stride, int apart = 1) {
  int rows = c.rows - c.tokens;
  if (a.down.empty() || rows <= 0) return;
  low.prepare(c, a, x);
  int at_once = apart == 1 ? count : 1;
  Form form = c.m.own_form();
  for (int p = 0; p < count; p += at_once)
    pass::product(a.up.format, form, pass::AGAIN, a.up.run(from + p, at_once), low.narrow.of[form], low.narrow.ld, rows,
                  out + (size_t)c.tokens * out_stride + p * apart * 16, out_stride, true);
}

// Calls for what other threads have just written: one after the other its lines would come from their caches slowly.
inline void fetch(const void* data, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char*)data + i);
}

thread_local LowRank low[3];  // their memory lasts from call to call

constexpr int PHASES_PER_LAYER = 6;

// One thread's part of a forward pass.
class Forward {
 public:
  Forward(Job& job, const ForwardPass& inputs, int thread) : job(job), c(inputs), m(inputs.m), t(thread) {}
  void run(float* hidden_out);

 private:
  Job& job;
  const ForwardPass& c;
  Model& m;
  const int t;
  int n, h, d, units, head_grain, out_grain, inner_grain;
  bool adapted;
  void* x_memory;
  float *wide, *scratch, *residual;

  void reserve();
  void add_deep(int layer, int phase);
  void attention_inputs(Layer& layer, int index, int phase);
  void head(Layer& layer, int index, int unit, int row, float* x);
  void attend(Layer& layer, int index, int phase);
  void feed_forward(Layer& layer, int phase);
  void onto_residual(int phase, const Matrix& weights, const Adapter& adapter, Activations rows);

  // The forms in which attention leaves its result: blocks that cross heads are made where they are read.
  unsigned attended_needs(const Layer& layer) const {
    unsigned needs = m.needs(layer.output, adapted), numbers = bit(pass::BYTES) | bit(pass::WORDS);
    return d % BLOCK && needs & numbers ? (needs & ~numbers) | bit(pass::FLOATS) : needs;
  }
  Activations normed(const std::vector<float>& norm, const Matrix& weights) {
    Activations x;
    x.place(x_memory, h, c.ld, m.needs(weights, adapted));
    fetch(residual, (size_t)n * h * 4);
    for (int r = 0; r < n; r++) rms_norm(residual + (size_t)r * h, norm.data(), h, m.epsilon, x, r);
    for (auto& one : low) one.ready = false;
    return x;
  }
};

void Forward::reserve() {
  n = c.rows, h = m.hidden, d = m.head_dim, units = m.heads + 2 * m.kv_heads;
  head_grain = m.team.grain(units), out_grain = m.team.grain(h / 16), inner_grain = m.team.grain(m.inner / 16);
  inner_grain = (inner_grain + 1) / 2 * 2;  // whole blocks of 32
  adapted = n > c.tokens;
  int slots = (c.length + n + 15) / 16 * 16;
  size_t widest = std::max({head_grain * d, out_grain * 16, inner_grain * 32});
  constexpr unsigned every = (1u << pass::FORMS) - 1;
  size_t x_bytes = Activations::bytes(std::max(h, m.heads * d), c.ld, every), wide_bytes = (size_t)n * widest * 4;
  m.scratch[t].reserve(x_bytes + wide_bytes + Attention::scratch_words(slots) * 4);
  char* cursor = m.scratch[t].as<char>();
  x_memory = cursor;
  wide = (float*)(cursor + x_bytes);
  scratch = (float*)(cursor + x_bytes + wide_bytes);
  residual = m.residual.as<float>();
}

void Forward::add_deep(int layer, int phase) {
  if (m.deep.empty() || !adapted) return;
  job.phase(phase, t, n - c.tokens, n, [&](int first, int last) {
    for (int r = c.tokens + first; r < c.tokens + last; r++) {
      const float* add = m.deep.data() + ((size_t)layer * m.lookahead_steps + c.steps[r]) * h;
      for (int i = 0; i < h; i++) residual[(size_t)r * h + i] += add[i];
    }
  });
}

// A head of queries, keys or values of a row: bias, norm and rotation, then to where attention reads it.
void Forward::head(Layer& layer, int index, int unit, int row, float* x) {
  if (!layer.qkv_bias.empty())
    for (int i = 0; i < d; i++) x[i] += layer.qkv_bias[(size_t)unit * d + i];
  if (unit >= m.heads + m.kv_heads) {
    c.cache.put_value(index, unit - m.heads - m.kv_heads, c.length + row, x);
    return;
  }
  bool query = unit < m.heads;
  const auto& norm = query ? layer.q_norm : layer.k_norm;
  if (!norm.empty()) rms_norm(x, norm.data(), d, m.epsilon, x);
  rope(x, d, c.cosine + (size_t)row * (d / 2), c.sine + (size_t)row * (d / 2));
  if (!query) {
    c.cache.put_key(index, unit - m.heads, c.length + row, x);
    return;
  }
  int group = m.heads / m.kv_heads;
  size_t at = (((size_t)(unit / group) * n + row) * group + unit % group) * d;
  for (int i = 0; i < d; i += 16)
    if (m.own_form() == pass::PAIRS)
      store_bf16(m.queries.as<uint16_t>() + at + i, load_f32(x + i));
    else
      store_f32(m.queries.as<float>() + at + i, load_f32(x + i));
}

void Forward::attention_inputs(Layer& layer, int index, int phase) {
  Activations x;
  int head_panels = d / 16;
  Form form = m.form(layer.qkv);
  job.phase(phase, t, units, head_grain, [&](int first, int last) {
    if (!x.inputs) x = normed(layer.input_norm, layer.qkv);
    int panels = (last - first) * head_panels, width = panels * 16;
    pass::product(layer.qkv.format, form, pass::ONCE, layer.qkv.run(first * head_panels, panels), x.of[form], c.ld, n,
                  wide, width);
    // The adapters of q, k and v each cover a run of whole heads.
    const int starts[4] = {0, m.heads, m.heads + m.kv_heads, units};
    for (int which = 0; adapted && which < 3; which++) {
      int a = std::max(first, starts[which]), b = std::min(last, starts[which + 1]);
      if (a < b)
        adapt(c, layer.adapters[Q + which], low[which], x, (a - starts[which]) * head_panels, (b - a) * head_panels,
              wide + (a - first) * d, width);
    }
    for (int u = first; u < last; u++)
      for (int r = 0; r < n; r++) head(layer, index, u, r, wide + (size_t)r * width + (u - first) * d);
  });
}

void Forward::attend(Layer& layer, int index, int phase) {
  Activations out;
  out.place(m.attended.data, m.heads * d, c.ld, attended_needs(layer));
  Attention attention{c.cache, index, c.length, n, m.heads, c.parents, m.queries.as<uint32_t>(), out};
  auto mine = job.share(t % job.shares, h / 16, out_grain);
  Ahead ahead{layer.output.run(mine.first, 0).data, layer.output.run(mine.second, 0).data};
  int all = n * m.heads, grain = std::max(m.team.grain(all), std::min(8, all / m.team.size() + 1));
  job.phase(phase, t, all, grain, [&](int first, int last) {
    if (m.cache_format == pass::F32)
      attention.run<pass::F32, pass::FLOATS>(first, last, scratch, ahead);
    else
      attention.run<pass::BF16, pass::BF16_ROWS>(first, last, scratch, ahead);
  });
}

// A linear layer whose outputs are added to the residual stream.
void Forward::onto_residual(int phase, const Matrix& weights, const Adapter& adapter, Activations rows) {
  for (auto& one : low) one.ready = false;
  Form form = m.form(weights);
  if (rows.of[form]) fetch(rows.of[form], Activations::words(form, rows.inputs) * rows.ld * 4);
  job.phase(phase, t, h / 16, out_grain, [&](int first, int last) {
    if (!rows.of[form]) {  // blocks that cross heads
      Activations blocks;
      blocks.place(x_memory, rows.inputs, c.ld, bit(form));
      const float* from = (const float*)rows.of[pass::FLOATS];
      alignas(64) float some[BLOCK];
      for (int r = 0; r < n; r++)
        for (int i = 0; i < rows.inputs; i += BLOCK) {
          for (int j = 0; j < BLOCK; j++) some[j] = i + j < rows.inputs ? from[(i + j) * rows.ld + r] : 0.0f;
          blocks.put(r, i, some, BLOCK);
        }
      rows.of[form] = blocks.of[form];
    }
    int width = (last - first) * 16;
    pass::product(weights.format, form, pass::ONCE, weights.run(first, last - first), rows.of[form], c.ld, n, wide,
                  width);
    adapt(c, adapter, low[0], rows, first, last - first, wide, width);
    for (int r = 0; r < n; r++)
      for (int i = 0; i < width; i++) residual[(size_t)r * h + first * 16 + i] += wide[(size_t)r * width + i];
  });
}

void Forward::feed_forward(Layer& layer, int phase) {
  Activations x, inner;
  inner.place(m.inner_rows.data, m.inner, c.ld, m.needs(layer.down, adapted));
  Form form = m.form(layer.gate_up);
  job.phase(phase, t, m.inner / 16, inner_grain, [&](int first, int last) {
    if (!x.inputs) x = normed(layer.post_norm, layer.gate_up);
    int width = (last - first) * 32;
    pass::product(layer.gate_up.format, form, pass::ONCE, layer.gate_up.run(first * 2, (last - first) * 2), x.of[form],
                  c.ld, n, wide, width);
    for (int which = GATE; adapted && which <= UP; which++)
      adapt(c, layer.adapters[which], low[which - GATE], x, first, last - first, wide + (which - GATE) * 16, width, 2);
    for (int r = 0; r < n; r++)
      for (int b = 0; b < last - first; b += 2) {
        const float* pair = wide + (size_t)r * width + b * 32;
        bool both = b + 1 < last - first;
        f32x16 low16 = silu16(load_f32(pair)) * load_f32(pair + 16), high16;
        if (both) high16 = silu16(load_f32(pair + 32)) * load_f32(pair + 48);
        if (inner.whole_numbers()) inner.put_block(r, (first + b) / 2, low16, high16);
        inner.put16(r, (first + b) * 16, low16);
        if (both) inner.put16(r, (first + b + 1) * 16, high16);
      }
  });
  onto_residual(phase + 1, layer.down, layer.adapters[DOWN], inner);
}

void Forward::run(float* hidden_out) {
  reserve();
  for (int l = 0; l < m.layers; l++) {
    Layer& layer = m.blocks[l];
    int phase = l * PHASES_PER_LAYER;
    add_deep(l, phase);
    attention_inputs(layer, l, phase + 1);
    attend(layer, l, phase + 2);
    Activations attended;
    attended.place(m.attended.data, m.heads * d, c.ld, attended_needs(layer));
    onto_residual(phase + 3, layer.output, layer.adapters[O], attended);
    feed_forward(layer, phase + 4);
  }
  job.phase(m.layers * PHASES_PER_LAYER, t, n, m.team.grain(n), [&](int first, int last) {
    for (int r = first; r < last; r++)
      rms_norm(residual + (size_t)r * h, m.final_norm.data(), h, m.epsilon, hidden_out + (size_t)r * h);
  });
}

}  // namespace
