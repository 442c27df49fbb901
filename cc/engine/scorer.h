// One request to score: the log-probabilities of given targets.
#ifndef KERAS_MTL_ENGINE_SCORER_H_
#define KERAS_MTL_ENGINE_SCORER_H_

#include <atomic>
#include <memory>
#include <vector>

#include "engine/decoder.h"
#include "engine/sentence_queue.h"

namespace keras_mtl {

// Token ids whose probability is asked for. Lists that are left empty have their default for all.
struct ScoreRequest {
  TokenBatch source;          // Tag first and end of sentence last, as when translating.
  TokenBatch target;          // As many sentences; end of sentence last where it is to count.
  std::vector<int> decoders;  // Decoder of each sentence; default 0.
  int max_batch_size = 64;    // Sentences in one batch of a worker, at least 1.
};

// A request on its way. Any number of workers may run it at once.
class Scoring {
 public:
  // Checks all of the request, which must outlive the object. Throws InputError: an id, a length or
  // a list; a source is empty and its target is not.
  Scoring(const Model& model, const ScoreRequest& request, int workers);

  // Workers that can have something to do.
  int parallelism() const { return static_cast<int>(queue_->size()); }
  // Scores sentences until none is left, or until `stop`. Throws NotANumberError.
  void Run(Decoder* decoder, const std::atomic<bool>& stop);
  // A log-probability for each token of each target.
  std::vector<std::vector<float>>& results() { return results_; }

 private:
  void ScoreBatch(Decoder* decoder, const std::vector<int>& sentences,
                  const std::atomic<bool>& stop);

  const ScoreRequest& request_;
  int share_ = 1;
  std::unique_ptr<SentenceQueue> queue_;
  std::vector<std::vector<float>> results_;
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_SCORER_H_
