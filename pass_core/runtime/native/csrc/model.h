// A Llama-shaped decoder's weights and working memory.
#pragma once

#include "attention.h"
#include "matrix.h"
#include "team.h"

namespace {

struct Adapter {  // y += up (down x), for look-ahead rows
  Matrix down, up;
};

enum Linear { Q, K, V, O, GATE, UP, DOWN, LINEARS };

struct Layer {
  Matrix qkv, output, gate_up, down;  // gate and up panels alternate
  std::vector<float> input_norm, post_norm, qkv_bias, q_norm, k_norm;
  Adapter adapters[LINEARS];
};

struct Model {
  int hidden, layers, heads, kv_heads, head_dim, inner, vocabulary;
  int cache_format;  // of KV cache and adapters: BF16 or F32
  int bits;          // of integer rows: 8 or 16
  float epsilon;
  Arena arena;
  Team team;
  std::vector<Layer> blocks;
  std::vector<float> final_norm, deep, lookahead;
  const void* table = nullptr;  // input embeddings, the caller's
  int table_format = pass::BF16;
  int lookahead_steps = 0;
  Matrix lm_head;
  Buffer residual, queries, attended, inner_rows, logits_in;
  std::vector<Buffer> scratch;
  Model(int threads) : team(threads), scratch(threads) {}

  Form form(const Matrix& weights) const { return pass::form_of(weights.format, bits); }
  Form own_form() const { return pass::form_of(cache_format, bits); }  // of queries and adapters
  // Forms that a linear layer's input is needed in.
  unsigned needs(const Matrix& weights, bool adapted) const {
    return bit(form(weights)) | (adapted ? bit(own_form()) : 0u);
  }
};

inline std::vector<float> copy(const float* source, size_t n) {
  return source ? std::vector<float>(source, source + n) : std::vector<float>();
}

}  // namespace
