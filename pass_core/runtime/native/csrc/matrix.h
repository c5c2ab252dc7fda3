// Weight matrices, packed in panels of 16 outputs from the rows that files hold.
#pragma once

#include "activations.h"
#include "memory.h"

namespace {

using pass::Format;
using pass::Panels;

inline float from_half(uint16_t bits) {
  uint32_t sign = (uint32_t)(bits & 0x8000) << 16, rest = bits & 0x7fff, out;
  if (rest >= 0x7c00)
    out = sign | 0x7f800000u | (rest & 0x3ff) << 13;
  else if (rest >= 0x400)
    out = sign | ((rest << 13) + (112u << 23));
  else {
    float small = (float)rest * 5.9604644775390625e-8f;  // 2^-24
    std::memcpy(&out, &small, 4);
    out |= sign;
  }
  float x;
  std::memcpy(&x, &out, 4);
  return x;
}
inline uint16_t half_at(const uint8_t* p) { return (uint16_t)(p[0] | p[1] << 8); }

// Bytes of a row of `inputs` weights in a file's order.
inline size_t row_bytes(int format, int inputs) {
  return format == pass::F32    ? (size_t)inputs * 4
         : format == pass::BF16 ? (size_t)inputs * 2
                                : (size_t)((inputs + BLOCK - 1) / BLOCK) * (format == pass::Q8_0 ? 34 : format == pass::Q4_0 ? 18 : 20);
}

// A row as float32, as GGUF defines the numbers of its blocks.
inline void wide_row(int format, const void* row, int inputs, float* out) {
  const uint8_t* at = (const uint8_t*)row;
  if (format == pass::F32) {
    std::memcpy(out, row, (size_t)inputs * 4);
  } else if (format == pass::BF16) {
    for (int i = 0; i < inputs; i++) out[i] = from_bf16(((const uint16_t*)row)[i]);
  } else {
    size_t bytes = row_bytes(format, BLOCK);
    for (int b = 0; b < inputs / BLOCK; b++, at += bytes, out += BLOCK) {
      float scale = from_half(half_at(at)), least = format == pass::Q4_1 ? from_half(half_at(at + 2)) : 0.0f;
      const uint8_t* codes = at + (format == pass::Q4_1 ? 4 : 2);
      for (int i = 0; i < BLOCK; i++)
        if (format == pass::Q8_0)
          out[i] = scale * (float)(int8_t)codes[i];
        else {
          int code = i < 16 ? codes[i] & 15 : codes[i - 16] >> 4;
          out[i] = format == pass::Q4_0 ? scale * (float)(code - 8) : scale * (float)code + least;
        }
    }
  }
}

// Rows of float32 as Q8_0 blocks: scale = largest / 127 as float16, codes rounded to nearest, as ggml's
// quantize_row_q8_0 has it (the codes are of the scale before its rounding).
inline uint16_t to_half(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  uint32_t sign = bits >> 16 & 0x8000u;
  int exponent = (int)(bits >> 23 & 0xff) - 112;
  uint32_t mantissa = bits & 0x7fffffu;
  if (exponent >= 31) return (uint16_t)(sign | 0x7c00u);
  if (exponent <= 0) {
    if (exponent < -10) return (uint16_t)sign;
    mantissa |= 0x800000u;
    int shift = 14 - exponent;
    uint32_t half = mantissa >> shift, rest = mantissa & ((1u << shift) - 1), middle = 1u << (shift - 1);
    return (uint16_t)(sign | (half + (rest > middle || (rest == middle && (half & 1)))));
  }
  uint32_t half = (uint32_t)exponent << 10 | mantissa >> 13, rest = mantissa & 0x1fffu;
  return (uint16_t)(sign | (half + (rest > 0x1000u || (rest == 0x1000u && (half & 1)))));
}
inline void quantise_q8(const float* x, int inputs, uint8_t* out) {
  for (int b = 0; b < inputs / BLOCK; b++, x += BLOCK, out += 34) {
    float most = 0;
    for (int i = 0; i < BLOCK; i++) most = std::max(most, std::fabs(x[i]));
    float scale = most / 127.0f, inverse = scale > 0 ? 1.0f / scale : 0.0f;
    uint16_t half = to_half(scale);
    out[0] = (uint8_t)half;
    out[1] = (uint8_t)(half >> 8);
    for (int i = 0; i < BLOCK; i++) out[2 + i] = (uint8_t)(int8_t)std::lround(x[i] * inverse);
  }
}

struct Matrix {
  Buffer memory;
  int format = pass::BF16, outputs = 0, inputs = 0, panels = 0, steps = 0;
  size_t stride = 0;  // bytes of a panel

  bool empty() const { return panels == 0; }
  bool reserve(int kind, int out, int in, Arena* arena = nullptr) {
    format = kind;
    outputs = out;
    inputs = in;
    panels = (out + 15) / 16;
    int unit = pass::inputs_a_step(kind);
    steps = (in + unit - 1) / unit;
    stride = steps * pass::record_bytes(kind);
    return memory.reserve(panels * stride, arena);
  }
  Panels run(int first, int count) const { return {memory.as<char>() + first * stride, stride, count, steps}; }

  // Copy rows in a file's order into outputs first .. first + rows - 1.
  void put(const void* source, int rows, int first = 0) {
    size_t bytes = row_bytes(format, inputs);
    for (int r = 0; r < rows; r++) {
      int o = first + r;
      put_row((const uint8_t*)source + r * bytes, memory.as<uint8_t>() + (size_t)(o / 16) * stride, o % 16);
    }
  }
  // Take the outputs `ids` of another matrix: this one's inputs and format are its own. False without memory.
  bool gather(const Matrix& from, const int32_t* ids, int count) {
    if (!reserve(from.format, count, from.inputs)) return false;
    std::memset(memory.data, 0, memory.bytes);
    size_t record = pass::record_bytes(format), codes = record / 64 * 64;  // lines of 16 outputs by 4 bytes, then by 2
    if (record - codes == 0 && format != pass::F32 && format != pass::BF16) codes -= 64;  // scales and minima: 2 x 32
    for (int o = 0; o < count; o++) {
      const char* source = from.memory.as<char>() + (size_t)(ids[o] / 16) * from.stride;
      char* target = memory.as<char>() + (size_t)(o / 16) * stride;
      int a = ids[o] % 16, b = o % 16;
      for (int s = 0; s < steps; s++, source += record, target += record) {
        for (size_t line = 0; line < codes; line += 64) std::memcpy(target + line + b * 4, source + line + a * 4, 4);
        for (size_t line = codes; line < record; line += 32) std::memcpy(target + line + b * 2, source + line + a * 2, 2);
      }
    }
    return true;
  }

 private:
  void put_row(const uint8_t* row, uint8_t* panel, int o) const {
    if (format == pass::F32) {
      for (int i = 0; i < inputs; i++) ((uint32_t*)panel)[(size_t)i * 16 + o] = ((const uint32_t*)row)[i];
      return;
    }
    if (format == pass::BF16) {
      uint16_t* out = (uint16_t*)panel + o * 2;
      for (int i = 0; i < inputs; i++) out[(size_t)(i / 2) * 32 + (i & 1)] = ((const uint16_t*)row)[i];
      return;
    }
    size_t bytes = row_bytes(format, BLOCK), record = pass::record_bytes(format);
    for (int b = 0; b < steps; b++, row += bytes, panel += record) {
      size_t codes = format == pass::Q8_0 ? 512 : 256;
      std::memcpy(panel + codes + o * 2, row, 2);
      if (format == pass::Q8_0) {
        for (int i = 0; i < BLOCK; i++) panel[i / 4 * 64 + o * 4 + i % 4] = row[2 + i] ^ 0x80;
        continue;
      }
      const uint8_t* nibbles = row + (format == pass::Q4_1 ? 4 : 2);
      if (format == pass::Q4_1) std::memcpy(panel + codes + 32 + o * 2, row + 2, 2);
      auto code = [&](int i) { return i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4; };
      for (int i = 0; i < BLOCK; i += 8)
        for (int j = 0; j < 4; j++) panel[i / 8 * 64 + o * 4 + j] = (uint8_t)(code(i + j) | code(i + 4 + j) << 4);
    }
  }
};

}  // namespace
