// Memory that weights, caches and activations live in.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#elif defined(_WIN32)
#include <malloc.h>
#endif

namespace {

constexpr size_t HUGE_PAGE = 2 << 20;

// Aligned memory, in huge pages where it is large and the system has them: a forward pass reads all weights, and with small
// pages it waits for their addresses as well.
inline void* allocate(size_t n) {
  size_t alignment = n >= HUGE_PAGE ? HUGE_PAGE : 64;
#if defined(_WIN32)
  return _aligned_malloc(n, alignment);
#else
  void* data = nullptr;
  if (posix_memalign(&data, alignment, n)) return nullptr;
#if defined(MADV_HUGEPAGE)
  if (n >= HUGE_PAGE) madvise(data, n / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
  return data;
#endif
}
inline void give_back(void* data) {
#if defined(_WIN32)
  _aligned_free(data);
#else
  std::free(data);
#endif
}

// Weights that live as long as their model, side by side.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() {
    for (void* c : chunks_) give_back(c);
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
    taken_ += n;
    return out;
  }
  size_t taken() const { return taken_; }

 private:
  std::vector<void*> chunks_;
  char* at_ = nullptr;
  size_t left_ = 0, taken_ = 0;
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
    if (owned) give_back(data);
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

}  // namespace
