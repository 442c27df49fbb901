// The public interface of the engine: a model file, its packed weights, and the workers that share
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
  // "auto" keeps the type of the file's weights; "int8" or "float32" converts them.
  std::string compute_type = "auto";
  // "auto" selects the fastest one of this processor; or "generic", "avx2", "vnni", "amx".
  std::string isa = "auto";
  // Threads that share sentences and requests, for throughput; 1 to 1024.
  int workers = 1;
  // Threads of each worker inside one operation, for the latency of one sentence; 1 to 1024.
  int threads = 1;
  // Whether loading compares the checksum of every tensor.
  bool verify = false;
};

// Thread-safe: calls wait for a free worker in the order of their arrival. A result depends only on
// its own sentence: it is bit-identical in every batch and order, with any number of workers and
// threads, and on every instruction set.
class Engine {
 public:
  // Called every 20 ms on the calling thread. If it returns true, the call throws InterruptedError.
  // It may also throw. An empty function disables interruption.
  using Interrupted = std::function<bool()>;

  // Throws ModelFileError if the file is unusable, InputError if an option is invalid.
  static std::shared_ptr<Engine> Open(const std::string& path, const EngineOptions& options = {});
  // Uses a model in memory. Throws InputError.
  Engine(std::shared_ptr<const Model> model, int workers, int threads);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const Model& model() const { return *model_; }
  const TransformerConfig& config() const { return model_->config(); }
  // The file of the model; null for a model in memory.
  const std::shared_ptr<const ModelFile>& file() const { return file_; }
  int workers() const;
  int threads() const { return threads_; }

  // Returns the hypotheses of each sentence, best first, in the order of the source.
  // Throws InputError (invalid request), NotANumberError (invalid model), InterruptedError.
  std::vector<std::vector<Hypothesis>> Translate(const TranslateRequest& request,
                                                 const Interrupted& interrupted = {});

  // Returns the log-probability of each token of each target given the previous tokens; every token
  // is allowed. Throws the errors of Translate().
  std::vector<std::vector<float>> Score(const ScoreRequest& request,
                                        const Interrupted& interrupted = {});

  // Returns the encoder's output. `routes`: of each sentence; empty for 0. Throws the errors of
  // Translate().
  Memory Encode(const TokenBatch& source, const std::vector<int>& routes = {},
                const Interrupted& interrupted = {});

 private:
  class WorkerGroup;

  std::shared_ptr<const Model> model_;
  std::shared_ptr<const ModelFile> file_;
  int threads_;
  std::unique_ptr<WorkerGroup> workers_;
};

// Returns the instruction set for a value of EngineOptions::isa. Throws InputError if the name is
// unknown or this processor lacks the instruction set.
Isa ChooseIsa(const std::string& name);

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_ENGINE_H_
