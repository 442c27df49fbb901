#include "engine/engine.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "engine/errors.h"
#include "engine/thread_pool.h"

namespace keras_mtl {
namespace {

// Interval between interruption checks: short enough to feel immediate.
constexpr auto kPollInterval = std::chrono::milliseconds(20);

void CheckThreads(const char* name, int value) {
  if (value >= 1 && value <= 1024) return;
  throw InputError(std::string(name) + "=" + std::to_string(value) +
                   ": give a whole number from 1 to 1024");
}

}  // namespace

Isa ChooseIsa(const std::string& name) {
  const Isa best = BestIsa(GetCpuFeatures());
  if (name == "auto") return best;
  for (const Isa isa : {Isa::kGeneric, Isa::kAvx2, Isa::kVnni, Isa::kAmx}) {
    if (name != IsaName(isa)) continue;
    if (isa <= best) return isa;
    throw InputError("isa='" + name + "' is not available: the best of this processor is " +
                     IsaName(best));
  }
  throw InputError("isa='" + name + "' is unknown: give auto, generic, avx2, vnni or amx");
}

// The worker threads and the queue of calls that wait for them.
class Engine::WorkerGroup {
 public:
  using Work = std::function<void(Decoder*, const std::atomic<bool>& stop)>;

  WorkerGroup(std::shared_ptr<const Model> model, int workers, int threads)
      : model_(std::move(model)), threads_(threads), process_(getpid()) {
    const auto serve = [this](int) { Serve(); };
    StartThreads("workers", 0, workers, serve, [this] { Close(); }, &members_);
  }

  ~WorkerGroup() { Close(); }

  // A child process made by fork() has a copy of this object but none of its threads.
  bool has_threads() const { return getpid() == process_; }

  int workers() const { return static_cast<int>(members_.size()); }

  // Runs `work` on all workers, but on at most `count`, and waits for them. `beams`: the beams of
  // the decoders passed to `work`.
  void Run(int count, int beams, const Work& work, const Interrupted& interrupted) {
    Job job{work, beams};
    std::unique_lock<std::mutex> lock(mutex_);
    job.open = std::min(count, workers());
    for (int i = 0; i < job.open; ++i) queue_.push_back(&job);
    wake_.notify_all();
    while (job.open > 0) {
      if (!interrupted) {
        job.done.wait(lock, [&] { return job.open == 0; });
        break;
      }
      if (job.done.wait_for(lock, kPollInterval, [&] { return job.open == 0; })) break;
      lock.unlock();
      try {
        if (interrupted()) throw InterruptedError("the call was interrupted");
      } catch (...) {
        lock.lock();
        Stop(&job);
        job.done.wait(lock, [&] { return job.open == 0; });
        throw;
      }
      lock.lock();
    }
    if (job.error) std::rethrow_exception(job.error);
  }

 private:
  void Close() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      closing_ = true;
    }
    wake_.notify_all();
    for (std::thread& member : members_) member.join();
  }

  struct Job {
    const Work& work;
    const int beams;
    int open = 0;  // Its places in the queue plus the workers that run it.
    std::atomic<bool> stop{false};
    std::exception_ptr error;
    std::condition_variable done;

    Job(const Work& work, int beams) : work(work), beams(beams) {}
  };

  // Removes the job from the queue and asks its workers to stop. Requires the lock.
  void Stop(Job* job) {
    job->stop = true;
    const auto gone = std::remove(queue_.begin(), queue_.end(), job);
    job->open -= static_cast<int>(queue_.end() - gone);
    queue_.erase(gone, queue_.end());
  }

  // The loop of a worker thread.
  void Serve() {
    std::unique_ptr<Decoder> decoder;
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      Job* job = queue_.front();
      queue_.pop_front();
      lock.unlock();
      std::exception_ptr error;
      try {
        // A decoder's caches are sized for a number of beams.
        if (decoder == nullptr || decoder->beams() != job->beams) {
          decoder.reset();
          decoder = std::make_unique<Decoder>(model_, job->beams, threads_);
        }
        job->work(decoder.get(), job->stop);
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      if (error && !job->error) {
        job->error = error;
        Stop(job);
      }
      // Notify with the lock held, so that the caller cannot destroy the job before.
      if (--job->open == 0) job->done.notify_one();
    }
  }

  const std::shared_ptr<const Model> model_;
  const int threads_;
  const pid_t process_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job*> queue_;
  bool closing_ = false;
  std::vector<std::thread> members_;  // Last, because the threads use all other members.
};

std::shared_ptr<Engine> Engine::Open(const std::string& path, const EngineOptions& options) {
  CheckThreads("workers", options.workers);
  CheckThreads("threads", options.threads);
  const Isa isa = ChooseIsa(options.isa);
  const bool as_file = options.compute_type == "auto";
  if (!as_file && options.compute_type != "int8" && options.compute_type != "float32") {
    throw InputError("compute_type='" + options.compute_type +
                     "' is unknown: give auto, int8 or float32");
  }
  const std::shared_ptr<const ModelFile> file = ModelFile::Open(path, options.verify);
  const TransformerConfig config = TransformerConfig::Read(*file);
  const bool int8 = as_file ? config.int8 : options.compute_type == "int8";
  // Packed copies replace all tensors except position tables and embeddings that are not tied.
  auto model =
      Model::Load(config, file->tensors(), int8 ? ComputeType::kInt8 : ComputeType::kFloat32, isa,
                  file, [&file] { file->ReleasePages(); });
  auto engine = std::make_shared<Engine>(std::move(model), options.workers, options.threads);
  engine->file_ = file;
  return engine;
}

Engine::Engine(std::shared_ptr<const Model> model, int workers, int threads)
    : model_(std::move(model)), threads_(threads) {
  CheckThreads("workers", workers);
  CheckThreads("threads", threads);
  workers_ = std::make_unique<WorkerGroup>(model_, workers, threads);
}

Engine::~Engine() {
  // In a child process there are no threads to join, and the copied lock may be held forever.
  if (workers_ != nullptr && !workers_->has_threads()) (void)workers_.release();
}

int Engine::workers() const { return workers_->workers(); }

std::vector<std::vector<Hypothesis>> Engine::Translate(const TranslateRequest& request,
                                                       const Interrupted& interrupted) {
  Translation translation(*model_, request, workers());
  workers_->Run(
      translation.parallelism(), request.options.beam_size,
      [&](Decoder* decoder, const std::atomic<bool>& stop) { translation.Run(decoder, stop); },
      interrupted);
  return std::move(translation.results());
}

std::vector<std::vector<float>> Engine::Score(const ScoreRequest& request,
                                              const Interrupted& interrupted) {
  Scoring scoring(*model_, request, workers());
  workers_->Run(
      scoring.parallelism(), 1,
      [&](Decoder* decoder, const std::atomic<bool>& stop) { scoring.Run(decoder, stop); },
      interrupted);
  return std::move(scoring.results());
}

Memory Engine::Encode(const TokenBatch& source, const std::vector<int>& routes,
                      const Interrupted& interrupted) {
  CheckSource(config(), source);
  CheckDecoders(config(), routes, source.sentences());
  const size_t dim = config().hidden_dim;
  Memory result;
  result.begins = source.begins;
  const size_t memories = config().memories(), tokens = source.ids.size();
  result.rows.resize(memories * tokens * dim);
  std::vector<int> sentences(source.sentences());
  for (size_t i = 0; i < sentences.size(); ++i) sentences[i] = static_cast<int>(i);
  SentenceQueue queue(config(), source, routes, std::move(sentences));
  workers_->Run(
      source.sentences(), 1,
      [&](Decoder* decoder, const std::atomic<bool>& stop) {
        while (!stop) {
          const std::vector<int> taken = queue.Take(source.sentences());
          if (taken.empty()) return;
          const Memory memory = keras_mtl::Encode(*model_, decoder->context(), queue.Tokens(taken),
                                                  queue.Routes(taken));
          for (size_t m = 0; m < memories; ++m) {
            const auto rows = memory.rows.begin() + m * memory.begins.back() * dim;
            const auto out = result.rows.begin() + m * tokens * dim;
            for (size_t i = 0; i < taken.size(); ++i) {
              std::copy(rows + memory.begins[i] * dim, rows + memory.begins[i + 1] * dim,
                        out + source.begins[taken[i]] * dim);
            }
          }
        }
      },
      interrupted);
  return result;
}

}  // namespace keras_mtl
