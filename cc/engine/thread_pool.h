// Threads inside one operation, for the latency of a single sentence. For throughput, workers that
// share the weights are better: they never wait for each other.
#ifndef KERAS_MTL_ENGINE_THREAD_POOL_H_
#define KERAS_MTL_ENGINE_THREAD_POOL_H_

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace keras_mtl {

// One caller at a time.
class ThreadPool {
 public:
  // `threads` >= 1 counts the caller: 1 starts none.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls task(i) for each i in [0, threads()), task(0) on this thread, and waits for all. The task
  // must not throw.
  template <class Task>
  void Run(Task&& task) {
    if (workers_.empty()) return task(0);
    Start([](void* argument, int index) { (*static_cast<Task*>(argument))(index); }, &task);
    task(0);
    Wait();
  }

 private:
  using Function = void (*)(void* argument, int index);

  void Start(Function function, void* argument);
  void Wait();
  void Work(int index);

  std::vector<std::thread> workers_;
  Function function_ = nullptr;
  void* argument_ = nullptr;
  std::atomic<unsigned> generation_{0};  // of the task; a change starts the workers
  std::atomic<int> running_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
};

// Calls run(thread, begin, end) over [0, count) in equal shares, on threads that have one.
template <class Function>
void ParallelFor(ThreadPool* pool, int count, Function run) {
  const int threads = pool == nullptr ? 1 : pool->threads();
  if (threads == 1 || count <= 1) return run(0, 0, count);
  pool->Run([&](int thread) {
    const int begin = static_cast<int>(static_cast<long long>(count) * thread / threads);
    const int end = static_cast<int>(static_cast<long long>(count) * (thread + 1) / threads);
    if (begin < end) run(thread, begin, end);
  });
}

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_THREAD_POOL_H_
