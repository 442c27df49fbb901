// The engine as programs use it: a model file, its weights packed once, and workers that share
// them.
#ifndef KERAS_MTL_ENGINE_ENGINE_H_
#define KERAS_MTL_ENGINE_ENGINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/model_file.h"
#include "engine/scorer.h"
#include "engine/translator.h"

namespace keras_mtl {

struct EngineOptions {
  // "auto" takes the type of the file's weights; "int8" or "float32" converts them.
  std::string compute_type = "auto";
  // "auto" takes the fastest of this processor; or "generic", "avx2", "vnni", "amx".
  std::string isa = "auto";
  // Sentences, and requests, are shared among this number of threads; 1 to 1024. For throughput.
  int workers = 1;
  // Threads that each worker uses inside one operation; 1 to 1024. For the latency of one sentence.
  int threads = 1;
  // Whether the checksum of every tensor is compared on loading.
  bool verify = false;
};

// Safe for use by any number of threads at once: calls wait for a free worker in the order in which
// they come. A result depends only on its own sentence: it is the same, bit by bit, in every batch
// and order, with any number of workers and threads, and on every instruction set.
class Engine {
 public:
  // Polled every few hundredths of a second, on the calling thread; true ends the call with
  // InterruptedError. It may throw as well. Empty: never.
  using Interrupted = std::function<bool()>;

  // Throws ModelFileError (the file), InputError (an option).
  static std::shared_ptr<Engine> Open(const std::string& path, const EngineOptions& options = {});
  // Of a model in memory. Throws InputError.
  Engine(std::shared_ptr<const Model> model, int workers, int threads);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const Model& model() const { return *model_; }
  const TransformerConfig& config() const { return model_->config(); }
  // The file that the model was opened from; null for a model in memory.
  const std::shared_ptr<const ModelFile>& file() const { return file_; }
  int workers() const;
  int threads() const { return threads_; }

  // The hypotheses of each sentence, best first, in the order of the source.
  // Throws InputError (the request), NotANumberError (the model), InterruptedError.
  std::vector<std::vector<Hypothesis>> Translate(const TranslateRequest& request,
                                                 const Interrupted& interrupted = {});

  // The log-probability of each token of each target, after the tokens before it; every token is
  // allowed. Throws as Translate does.
  std::vector<std::vector<float>> Score(const ScoreRequest& request,
                                        const Interrupted& interrupted = {});

  // The encoder's output. Throws as Translate does.
  Memory Encode(const TokenBatch& source, const Interrupted& interrupted = {});

 private:
  class WorkerGroup;

  std::shared_ptr<const Model> model_;
  std::shared_ptr<const ModelFile> file_;
  int threads_;
  std::unique_ptr<WorkerGroup> workers_;
};

// The instruction set of a name of EngineOptions::isa. Throws InputError: it is unknown, or this
// processor lacks it.
Isa ChooseIsa(const std::string& name);

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_ENGINE_H_
