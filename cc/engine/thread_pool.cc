#include "engine/thread_pool.h"

namespace keras_mtl {
namespace {

// Turns of waiting before a thread sleeps: some 50 us, a few operations of a decoder step.
constexpr int kSpins = 2000;

// How long the caller works without a worker that was delayed, at first and at most. The system
// takes a processor away for some milliseconds; a second is soon enough to notice that it is free.
constexpr auto kLeastAlone = std::chrono::milliseconds(20);
constexpr auto kMostAlone = std::chrono::seconds(1);

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  const auto work = [this](int thread) { Work(thread); };
  StartThreads("threads", 1, threads - 1, work, [this] { Close(); }, &workers_);
}

ThreadPool::~ThreadPool() { Close(); }

void ThreadPool::Close() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Start(int chunks) {
  done_ = 0;
  chunks_ = static_cast<uint64_t>(chunks) << 32;
  // A worker counts itself as sleeping before it looks for chunks a last time.
  if (sleeping_ == 0) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
  }  // so that none goes to sleep in between
  wake_.notify_all();
}

bool ThreadPool::HasChunks() const {
  const uint64_t chunks = chunks_;
  return static_cast<uint32_t>(chunks) < chunks >> 32;
}

int ThreadPool::TakeChunks(int thread) {
  int done = 0;
  while (HasChunks()) {
    const uint64_t taken = chunks_.fetch_add(1);
    const uint32_t chunk = static_cast<uint32_t>(taken), count = taken >> 32;
    if (chunk >= count) break;
    ++done;
    function_(argument_, thread, static_cast<int>(chunk));
    if (++done_ == static_cast<int>(count) && waiting_) {
      {
        std::lock_guard<std::mutex> lock(mutex_);
      }  // as in Start()
      finished_.notify_one();
    }
  }
  return done;
}

void ThreadPool::Wait(int chunks, Clock::time_point begin, int own) {
  const Clock::time_point ready = Clock::now();
  for (int spins = 0; spins < kSpins; ++spins) {
    if (done_ == chunks) return;
    Pause();
  }
  {
    // If another program uses a worker's processor: this processor is free while the caller sleeps,
    // and the system may move the worker here.
    std::unique_lock<std::mutex> lock(mutex_);
    waiting_ = true;
    finished_.wait(lock, [&] { return done_ == chunks; });
    waiting_ = false;
  }
  const Clock::time_point end = Clock::now();
  // The last chunk of a worker that nobody held up takes as long as one of the caller's.
  if (end - ready < 3 * (ready - begin) / std::max(own, 1)) return;
  const bool again = end - alone_until_ < alone_for_;
  alone_for_ = again ? std::min<Clock::duration>(2 * alone_for_, kMostAlone) : kLeastAlone;
  alone_until_ = end + alone_for_;
}

void ThreadPool::Work(int thread) {
  while (!stop_) {
    TakeChunks(thread);
    for (int spins = 0; spins < kSpins && !HasChunks() && !stop_; ++spins) Pause();
    if (HasChunks()) continue;
    std::unique_lock<std::mutex> lock(mutex_);
    ++sleeping_;
    wake_.wait(lock, [&] { return HasChunks() || stop_; });
    --sleeping_;
  }
}

}  // namespace keras_mtl
