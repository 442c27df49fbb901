// Threads inside one operation, for the latency of a single sentence. For throughput, workers that
// share the weights are better: they never wait for each other.
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

// Starts `count` threads, each of which calls run(number), the numbers rising from `first`. Where
// the system gives fewer, calls close(), which is to end those that run, and throws InputError.
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
                       ": the system gave only " + std::to_string(first + i) + " threads (" +
                       error.what() +
                       "); ask for fewer, or raise the limit of processes or memory");
    }
  }
}

// One caller at a time. Threads take the chunks of a task one by one, so a thread that the system
// holds up, for another program, holds up the chunk in its hands and nothing else. Where that
// happens, the caller works without the worker for a while, and for longer if it happens again.
class ThreadPool {
 public:
  // `threads` >= 1 counts the caller: 1 starts none. Throws InputError: the system gives fewer.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls task(thread, chunk) for each chunk in [0, chunks), each thread in [0, threads()) taking
  // them in ascending order, and waits for all. The task must not throw.
  template <class Task>
  void Run(int chunks, Task&& task) {
    function_ = [](void* argument, int thread, int chunk) {
      (*static_cast<std::remove_reference_t<Task>*>(argument))(thread, chunk);
    };
    argument_ = &task;
    const Clock::time_point begin = Clock::now();
    if (workers_.empty() || begin < alone_until_) {
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
  // `own`: chunks that the caller did, since `begin`.
  void Wait(int chunks, Clock::time_point begin, int own);
  bool HasChunks() const;
  // Returns how many.
  int TakeChunks(int thread);
  void Work(int thread);
  // Ends the threads.
  void Close();

  std::vector<std::thread> workers_;
  // Of the task. Who has taken a chunk reads them; they change when all chunks are done.
  Function function_ = nullptr;
  void* argument_ = nullptr;
  // Chunks of the task in the upper half, those taken in the lower; adding 1 takes the next one.
  std::atomic<uint64_t> chunks_{0};
  std::atomic<int> done_{0};
  std::atomic<int> sleeping_{0};      // workers
  std::atomic<bool> waiting_{false};  // the caller, asleep
  Clock::time_point alone_until_{};   // until when the caller works without workers
  Clock::duration alone_for_{};       // how long it did the last time
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable finished_;
};

// Calls run(thread, begin, end) for parts of [0, count), of `grain` or more, on threads of the
// pool.
template <class Function>
void ParallelFor(ThreadPool* pool, int count, int grain, Function run) {
  // More parts balance better what threads get done; each costs some 100 ns.
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
