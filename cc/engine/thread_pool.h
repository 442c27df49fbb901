// Threads inside one operation, for low latency of a single sentence. For throughput, use workers
// that share the weights instead: they never wait for each other.
#ifndef KERAS_MTL_ENGINE_THREAD_POOL_H_
#define KERAS_MTL_ENGINE_THREAD_POOL_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <vector>

#include "engine/errors.h"

namespace keras_mtl {

// Starts `count` threads that call run(first), run(first + 1), ... If the system starts fewer,
// calls close(), which must end the running ones, and throws InputError.
template <class Run, class Close>
void StartThreads(const char* option, int first, int count, Run run, Close close,
                  std::vector<std::thread>* threads) {
  threads->reserve(count);
  for (int i = 0; i < count; ++i) {
    try {
      threads->emplace_back(run, first + i);
    } catch (const std::system_error& error) {
      close();
      throw InputError(std::string(option) + "=" + std::to_string(first + count) +
                       ": the system started only " + std::to_string(first + i) + " threads (" +
                       error.what() +
                       "). Use fewer, or raise the system's limit on processes or memory.");
    }
  }
}

// For one caller at a time. Threads take the chunks of a task one by one, so a thread that the
// system suspends delays only its current chunk. After such a delay, the caller works without the
// other threads for a while, and for longer if it happens again.
class ThreadPool {
 public:
  // `threads` >= 1 includes the caller: 1 starts none. Throws InputError if the system starts
  // fewer.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls task(thread, chunk) for each chunk in [0, chunks) and waits for all calls. Each thread in
  // [0, threads()) takes chunks in ascending order. The task must not throw.
  template <class Task>
  void Run(int chunks, Task&& task) {
    function_ = [](void* argument, int thread, int chunk) {
      (*static_cast<std::remove_reference_t<Task>*>(argument))(thread, chunk);
    };
    argument_ = &task;
    const Clock::time_point begin = Clock::now();
    if (workers_.empty() || begin < solo_until_) {
      for (int chunk = 0; chunk < chunks; ++chunk) task(0, chunk);
      return;
    }
    Start(chunks);
    Wait(chunks, begin, TakeChunks(0));
  }

 private:
  using Function = void (*)(void* argument, int thread, int chunk);
  using Clock = std::chrono::steady_clock;

  void Start(int chunks);
  // `own`: the number of chunks that the caller processed since `begin`.
  void Wait(int chunks, Clock::time_point begin, int own);
  bool HasChunks() const;
  // Processes chunks until none is left. Returns their number.
  int TakeChunks(int thread);
  void Work(int thread);
  // Ends the threads.
  void Close();

  std::vector<std::thread> workers_;
  // The task. Threads read these only after taking a chunk; they change only when all chunks are
  // done.
  Function function_ = nullptr;
  void* argument_ = nullptr;
  // The number of chunks in the upper half and of taken chunks in the lower half; adding 1 takes
  // the next chunk.
  std::atomic<uint64_t> chunks_{0};
  std::atomic<int> done_{0};
  std::atomic<int> sleeping_{0};      // number of sleeping workers
  std::atomic<bool> waiting_{false};  // whether the caller is asleep
  Clock::time_point solo_until_{};    // the caller works without workers until then
  Clock::duration solo_duration_{};   // the length of the last such period
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable finished_;
};

// Calls run(thread, begin, end) for parts of [0, count) of at least `grain` elements on the threads
// of the pool.
template <class Function>
void ParallelFor(ThreadPool* pool, int count, int grain, Function run) {
  // More parts balance the load better; each costs about 100 ns.
  constexpr int kPartsOfThread = 4;
  const int parts = pool == nullptr ? 1 : pool->threads() * kPartsOfThread;
  const int size = std::max(grain, (count + parts - 1) / parts);
  if (pool == nullptr || count <= size) return run(0, 0, count);
  pool->Run((count + size - 1) / size, [&](int thread, int part) {
    run(thread, part * size, std::min(count, (part + 1) * size));
  });
}

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_THREAD_POOL_H_
