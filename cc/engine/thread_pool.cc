#include "engine/thread_pool.h"

namespace keras_mtl {
namespace {

// Iterations of busy waiting before a thread sleeps: about 50 us, or a few operations of a decoder
// step.
constexpr int kSpins = 2000;

// The shortest and longest time for which the caller works without help after a delay. The system
// suspends a thread for a few milliseconds, and checking every second whether processors are free
// again is often enough.
constexpr auto kMinSoloTime = std::chrono::milliseconds(20);
constexpr auto kMaxSoloTime = std::chrono::seconds(1);

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
  // A worker increments sleeping_ before its last check for chunks, so 0 means that all see them.
  if (sleeping_ == 0) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
  }  // No worker is now between its last check and its sleep.
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
      }  // See Start().
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
    // Another program may be using a worker's processor. While the caller sleeps, the system can
    // move the worker to this processor.
    std::unique_lock<std::mutex> lock(mutex_);
    waiting_ = true;
    finished_.wait(lock, [&] { return done_ == chunks; });
    waiting_ = false;
  }
  const Clock::time_point end = Clock::now();
  // Without a delay, a worker's last chunk takes about as long as a chunk of the caller.
  if (end - ready < 3 * (ready - begin) / std::max(own, 1)) return;
  const bool again = end - solo_until_ < solo_duration_;
  solo_duration_ =
      again ? std::min<Clock::duration>(2 * solo_duration_, kMaxSoloTime) : kMinSoloTime;
  solo_until_ = end + solo_duration_;
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
