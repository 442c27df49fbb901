// One request to translate: beam search and decoder joined. Sentences come from the longest to the
// shortest, and where some have finished the next ones take their place.
#ifndef KERAS_MTL_ENGINE_TRANSLATOR_H_
#define KERAS_MTL_ENGINE_TRANSLATOR_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/beam_search.h"
#include "engine/decoder.h"
#include "engine/encoder.h"
#include "engine/sentence_queue.h"

namespace keras_mtl {

// What is to be translated, and how. Lists that are left empty have their default for all.
struct TranslateRequest {
  // Token ids, tag of the target language first and end of sentence last. A sentence that has
  // neither id nor anything else but these two gets one empty hypothesis of score 0.
  TokenBatch source;
  // Decoder of each sentence; default 0. Sentences of one request may have different ones.
  std::vector<int> decoders;
  // Target tokens that the hypotheses of each sentence must begin with, suppressed or not. That of
  // an empty sentence is not used.
  std::vector<std::vector<int32_t>> prefixes;
  // What messages call the sentences, and what decides, with the seed, what is sampled; default
  // 0, 1, ...
  std::vector<int64_t> indices;
  // The only ids that may be produced, the end of sentence among them; empty allows all.
  std::vector<int32_t> shortlist;
  // With max_length_factor, a sentence of n source tokens, tag and end not counted, gets at most
  // min(max_length, floor(max_length_factor * n) + max_length_offset) tokens, and no fewer than 1
  // or min_length.
  BeamOptions options;
  // Hypotheses carry the attention from each of their tokens to the source ids (all of them).
  bool alignments = false;
  // Whose attention that is, and that of coverage_penalty: a layer of the decoder, -1 for the last
  // one; a head, -1 for the mean over heads.
  int attention_layer = -1;
  int attention_head = -1;
  // Most sentences that a worker has in work at once, at least 1. Changes the speed and no result.
  int max_batch_size = 64;
};

// Throws InputError unless `decoders` is empty or has a decoder of the model for each sentence.
void CheckDecoders(const TransformerConfig& config, const std::vector<int>& decoders,
                   int sentences);

// A request on its way. Any number of workers may run it at once.
class Translation {
 public:
  // Checks all of the request, which must outlive the object. `workers` are expected to run it.
  // Throws InputError: an option, an id or a length is out of range; it is named with its value.
  Translation(const Model& model, const TranslateRequest& request, int workers);

  // Workers that can have something to do: one for each sentence at most.
  int parallelism() const;

  // Takes sentences and translates them until none is left, or until `stop`.
  // `decoder` has room for options.beam_size beams. Throws NotANumberError.
  void Run(Decoder* decoder, const std::atomic<bool>& stop);

  // In the order of the source, best first; at most num_hypotheses of each.
  std::vector<std::vector<Hypothesis>>& results() { return results_; }

 private:
  class Worker;

  int MaxLength(int source) const;
  Sentence MakeSentence(int source) const;

  const Model& model_;
  const TranslateRequest& request_;
  int attention_layer_ = -1;  // -1: none is needed.
  int share_ = 1;             // Sentences that one worker has in work at once.
  std::vector<float> bias_;   // Of the projection; empty where no token is forbidden.
  std::unique_ptr<Shortlist> shortlist_;
  std::unique_ptr<SentenceQueue> queue_;
  std::vector<std::vector<Hypothesis>> results_;
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_TRANSLATOR_H_
