// What the processor has and the operating system lets programs use, in the compiler's words for it ("avx2", "dotprod").
// A library of its own, for it must run on every processor.
//
// Bits: Intel's Software Developer's Manual, volume 2A, CPUID; Arm: Linux's elf_hwcaps, Apple's sysctl hw.optional.arm.

#include <cstdint>
#include <string>

#if defined(__x86_64__) || defined(_M_X64)
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace {

struct Feature {
  const char* name;
  bool here;
};

#if defined(__x86_64__) || defined(_M_X64)
struct Registers {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(uint32_t leaf, uint32_t sub) {
  Registers r;
#if defined(_MSC_VER)
  int out[4];
  __cpuid(out, 0);
  if ((uint32_t)out[0] < leaf) return r;
  __cpuidex(out, (int)leaf, (int)sub);
  r = {(uint32_t)out[0], (uint32_t)out[1], (uint32_t)out[2], (uint32_t)out[3]};
#else
  __get_cpuid_count(leaf, sub, &r.a, &r.b, &r.c, &r.d);
#endif
  return r;
}

// The registers that the operating system saves: without them the instructions must not be used.
uint64_t saved_registers() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
#endif
}

std::string features() {
  Registers one = cpuid(1, 0), seven = cpuid(7, 0), more = seven.a ? cpuid(7, 1) : Registers{};
  uint64_t saved = one.c >> 27 & 1 ? saved_registers() : 0;
  bool ymm = (saved & 0x6) == 0x6, zmm = ymm && (saved & 0xe0) == 0xe0, tiles = (saved & 0x60000) == 0x60000;
  auto bit = [](uint32_t word, int at) { return (word >> at & 1) != 0; };
  const Feature all[] = {
      {"fma", ymm && bit(one.c, 12)},
      {"f16c", ymm && bit(one.c, 29)},
      {"avx2", ymm && bit(seven.b, 5)},
      {"avxvnni", ymm && bit(more.a, 4)},
      {"avx512f", zmm && bit(seven.b, 16)},
      {"avx512dq", zmm && bit(seven.b, 17)},
      {"avx512bw", zmm && bit(seven.b, 30)},
      {"avx512vl", zmm && bit(seven.b, 31)},
      {"avx512vbmi", zmm && bit(seven.c, 1)},
      {"avx512vnni", zmm && bit(seven.c, 11)},
      {"avx512bf16", zmm && bit(more.a, 5)},
      {"amx-bf16", tiles && bit(seven.d, 22)},
      {"amx-tile", tiles && bit(seven.d, 24)},
      {"amx-int8", tiles && bit(seven.d, 25)},
  };
#elif defined(__linux__)
std::string features() {
  unsigned long one = getauxval(AT_HWCAP), two = getauxval(AT_HWCAP2);
  const Feature all[] = {
      {"fp16", (one >> 10 & 1) != 0},
      {"dotprod", (one >> 20 & 1) != 0},
      {"sve", (one >> 22 & 1) != 0},
      {"i8mm", (two >> 13 & 1) != 0},
      {"bf16", (two >> 14 & 1) != 0},
  };
#elif defined(__APPLE__)
bool has(const char* name) {
  int32_t value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value;
}

std::string features() {
  const Feature all[] = {
      {"fp16", has("hw.optional.arm.FEAT_FP16")},
      {"dotprod", has("hw.optional.arm.FEAT_DotProd")},
      {"i8mm", has("hw.optional.arm.FEAT_I8MM")},
      {"bf16", has("hw.optional.arm.FEAT_BF16")},
  };
#else
std::string features() {
  const Feature all[] = {{"", false}};
#endif
  std::string words;
  for (const Feature& f : all)
    if (f.here) words += (words.empty() ? "" : " ") + std::string(f.name);
  return words;
}

}  // namespace

#if defined(_WIN32)
#define PASS_PUBLIC __declspec(dllexport)
#else
#define PASS_PUBLIC
#endif

extern "C" PASS_PUBLIC const char* pass_processor() {
  static const std::string words = features();
  return words.c_str();
}
