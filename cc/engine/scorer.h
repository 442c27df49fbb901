// One scoring request: the log-probabilities of given targets.
#ifndef KERAS_MTL_ENGINE_SCORER_H_
#define KERAS_MTL_ENGINE_SCORER_H_

#include <atomic>
#include <memory>
#include <vector>

#include "engine/decoder.h"
#include "engine/sentence_queue.h"

namespace keras_mtl {

// Pairs of token ids to score.
struct ScoreRequest {
  TokenBatch source;          // Tag first and end of sentence last, as for translation.
  TokenBatch target;          // One per source; end of sentence last if it should be scored.
  std::vector<int> decoders;  // Decoder of each sentence; empty: all 0.
  int max_batch_size = 64;    // Sentences per batch of a worker, at least 1.
};

// A request in progress. Any number of workers may run it concurrently.
class Scoring {
 public:
  // Checks the whole request, which must outlive the object. Throws InputError if an id, a length
  // or a list is invalid, or if a source is empty and its target is not.
  Scoring(const Model& model, const ScoreRequest& request, int workers);

  // The number of workers that the request can keep busy.
  int parallelism() const { return static_cast<int>(queue_->size()); }
  // Scores sentences until none is left or `stop` is true. Throws NotANumberError.
  void Run(Decoder* decoder, const std::atomic<bool>& stop);
  // The log-probability of each token of each target.
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
