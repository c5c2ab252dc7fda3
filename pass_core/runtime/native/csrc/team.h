// Threads that share a job: phases of chunks, each thread on its own run of memory first.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

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
  void run(int phases, std::function<void(Job&, int)> body) { finish(*start(phases, std::move(body))); }
  // The other threads begin; this one joins them in `finish`. Meanwhile it may run other jobs, which they join late.
  std::shared_ptr<Job> start(int phases, std::function<void(Job&, int)> body) {
    auto job = std::make_shared<Job>(phases, size_, std::move(body));
    if (size_ > 1) {
      {
        std::lock_guard<std::mutex> lock(mutex_);
        job_ = job;
        generation_.fetch_add(1);
      }
      wake_.notify_all();
    }
    return job;
  }
  void finish(Job& job) { job.body(job, 0); }

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

}  // namespace
