// Counter-based noise: a number depends on seed, stream, position and token alone.
#pragma once

#include <cmath>
#include <cstdint>

namespace {

inline uint64_t mix(uint64_t h) {  // as pass_core/sampling/noise.py has it
  h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9ull;
  h = (h ^ (h >> 27)) * 0x94D049BB133111EBull;
  return h ^ (h >> 31);
}

inline double gumbel(uint64_t noise, int64_t position, int64_t token) {
  uint64_t h = mix(mix(noise ^ ((uint64_t)position * 0xD1B54A32D192ED03ull)) ^ ((uint64_t)token * 0x8CB92BA72F3D8DD7ull));
  return -std::log(-std::log(((double)(h >> 12) + 0.5) * 0x1p-52));
}

}  // namespace
