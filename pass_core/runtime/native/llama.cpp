// One forward call of a Llama-shaped decoder in bfloat16 over a few rows, for CPUs.
//
// Every row's result depends on that row, its ancestors and the committed context alone, never on how many other rows
// share the call or where in the cache its ancestors wait: each (row, output) has one accumulator that runs over its
// inputs in logical order. So speculative and plain decoding agree bit for bit, in low precision too.
//
// Weights are packed in panels of 16 outputs: [outputs / 16][inputs / 2][16][2] bfloat16. The KV cache uses the same
// layout (keys: slots are outputs; values: slots are inputs), so that one microkernel serves everything.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
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

typedef uint16_t u16x16 __attribute__((vector_size(32)));

// Round to the nearest bfloat16, ties to even, 16 at once; the scalar form rounds the same.
inline u16x16 to_bf16x16(f32x16 x) {
  u32x16 bits = (u32x16)x;
  return __builtin_convertvector((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, u16x16);
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
inline float from_bf16(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

// exp for x <= 0 (clamped at -87): 2^n times a polynomial of the fraction, error below 2 ulp.
inline f32x16 exp16(f32x16 x) {
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

// R rows by P panels; out[r * out_stride + p * 16 ..] = (or +=) x[r] . panel p, over `pairs` input pairs.
// ROW: the row stride of x where it is known when compiling (1), else 0.
template <int R, int P, int ROW>
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
        __builtin_prefetch(ahead + p * panel_stride + (size_t)k * 32);
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

template <int R, int P, int ROW>
int run_of(const uint16_t* w, size_t panel_stride, int p, int panels, const uint32_t* x, Strides strides, int pairs,
           float* out, size_t out_stride, bool accumulate) {
  for (; p + P <= panels; p += P)
    micro<R, P, ROW>(w + p * panel_stride, panel_stride, x, strides, pairs, out + p * 16, out_stride, accumulate);
  return p;
}

template <int R, int ROW>
void panels_of(const uint16_t* w, size_t panel_stride, int panels, const uint32_t* x, Strides strides, int pairs,
               float* out, size_t out_stride, bool accumulate) {
  constexpr int P = panels_at_once<R>();
  int p = run_of<R, P, ROW>(w, panel_stride, 0, panels, x, strides, pairs, out, out_stride, accumulate);
  if (P > 4) p = run_of<R, 4, ROW>(w, panel_stride, p, panels, x, strides, pairs, out, out_stride, accumulate);
  if (P > 2) p = run_of<R, 2, ROW>(w, panel_stride, p, panels, x, strides, pairs, out, out_stride, accumulate);
  if (P > 1) run_of<R, 1, ROW>(w, panel_stride, p, panels, x, strides, pairs, out, out_stride, accumulate);
}

template <int R, int MOST, int ROW>
void rows_of(int rows, const uint16_t* w, size_t panel_stride, int panels, const uint32_t* x, Strides strides,
             int pairs, float* out, size_t out_stride, bool accumulate) {
  if constexpr (R < MOST) {
    if (rows > R) {
      rows_of<R + 1, MOST, ROW>(rows, w, panel_stride, panels, x, strides, pairs, out, out_stride, accumulate);
      return;
    }
  }
  panels_of<R, ROW>(w, panel_stride, panels, x, strides, pairs, out, out_stride, accumulate);
}

// Rows side by side ([pair][row], `ld` apart): all of them pass over each weight once where registers allow.
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
      rows_of<1, MOST, 1>(n, w + p * panel_stride, panel_stride, count, x + r, {ld, 1}, pairs,
                          out + r * out_stride + p * 16, out_stride, accumulate);
      r += n;
    }
  }
}

// Rows one after the other ([row][pair]): attention and the draft head, a few rows at a time.
void product_rows(const uint16_t* w, size_t panel_stride, int panels, const uint32_t* x, size_t row, int rows,
                  int pairs, float* out, size_t out_stride) {
  constexpr int MOST = 6;
  for (int r = 0; r < rows; r += MOST)
    rows_of<1, MOST, 0>(std::min(MOST, rows - r), w, panel_stride, panels, x + r * row, {1, row}, pairs,
                        out + r * out_stride, out_stride, false);
}

inline void pause_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// A job is a row of phases, each a number of chunks. Every thread starts with its own share, so that it reads a long run
// of memory, and then helps the others; a phase is over when its chunks are done, whether or not every thread took part: a
// thread that lost its core to the user's window delays nothing, and finds its phases finished when it comes back.
constexpr int MOST_SHARES = 14;
struct Job {
  struct alignas(64) Phase {
    std::atomic<int> done{0}, next[MOST_SHARES] = {};
  };
  int shares;
  std::vector<Phase> phases;
  std::function<void(Job&, int)> body;
  Job(int count, int threads, std::function<void(Job&, int)> b)
      : shares(std::min(threads, MOST_SHARES)), phases(count), body(std::move(b)) {}

  // Units first..last of a share when `units` are done `grain` at a time.
  std::pair<int, int> share(int which, int units, int grain) const {
    int chunks = (units + grain - 1) / grain;
    return {chunks * which / shares * grain, std::min(units, chunks * (which + 1) / shares * grain)};
  }

  // Chunks of `grain` units: work(first, last). Returns when all units of the phase are done.
  template <class Work>
  void phase(int index, int thread, int units, int grain, const Work& work) {
    Phase& p = phases[index];
    int chunks = (units + grain - 1) / grain;
    for (int s = 0; s < shares; s++) {
      int which = (thread + s) % shares, end = chunks * (which + 1) / shares;
      for (int c; (c = chunks * which / shares + p.next[which].fetch_add(1, std::memory_order_relaxed)) < end;) {
        work(c * grain, std::min(units, (c + 1) * grain));
        p.done.fetch_add(1, std::memory_order_release);
      }
    }
    for (int spins = 0; p.done.load(std::memory_order_acquire) < chunks; spins++) {
      if (spins < 4000)
        pause_cpu();
      else
        std::this_thread::yield();
    }
  }
};

class Team {
 public:
  explicit Team(int threads) : size_(threads) {
    for (int i = 1; i < threads; i++) workers_.emplace_back([this, i] { work(i); });
  }
  ~Team() { stop(); }
  void stop() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      quit_ = true;
      generation_.fetch_add(1);
    }
    wake_.notify_all();
    for (auto& w : workers_) w.join();
    workers_.clear();
  }
  int size() const { return size_; }
  // Chunk size that gives each thread about four chunks.
  int grain(int units) const { return std::max(1, (units + 4 * size_ - 1) / (4 * size_)); }

  // The body must hold by value what a late thread may look at after this returned.
  void run(int phases, std::function<void(Job&, int)> body) {
    auto job = std::make_shared<Job>(phases, size_, std::move(body));
    if (size_ > 1) {
      {
        std::lock_guard<std::mutex> lock(mutex_);
        job_ = job;
        generation_.fetch_add(1);
      }
      wake_.notify_all();
    }
    job->body(*job, 0);
  }

 private:
  void work(int index) {
    int seen = 0;
    while (true) {
      for (int spins = 0; spins < 4000 && generation_.load(std::memory_order_acquire) == seen; spins++) pause_cpu();
      std::shared_ptr<Job> job;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load() != seen; });
        seen = generation_.load();
        job = job_;
      }
      if (quit_) return;
      job->body(*job, index);
    }
  }
  int size_;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::shared_ptr<Job> job_;
  std::atomic<int> generation_{0};
  std::atomic<bool> quit_{false};
};

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
  f32x16 sums{};
  for (int i = 0; i < n; i += 16) {
    f32x16 v = load_f32(x + i);
    sums += v * v;
  }
  float total = 0;
  for (int i = 0; i < 16; i++) total += sums[i];
  return 1.0f / std::sqrt(total / n + epsilon);
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
    product(a.down.panel(0), (size_t)a.down.pairs * 32, a.down.panels, x + c.tokens, c.ld, m, a.down.pairs, wide,
            width);
    for (int r = 0; r < m; r++)
      for (int i = 0; i < width; i += 16)
        store_pairs(out + (size_t)i / 2 * m + r, m, load_f32(wide + (size_t)r * width + i));
    narrow = out;
  }
};

// out[r, panels] += up (down x_r) for the look-ahead rows; `from` and `count` are panels of the full output.
void adapt(const Call& c, const Adapter& a, LowRank& low, const uint32_t* x, int from, int count, float* out,
           size_t out_stride) {
  int m = c.rows - c.tokens;
  if (a.down.empty() || m <= 0) return;
  low.prepare(c, a, x);
  product(a.up.panel(from), (size_t)a.up.pairs * 32, count, low.narrow, m, m, a.up.pairs,
          out + (size_t)c.tokens * out_stride, out_stride, true);
}

// Weights that the next phase will read, called into the second-level cache while memory has nothing else to do.
struct Ahead {
  static constexpr int AT_ONCE = 64;
  const char *at = nullptr, *end = nullptr;
  void call() {
    for (int i = 0; i < AT_ONCE && at < end; i++, at += 64) __builtin_prefetch(at, 0, 2);
  }
};

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
      std::memcpy(ordered, s, sizeof(float) * c.length);
      for (int r = row, j = total - 1; r >= 0; r = c.parents[r], j--) ordered[j] = s[c.length + r];
      int padded = (total + 15) / 16 * 16;
      for (int j = total; j < padded; j++) ordered[j] = -INFINITY;
      f32x16 most = load_f32(ordered);
      for (int j = 16; j < padded; j += 16) {
        f32x16 v = load_f32(ordered + j);
        most = v > most ? v : most;
      }
      float top = most[0];
      for (int j = 1; j < 16; j++) top = std::max(top, most[j]);
      f32x16 sum{};
      uint16_t* pr = p + (size_t)i * (slots + 32);
      for (int j = 0; j < padded; j += 16) {
        f32x16 v = load_f32(ordered + j);
        f32x16 e = exp16((v - top) * scale);
        if (j + 16 > total)
          for (int l = total - j; l < 16; l++) e[l] = 0.0f;
        sum += e;
        store_bf16(pr + j, e);
      }
      float s_total = 0;
      for (int j = 0; j < 16; j++) s_total += sum[j];
      sums[i] = s_total;
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
        store_f32(out + i * d + panel * 16, acc / sums[i]);
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
  static thread_local Buffer deltas;

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
      for (int r = 0; r < n; r++) rms_norm_pairs(residual + (size_t)r * h, norm.data(), h, m.epsilon, x + r, c.ld);
    };
    job.phase(phase + 1, t, units, head_grain, [&](int first, int last) {
      fresh(layer.input_norm);
      int panels = (last - first) * head_panels, width = panels * 16;
      product(layer.qkv.panel(first * head_panels), (size_t)layer.qkv.pairs * 32, panels, x, c.ld, n,
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
            for (int i = 0; i < d; i++) target[c.cache.key_at(c.length + r, i)] = to_bf16(head[i]);
          } else {
            uint16_t* target = c.cache.value_head(l, u - m.heads - m.kv_heads);
            for (int i = 0; i < d; i++) target[c.cache.value_at(c.length + r, i)] = to_bf16(head[i]);
          }
        }
      }
    });

    auto mine = job.share(t % job.shares, h / 16, out_grain);
    Ahead ahead{(const char*)layer.output.panel(mine.first), (const char*)layer.output.panel(mine.second)};
    job.phase(phase + 2, t, n * m.heads, std::max(m.team.grain(n * m.heads), std::min(8, n * m.heads / m.team.size() + 1)),
              [&](int first, int last) { attend(c, l, first, last, scores, ordered, p, ahead); });

    auto add_to_residual = [&](int first, int last) {
      int width = (last - first) * 16;
      for (int r = 0; r < n; r++)
        for (int i = 0; i < width; i++) residual[(size_t)r * h + first * 16 + i] += wide[(size_t)r * width + i];
    };
    for (auto& one : low) one.ready = false;
    job.phase(phase + 3, t, h / 16, out_grain, [&](int first, int last) {
      int width = (last - first) * 16;
      product(layer.output.panel(first), (size_t)layer.output.pairs * 32, last - first, attended,
              c.ld, n, layer.output.pairs, wide, width);
      adapt(c, layer.adapters[O], low[0], attended, first, last - first, wide, width);
      add_to_residual(first, last);
    });

    normed = false;
    // Gate and up panels stand beside each other for the product, and in two halves for the adapters.
    job.phase(phase + 4, t, m.inner / 16, inner_grain, [&](int first, int last) {
      fresh(layer.post_norm);
      int width = (last - first) * 32, half = (last - first) * 16;
      product(layer.gate_up.panel(first * 2), (size_t)layer.gate_up.pairs * 32, (last - first) * 2, x,
              c.ld, n, layer.gate_up.pairs, wide, width);
      for (int which = GATE; adapted && which <= UP; which++) {
        if (layer.adapters[which].down.empty()) continue;
        deltas.reserve((size_t)n * half * 4);
        float* delta = deltas.as<float>();
        std::memset(delta + (size_t)c.tokens * half, 0, (size_t)(n - c.tokens) * half * 4);
        adapt(c, layer.adapters[which], low[which - GATE], x, first, last - first, delta, half);
        for (int r = c.tokens; r < n; r++)
          for (int b = 0; b < last - first; b++)
            for (int i = 0; i < 16; i++)
              wide[(size_t)r * width + b * 32 + (which - GATE) * 16 + i] += delta[(size_t)r * half + b * 16 + i];
      }
      for (int r = 0; r < n; r++)
        for (int b = 0; b < last - first; b++) {
          const float* pair = wide + (size_t)r * width + b * 32;
          f32x16 v = silu16(load_f32(pair)) * load_f32(pair + 16);
          store_pairs(inner_rows + (size_t)(first + b) * 8 * c.ld + r, c.ld, v);
        }
    });

    for (auto& one : low) one.ready = false;
    job.phase(phase + 5, t, h / 16, out_grain, [&](int first, int last) {
      int width = (last - first) * 16;
      product(layer.down.panel(first), (size_t)layer.down.pairs * 32, last - first, inner_rows,
              c.ld, n, layer.down.pairs, wide, width);
      adapt(c, layer.adapters[DOWN], low[0], inner_rows, first, last - first, wide, width);
      add_to_residual(first, last);
    });
  }
  job.phase(m.layers * PHASES_PER_LAYER, t, n, m.team.grain(n), [&](int first, int last) {
    for (int r = first; r < last; r++)
      rms_norm(residual + (size_t)r * h, m.final_norm.data(), h, m.epsilon, hidden_out + (size_t)r * h);
  });
}

std::vector<float> copy(const float* source, size_t n) {
  return source ? std::vector<float>(source, source + n) : std::vector<float>();
}

struct TopScratch {
  std::vector<float> most, sorted;
  std::vector<std::pair<float, int32_t>> found;
};

bool before(const std::pair<float, int32_t>& a, const std::pair<float, int32_t>& b) {
  return a.first > b.first || (a.first == b.first && a.second < b.second);
}

// The `count` largest of a row, largest first, ties by lower id; see pass_top.
bool top_of_row(const float* row, int vocabulary, int count, int64_t* ids, float* values, TopScratch& scratch) {
  constexpr int BLOCK = 128;
  int blocks = vocabulary / BLOCK;
  auto& most = scratch.most;
  most.resize(blocks);
  for (int b = 0; b < blocks; b++) {
    f32x16 top = load_f32(row + b * BLOCK);
    for (int i = 16; i < BLOCK; i += 16) {
      f32x16 v = load_f32(row + b * BLOCK + i);
      top = v > top ? v : top;
    }
    float best = top[0];
    for (int i = 1; i < 16; i++) best = top[i] > best ? top[i] : best;
    most[b] = best;
  }
  // At least `count` numbers reach the count-th largest maximum: whatever is below cannot be among the largest.
  auto& sorted = scratch.sorted;
  sorted = most;
  std::nth_element(sorted.begin(), sorted.begin() + count - 1, sorted.end(), std::greater<float>());
  float least = sorted[count - 1];
  auto& found = scratch.found;
  found.clear();
  for (int b = 0; b < blocks; b++) {
    if (!(most[b] >= least)) continue;
    for (int i = b * BLOCK; i < (b + 1) * BLOCK; i += 16) {
      auto reach = load_f32(row + i) >= least;
      bool any = false;
      for (int j = 0; j < 16; j++) any |= reach[j] != 0;
      if (any)
        for (int j = i; j < i + 16; j++)
          if (row[j] >= least) found.push_back({row[j], j});
    }
  }
  if ((int)found.size() < count) return false;
  std::partial_sort(found.begin(), found.begin() + count, found.end(), before);
  for (int i = 0; i < count; i++) {
    values[i] = found[i].first;
    ids[i] = found[i].second;
  }
  return true;
}

}  // namespace

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
  int width = (rank + 15) / 16 * 16;
  if (!a.down.reserve(width, inputs) || !a.up.reserve(outputs, width)) return 1;
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
      product(m.head.panel(first), (size_t)m.head.pairs * 32, last - first, x, ld, rows,
              m.head.pairs, logits + (size_t)first * 16, width);
    });
  });
  return 0;
}

// The `count` largest of each row logits[which[r] * stride ..] of `vocabulary` (a multiple of 128, at least 128 times
// `count`), largest first, ties by lower id. Returns 1 where a row has not that many comparable numbers (NaN).
int pass_top(const float* logits, int64_t stride, const int32_t* which, int rows, int vocabulary, int count,
             int64_t* ids, float* values) {
  TopScratch scratch;
  for (int r = 0; r < rows; r++)
    if (!top_of_row(logits + (int64_t)which[r] * stride, vocabulary, count, ids + (size_t)r * count,
                    values + (size_t)r * count, scratch))
      return 1;
  return 0;
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

// The coherent-draft head: z = silu(W_in [rms(h); rms(e)] + step), h' = h + W_out z.
struct Sampler {
  int hidden, inner, steps;
  Packed from_hidden, from_token, out;
  std::vector<float> step;
  Buffer in_rows, inner_rows, state_rows, wide, prepared;
};

// from_hidden, from_token: bfloat16 [inner, hidden]; out: bfloat16 [hidden, inner]; step: float32 [steps, inner].
void* pass_sampler_new(int hidden, int inner, int steps, const uint16_t* from_hidden, const uint16_t* from_token,
                       const uint16_t* out, const float* step) {
  Sampler* s = new (std::nothrow) Sampler();
  if (!s) return nullptr;
  s->hidden = hidden;
  s->inner = inner;
  s->steps = steps;
  if (!s->from_hidden.reserve(inner, hidden) || !s->from_token.reserve(inner, hidden) ||
      !s->out.reserve(hidden, inner)) {
    delete s;
    return nullptr;
  }
  s->from_hidden.put(from_hidden, inner);
  s->from_token.put(from_token, inner);
  s->out.put(out, hidden);
  s->step = copy(step, (size_t)steps * inner);
  return s;
}

void pass_sampler_free(void* sampler) { delete (Sampler*)sampler; }

namespace {
void rms_rows(const float* x, int rows, int n, uint16_t* out) {
  for (int r = 0; r < rows; r++) {
    float total = 0;
    for (int i = 0; i < n; i++) total += x[(size_t)r * n + i] * x[(size_t)r * n + i];
    float scale = 1.0f / std::sqrt(total / n + 1e-6f);
    for (int i = 0; i < n; i++) out[(size_t)r * n + i] = to_bf16(x[(size_t)r * n + i] * scale);
  }
}
}  // namespace

// prepared: float32 [rows, inner]: what depends on the look-ahead state and step alone.
int pass_sampler_prepare(void* model, void* sampler, const float* states, const int32_t* steps, int rows,
                         float* prepared) {
  Team& team = ((Model*)model)->team;
  Sampler& s = *(Sampler*)sampler;
  if (!s.in_rows.reserve((size_t)rows * s.hidden * 2)) return 1;
  uint16_t* x = s.in_rows.as<uint16_t>();
  rms_rows(states, rows, s.hidden, x);
  std::vector<int32_t> which(steps, steps + rows);
  team.run(1, [&s, &team, x, which, rows, prepared](Job& job, int t) {
    job.phase(0, t, s.from_hidden.panels, team.grain(s.from_hidden.panels), [&](int first, int last) {
      product_rows(s.from_hidden.panel(first), (size_t)s.from_hidden.pairs * 32, last - first, (const uint32_t*)x,
              s.hidden / 2, rows, s.from_hidden.pairs, prepared + first * 16, s.inner);
      for (int r = 0; r < rows; r++)
        for (int i = first * 16; i < last * 16; i++)
          prepared[(size_t)r * s.inner + i] += s.step[(size_t)which[r] * s.inner + i];
    });
  });
  return 0;
}

namespace {
// One evaluation of the head: scores of `count` candidates for each of `rows` tokens that may stand before.
struct Scoring {
  Sampler& s;
  const uint16_t *x, *head;  // [rows, hidden] normalised embeddings of the tokens before; output embeddings
  uint16_t *z, *y;
  float *wide, *corrected;
  const float *state, *prepared;
  const int64_t* ids;
  int rows, count;
  float* scores;

  void inner(int first, int last) const {
    int h = s.hidden, n = s.inner;
    product_rows(s.from_token.panel(first), (size_t)s.from_token.pairs * 32, last - first, (const uint32_t*)x, h / 2,
                 rows, s.from_token.pairs, wide + first * 16, n);
    for (int r = 0; r < rows; r++)
      for (int i = first * 16; i < last * 16; i += 16)
        store_bf16(z + (size_t)r * n + i, silu16(load_f32(wide + (size_t)r * n + i) + load_f32(prepared + i)));
  }
  void outer(int first, int last) const {
    int h = s.hidden, n = s.inner;
    product_rows(s.out.panel(first), (size_t)s.out.pairs * 32, last - first, (const uint32_t*)z, n / 2, rows,
                 s.out.pairs, corrected + first * 16, h);
    for (int r = 0; r < rows; r++)
      for (int i = first * 16; i < last * 16; i += 16)
        store_bf16(y + (size_t)r * h + i, load_f32(state + i) + load_f32(corrected + (size_t)r * h + i));
  }
  void score(int first, int last) const {
    int h = s.hidden;
    for (int c = first; c < last; c++) {
      const uint32_t* w = (const uint32_t*)(head + (size_t)ids[c] * h);
      for (int r = 0; r < rows; r++) {
        const uint32_t* state_row = (const uint32_t*)(y + (size_t)r * h);
        f32x16 sum{};
        for (int i = 0; i < h / 2; i += 16) {
          u32x16 a = load_u32(w + i), b = load_u32(state_row + i);
          sum += (f32x16)(a << 16) * (f32x16)(b << 16);
          sum += (f32x16)(a & 0xffff0000u) * (f32x16)(b & 0xffff0000u);
        }
        float total = 0;
        for (int i = 0; i < 16; i++) total += sum[i];
        scores[(size_t)r * count + c] = total;
      }
    }
  }
};

// Room for `rows` tokens; null without memory.
std::shared_ptr<Scoring> scoring(Sampler& s, const uint16_t* head, int rows) {
  int h = s.hidden, n = s.inner;
  if (!s.in_rows.reserve((size_t)rows * h * 2) || !s.inner_rows.reserve((size_t)rows * n * 2) ||
      !s.state_rows.reserve((size_t)rows * h * 2) || !s.wide.reserve((size_t)rows * (n + h) * 4))
    return nullptr;
  float* wide = s.wide.as<float>();
  return std::make_shared<Scoring>(Scoring{s, s.in_rows.as<uint16_t>(), head, s.inner_rows.as<uint16_t>(),
                                           s.state_rows.as<uint16_t>(), wide, wide + (size_t)rows * n, nullptr, nullptr,
                                           nullptr, rows, 0, nullptr});
}

void embed(const Sampler& s, const uint16_t* table, int64_t token, uint16_t* out) {
  std::vector<float> wide(s.hidden);
  for (int i = 0; i < s.hidden; i++) wide[i] = from_bf16(table[(size_t)token * s.hidden + i]);
  rms_rows(wide.data(), 1, s.hidden, out);
}
}  // namespace

// Logits of the candidates `ids` for each token that may stand before: float32 [rows, count].
// table: bfloat16 [vocabulary, hidden] input embeddings; head: bfloat16 [vocabulary, hidden] output embeddings.
int pass_sampler_score(void* model, void* sampler, const float* state, const float* prepared, const uint16_t* table,
                       const uint16_t* head, const int64_t* tokens, int rows, const int64_t* ids, int count,
                       float* scores) {
  Team& team = ((Model*)model)->team;
  Sampler& s = *(Sampler*)sampler;
  auto work = scoring(s, head, rows);
  if (!work) return 1;
  work->state = state;
  work->prepared = prepared;
  work->ids = ids;
  work->count = count;
  work->scores = scores;
  for (int r = 0; r < rows; r++) embed(s, table, tokens[r], s.in_rows.as<uint16_t>() + (size_t)r * s.hidden);
  int inner_panels = s.from_token.panels, outer_panels = s.out.panels;
  team.run(3, [=, &team](Job& job, int t) {
    job.phase(0, t, inner_panels, team.grain(inner_panels), [&](int a, int b) { work->inner(a, b); });
    job.phase(1, t, outer_panels, team.grain(outer_panels), [&](int a, int b) { work->outer(a, b); });
    job.phase(2, t, count, team.grain(count), [&](int a, int b) { work->score(a, b); });
  });
  return 0;
}

// What a tree of drafts is grown from; see pass_core/runtime/native/grower.py.
struct PassGrowth {
  uint64_t noise;  // hash of seed and stream
  int64_t position, root;
  double temperature, spread, least, unlikely;
  int32_t depth, kept, candidates, branches, width, limit, noisy;
};

namespace {
inline uint64_t mix(uint64_t h) {  // as pass_core/noise.py has it
  h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9ull;
  h = (h ^ (h >> 27)) * 0x94D049BB133111EBull;
  return h ^ (h >> 31);
}

inline double gumbel(uint64_t noise, int64_t position, int64_t token) {
  uint64_t h = mix(mix(noise ^ ((uint64_t)position * 0xD1B54A32D192ED03ull)) ^ ((uint64_t)token * 0x8CB92BA72F3D8DD7ull));
  return -std::log(-std::log(((double)(h >> 12) + 0.5) * 0x1p-52));
}

struct Growth {
  PassGrowth g;
  struct Node {
    int64_t token;
    int32_t parent, depth, from;
    double reach;
  };
  const double* shares;
  std::vector<Node> nodes;
  std::vector<int> beam;         // of the level above, -1 for the root
  std::vector<int64_t> ids;      // [depth, candidates] of the plain look-ahead logits
  std::vector<float> values;     // the same candidates' plain logits
  std::vector<float> rescored;   // [width, candidates] of the present level
  std::vector<int64_t> from_ids;    // [distribution, kept]
  std::vector<double> from_log_p;
  std::atomic<int> ended{0};  // levels from here on are not grown
  std::atomic<bool> failed{false};

  double reach(int node) const { return node < 0 ? 1.0 : nodes[node].reach; }
  int64_t token(int node) const { return node < 0 ? g.root : nodes[node].token; }

  // The best `branches` candidates below each node of the beam, then the next beam.
  void level(int d, bool coherent) {
    std::vector<std::pair<float, int32_t>> order(g.candidates);
    std::vector<std::pair<double, int>> drawn(g.kept);
    size_t first = nodes.size();
    const int64_t* plain = ids.data() + (size_t)d * g.candidates;
    for (size_t b = 0; b < beam.size(); b++) {
      const float* scores = coherent ? rescored.data() + b * g.candidates : values.data() + (size_t)d * g.candidates;
      for (int c = 0; c < g.candidates; c++) order[c] = {scores[c], (int32_t)plain[c]};
      std::partial_sort(order.begin(), order.begin() + g.kept, order.end(), before);
      double total = 0.0, temperature = std::max(g.temperature, 1e-30);
      size_t at = from_ids.size();
      for (int c = 0; c < g.kept; c++) {
        double x = ((double)order[c].first - (double)order[0].first) / temperature;
        from_ids.push_back(order[c].second);
        from_log_p.push_back(x);
        total += std::exp(x);
      }
      double shift = std::log(total);
      for (int c = 0; c < g.kept; c++) {
        double& log_p = from_log_p[at + c];
        log_p -= shift;
        drawn[c] = {log_p + (g.noisy ? gumbel(g.noise, g.position + d, from_ids[at + c]) : 0.0), c};
      }
      int count = std::min(g.branches, g.kept);
      std::stable_sort(drawn.begin(), drawn.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
      double weights = 0.0;
      for (int c = 0; c < count; c++) weights += std::exp((drawn[c].first - drawn[0].first) / g.spread);
      double share = std::min(1.0, shares[d]) / weights * reach(beam[b]);
      for (int c = 0; c < count; c++) {
        double reached = share * std::exp((drawn[c].first - drawn[0].first) / g.spread);
        if (reached < g.least) break;
        nodes.push_back({from_ids[at + drawn[c].second], beam[b], d + 1, (int32_t)(at / g.kept), reached});
      }
    }
    std::vector<int> added(nodes.size() - first);
    for (size_t i = 0; i < added.size(); i++) added[i] = (int)(first + i);
    std::stable_sort(added.begin(), added.end(), [&](int a, int b) { return nodes[a].reach > nodes[b].reach; });
    added.resize(std::min(added.size(), (size_t)g.width));
    beam = added;
    double all = 0.0;
    for (int node : beam) all += nodes[node].reach;
    if (beam.empty() || all < g.unlikely) ended = d + 1;
  }
};
}  // namespace

// Grow a tree of drafts, level by level, from the look-ahead rows at[0..depth-1] of one call: `states` float32
// [rows, hidden], `logits` [rows, stride], `steps` their look-ahead steps. The best `limit` drafts come out by falling
// reach, parents (-1: the root) first; from[i] is the distribution, of kept ids and log probabilities each, that draft i
// was drawn from. sampler may be null. Returns the number of drafts, -1 without memory, -2 for logits that do not compare.
int pass_grow(void* model, void* sampler, const PassGrowth* request, const float* states, const float* logits,
              int64_t stride, const int32_t* at, const int32_t* steps, const double* shares, const uint16_t* table,
              const uint16_t* head, int64_t* tokens, int32_t* parents, int32_t* depths, int32_t* from, double* reaches,
              int64_t* ids, double* log_p) {
  Model& m = *(Model*)model;
  Sampler* s = (Sampler*)sampler;
  Team& team = m.team;
  auto growth = std::make_shared<Growth>();
  Growth& grown = *growth;
  grown.g = *request;
  grown.shares = shares;
  const PassGrowth g = *request;
  grown.ended = g.depth;
  grown.beam = {-1};
  grown.ids.resize((size_t)g.depth * g.candidates);
  grown.values.resize((size_t)g.depth * g.candidates);
  grown.rescored.resize((size_t)g.width * g.candidates);
  std::shared_ptr<Scoring> work;
  float* prepared = nullptr;
  if (s) {
    work = scoring(*s, head, g.width);
    if (!work || !s->prepared.reserve((size_t)g.depth * s->inner * 4 + (size_t)g.depth * s->hidden * 2)) return -1;
    prepared = s->prepared.as<float>();
    uint16_t* x = (uint16_t*)(prepared + (size_t)g.depth * s->inner);
    for (int d = 0; d < g.depth; d++) rms_rows(states + (size_t)at[d] * s->hidden, 1, s->hidden, x + (size_t)d * s->hidden);
    work->count = g.candidates;
    work->scores = grown.rescored.data();
    work->rows = 1;
    embed(*s, table, g.root, s->in_rows.as<uint16_t>());
  }
  int vocabulary = m.vocabulary, inner_panels = s ? s->from_token.panels : 0, outer_panels = s ? s->out.panels : 0;
  team.run(2 + 4 * g.depth, [=, &team](Job& job, int t) {
    job.phase(0, t, g.depth, 1, [&](int d, int) {
      TopScratch scratch;
      size_t row = (size_t)d * g.candidates;
      if (!top_of_row(logits + (int64_t)at[d] * stride, vocabulary, g.candidates, &growth->ids[row], &growth->values[row],
                      scratch))
        growth->failed = true;
    });
    job.phase(1, t, inner_panels, team.grain(std::max(1, inner_panels)), [&](int a, int b) {
      const uint16_t* x = (const uint16_t*)(prepared + (size_t)g.depth * s->inner);
      product_rows(s->from_hidden.panel(a), (size_t)s->from_hidden.pairs * 32, b - a, (const uint32_t*)x, s->hidden / 2,
                   g.depth, s->from_hidden.pairs, prepared + a * 16, s->inner);
      for (int d = 0; d < g.depth; d++)
        for (int i = a * 16; i < b * 16; i++)
          prepared[(size_t)d * s->inner + i] += s->step[(size_t)steps[d] * s->inner + i];
    });
    for (int d = 0; d < g.depth; d++) {
      // What one chunk wrote is seen by all once the phase is over; a level that is not grown has no chunks.
      bool grows = d < growth->ended && !growth->failed;
      int inner = grows ? inner_panels : 0, outer = grows ? outer_panels : 0, scored = grows && s ? g.candidates : 0;
      int phase = 2 + 4 * d;
      job.phase(phase, t, inner, team.grain(std::max(1, inner_panels)), [&](int a, int b) {
        Scoring level = *work;
        level.prepared = prepared + (size_t)d * s->inner;
        level.inner(a, b);
      });
      job.phase(phase + 1, t, outer, team.grain(std::max(1, outer_panels)), [&](int a, int b) {
        Scoring level = *work;
        level.state = states + (size_t)at[d] * s->hidden;
        level.outer(a, b);
      });
      job.phase(phase + 2, t, scored, team.grain(g.candidates), [&](int a, int b) {
        Scoring level = *work;
        level.ids = &growth->ids[(size_t)d * g.candidates];
        level.score(a, b);
      });
      job.phase(phase + 3, t, grows ? 1 : 0, 1, [&](int, int) {
        growth->level(d, s != nullptr);
        if (!s) return;
        work->rows = (int)growth->beam.size();
        for (int b = 0; b < work->rows; b++)
          embed(*s, table, growth->token(growth->beam[b]), s->in_rows.as<uint16_t>() + (size_t)b * s->hidden);
      });
    }
  });
  if (grown.failed) return -2;
  const auto& nodes = grown.nodes;
  std::vector<int> order(nodes.size()), place(nodes.size());
  for (size_t i = 0; i < order.size(); i++) order[i] = (int)i;
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return nodes[a].reach > nodes[b].reach || (nodes[a].reach == nodes[b].reach && nodes[a].depth < nodes[b].depth);
  });
  int count = std::min((int)order.size(), (int)g.limit);
  for (int i = 0; i < count; i++) {
    const auto& node = nodes[order[i]];
    place[order[i]] = i;
    tokens[i] = node.token;
    parents[i] = node.parent < 0 ? -1 : place[node.parent];
    depths[i] = node.depth;
    from[i] = node.from;
    reaches[i] = node.reach;
  }
  std::copy(grown.from_ids.begin(), grown.from_ids.end(), ids);
  std::copy(grown.from_log_p.begin(), grown.from_log_p.end(), log_p);
  return count;
}

// The best shape of a call, as pass_core/decoding/budget.py has it: how many of the drafts are verified, and how many
// look-ahead rows the root and each of them carry (chains: [drafts + 1]). seconds: [rows_limit + 1], in tokens.
int pass_plan(const double* reaches, const int32_t* parents, int drafts, const double* gains, int steps, int rows_limit,
              const double* seconds, double future, int patience, const int32_t* counts, int tried, int32_t* chains) {
  std::vector<double> stops;
  std::vector<std::pair<double, int>> worth;
  std::vector<int> lengths(drafts + 1);
  double best = -INFINITY;
  int chosen = 0, falling = 0;
  chains[0] = 0;
  for (int turn = 0; turn < tried; turn++) {
    int n = counts[turn];
    stops.assign(n + 1, 0.0);
    stops[0] = 1.0;
    double value = 1.0;
    for (int i = 0; i < n; i++) {
      stops[i + 1] += reaches[i];
      stops[parents[i] + 1] -= reaches[i];
      value += reaches[i];
    }
    worth.clear();
    for (int i = 0; i <= n; i++)
      for (int j = 0; j < steps; j++) worth.push_back({std::max(stops[i], 0.0) * gains[j], i});
    int room = std::max(0, std::min((int)worth.size(), rows_limit - 1 - n));
    // By falling worth, earlier nodes and steps first: a row never stands before the one above it in its chain.
    std::stable_sort(worth.begin(), worth.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    double most = value - seconds[1 + n], later = 0.0;
    int taken = 0;
    for (int i = 0; i < room; i++) {
      later += worth[i].first;
      double with = value - seconds[2 + n + i] + future * later;
      if (with > most) {
        most = with;
        taken = i + 1;
      }
    }
    falling = most <= best ? falling + 1 : 0;
    if (falling == patience) break;
    if (most > best) {
      best = most;
      chosen = n;
      std::fill(lengths.begin(), lengths.end(), 0);
      for (int i = 0; i < taken && worth[i].first > 0.0; i++) lengths[worth[i].second]++;
      std::copy(lengths.begin(), lengths.begin() + n + 1, chains);
    }
  }
  return chosen;
}
}
