#include "engine/thread_pool.h"

namespace keras_mtl {
namespace {

// Turns of waiting before a worker sleeps: some 50 us, a few operations of a decoder step.
constexpr int kSpins = 2000;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { Work(i); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    ++generation_;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Start(Function function, void* argument) {
  function_ = function;
  argument_ = argument;
  running_ = static_cast<int>(workers_.size());
  {
    std::lock_guard<std::mutex> lock(mutex_);  // so that no worker goes to sleep in between
    ++generation_;
  }
  wake_.notify_all();
}

void ThreadPool::Wait() {
  for (int spins = 0; running_ != 0; ++spins) {
    if (spins < kSpins) {
      Pause();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadPool::Work(int index) {
  unsigned seen = 0;
  while (true) {
    for (int spins = 0; generation_ == seen && spins < kSpins; ++spins) Pause();
    if (generation_ == seen) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return generation_ != seen; });
    }
    seen = generation_;
    if (stop_) return;
    function_(argument_, index);
    --running_;
  }
}

}  // namespace keras_mtl
