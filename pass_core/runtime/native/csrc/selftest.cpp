// A program that tries the products of this instruction set: each format against a plain sum in float64, and each row alone
// against the same row in company, bit for bit. Ends with 0 where all is right.
//
//   selftest          the tests
//   selftest --speed  GMAC/s of one thread on weights that stay in its caches, for 1 to 24 rows

#include <cstdio>
#include <ctime>
#include <random>

#include "matrix.h"

#define PASS_TEXT(x) #x
#define PASS_AS_TEXT(x) PASS_TEXT(x)

namespace {

const char* NAMES[] = {"F32", "BF16", "Q8_0", "Q4_0", "Q4_1"};
const char* FORMS[] = {"float32", "bfloat16", "8 bits", "16 bits"};
int failures = 0;

void check(bool right, const char* what, int format, int form, int rows) {
  if (right) return;
  failures++;
  std::printf("FAILED: %s, %s weights, %s rows, %d rows\n", what, NAMES[format], FORMS[form], rows);
}

// Random rows in a format's file order, and the same numbers as float32.
std::vector<uint8_t> random_rows(int format, int outputs, int inputs, std::vector<float>& wide, std::mt19937& random) {
  std::normal_distribution<float> normal(0.0f, 0.05f);
  size_t bytes = row_bytes(format, inputs);
  std::vector<uint8_t> rows(outputs * bytes);
  if (format == pass::F32) {
    for (size_t i = 0; i < rows.size() / 4; i++) ((float*)rows.data())[i] = normal(random);
  } else if (format == pass::BF16) {
    for (size_t i = 0; i < rows.size() / 2; i++) ((uint16_t*)rows.data())[i] = to_bf16(normal(random));
  } else {
    size_t block = row_bytes(format, BLOCK);
    for (auto& byte : rows) byte = (uint8_t)random();
    for (size_t at = 0; at < rows.size(); at += block) {
      uint16_t scale = to_half(0.001f * (1 + random() % 1000)), least = to_half(-0.001f * (random() % 1000));
      std::memcpy(&rows[at], &scale, 2);
      if (format == pass::Q4_1) std::memcpy(&rows[at + 2], &least, 2);
    }
  }
  wide.resize((size_t)outputs * inputs);
  for (int o = 0; o < outputs; o++) wide_row(format, &rows[o * bytes], inputs, &wide[(size_t)o * inputs]);
  return rows;
}

// What the product sees of a row: rounded to bfloat16, or to the integers of each block.
std::vector<double> seen(const Activations& x, Form form, int row) {
  std::vector<double> out(x.inputs);
  const uint32_t* words = x.of[form] + row;
  auto number = [](uint32_t word) {
    float f;
    std::memcpy(&f, &word, 4);
    return f;
  };
  for (int i = 0; i < x.inputs; i++) {
    int b = i / BLOCK, j = i % BLOCK;
    if (form == pass::FLOATS) out[i] = number(words[i * x.ld]);
    if (form == pass::PAIRS) out[i] = from_bf16((uint16_t)(words[i / 2 * x.ld] >> (i & 1) * 16));
    if (form == pass::BYTES) {
      const uint32_t* block = words + (size_t)b * pass::BYTES_RECORD * x.ld;
      out[i] = (double)(int8_t)(block[j / 4 * x.ld] >> j % 4 * 8) * number(block[8 * x.ld]);
    }
    if (form == pass::WORDS) {
      const uint32_t* block = words + (size_t)b * pass::WORDS_RECORD * x.ld;
      int eight = j / 8, k = j % 8, word = eight * 4 + k / 4 * 2 + (k & 1);
      out[i] = (double)(int16_t)(block[word * x.ld] >> (k % 4 / 2) * 16) * number(block[16 * x.ld]);
    }
  }
  return out;
}

void place(Activations& x, Buffer& memory, int inputs, int rows, Form form, const std::vector<float>& values, int first) {
  size_t ld = word_stride(rows);
  memory.reserve(Activations::bytes(inputs, ld, bit(form)));
  x.place(memory.data, inputs, ld, bit(form));
  for (int r = 0; r < rows; r++) x.put(r, 0, &values[(size_t)(first + r) * inputs], inputs);
}

void test(int format, int bits, int outputs, int inputs, std::mt19937& random) {
  constexpr int MOST = 29;
  Form form = pass::form_of(format, bits);
  std::vector<float> wide, values((size_t)MOST * inputs);
  auto rows = random_rows(format, outputs, inputs, wide, random);
  std::normal_distribution<float> normal;
  for (auto& v : values) v = normal(random) * (random() % 50 == 0 ? 30.0f : 1.0f);
  Matrix weights;
  weights.reserve(format, outputs, inputs);
  weights.put(rows.data(), outputs);
  int width = weights.panels * 16;
  std::vector<float> alone((size_t)MOST * width), out((size_t)MOST * width);
  Buffer memory;
  Activations x;
  for (int r = 0; r < MOST; r++) {
    place(x, memory, inputs, 1, form, values, r);
    pass::product(format, form, pass::ONCE, weights.run(0, weights.panels), x.of[form], x.ld, 1, &alone[(size_t)r * width],
                  width);
    auto row = seen(x, form, 0);
    double most = 0;
    for (int i = 0; i < inputs; i++) {  // what the product sees is the row, but for rounding
      int b = i / BLOCK * BLOCK;
      float largest = 0;
      for (int j = b; j < std::min(inputs, b + BLOCK); j++) largest = std::max(largest, std::fabs(values[(size_t)r * inputs + j]));
      // Half a step, and what float32 loses of numbers of up to 15 bits before they are rounded.
      double step = form == pass::FLOATS  ? 0
                    : form == pass::PAIRS ? largest / 256
                    : form == pass::BYTES ? largest / 254 * 1.001
                                          : largest / 65534 * 1.01;
      most = std::max(most, std::fabs(row[i] - values[(size_t)r * inputs + i]) - step);
    }
    check(most <= 0, "a row is not what it was", format, form, r);
    for (int o = 0; o < outputs; o++) {
      double sum = 0, size = 0;
      for (int i = 0; i < inputs; i++) {
        double term = row[i] * wide[(size_t)o * inputs + i];
        sum += term;
        size += std::fabs(term);
      }
      // One rounding of float32 for each step of the sum, and of the terms where weight or minimum and scale meet; a
      // block's terms of scale and minimum are larger than the products that they come from.
      double bound = (inputs + 8) * 6e-8 * size + (format == pass::Q4_1 ? 16 : 1) * 1e-6 * size + 1e-6;
      check(std::fabs(sum - alone[(size_t)r * width + o]) <= bound, "a product is wrong", format, form, r);
    }
  }
  for (int n = 1; n <= MOST; n++) {
    place(x, memory, inputs, n, form, values, 0);
    for (pass::Reuse reuse : {pass::ONCE, pass::AGAIN}) {
      std::fill(out.begin(), out.end(), 0.0f);
      // In two runs of panels, as chunks of a phase take them.
      int turn = weights.panels / 2;
      pass::product(format, form, reuse, weights.run(0, turn), x.of[form], x.ld, n, out.data(), width);
      pass::product(format, form, reuse, weights.run(turn, weights.panels - turn), x.of[form], x.ld, n,
                    out.data() + turn * 16, width);
      check(!std::memcmp(out.data(), alone.data(), (size_t)n * width * 4), "company changes a row", format, form, n);
    }
  }
}

double processor_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec + 1e-9 * now.tv_nsec;
}

void speed(int format, int bits) {
  constexpr int OUTPUTS = 192, INPUTS = 576, MOST = 24;
  std::mt19937 random(1);
  Form form = pass::form_of(format, bits);
  std::vector<float> wide, values((size_t)MOST * INPUTS, 0.5f), out((size_t)MOST * OUTPUTS);
  auto rows = random_rows(format, OUTPUTS, INPUTS, wide, random);
  Matrix weights;
  weights.reserve(format, OUTPUTS, INPUTS);
  weights.put(rows.data(), OUTPUTS);
  std::printf("%-5s %-8s", NAMES[format], FORMS[form]);
  for (int n : {1, 2, 3, 4, 6, 8, 12, 16, 24}) {
    Buffer memory;
    Activations x;
    place(x, memory, INPUTS, n, form, values, 0);
    double best = 1e9;
    for (int turn = 0; turn < 12; turn++) {
      double begun = processor_seconds();
      for (int i = 0; i < 40; i++)
        pass::product(format, form, pass::ONCE, weights.run(0, weights.panels), x.of[form], x.ld, n, out.data(), OUTPUTS);
      best = std::min(best, (processor_seconds() - begun) / 40);
    }
    std::printf(" %7.1f", (double)n * OUTPUTS * INPUTS / best * 1e-9);
  }
  std::printf("\n");
}

}  // namespace

int main(int count, char** words) {
  std::printf("%s\n", PASS_AS_TEXT(PASS_ISA));
  if (count > 1 && !std::strcmp(words[1], "--speed")) {
    std::printf("GMAC/s of one thread  1       2       3       4       6       8      12      16      24 rows\n");
    for (int format = 0; format < pass::FORMATS; format++)
      for (int bits : {16, 8})
        if (bits == 16 || pass::form_of(format, 8) != pass::form_of(format, 16)) speed(format, bits);
    return 0;
  }
  std::mt19937 random(7);
  for (int format = 0; format < pass::FORMATS; format++)
    for (int bits : {16, 8}) {
      if (bits == 8 && pass::form_of(format, 8) == pass::form_of(format, 16)) continue;
      test(format, bits, 16 * 11, 96, random);
      test(format, bits, 16 * 3 + 5, 576, random);
      std::printf("%s weights, %s rows: tried\n", NAMES[format], FORMS[pass::form_of(format, bits)]);
    }
  std::printf(failures ? "%d failures\n" : "all right\n", failures);
  return failures != 0;
}
