// One translation request: connects the beam search to the decoder. Sentences are processed from
// the longest to the shortest; when some have finished, the next ones replace them.
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

// The sentences to translate and the options. An empty list means the default for all sentences.
struct TranslateRequest {
  // Token ids: tag of the target language first, end of sentence last. A sentence without any other
  // token gets one empty hypothesis with score 0.
  TokenBatch source;
  // Decoder and adapters of each sentence (see TransformerConfig); default 0. Sentences of one
  // request may use different ones.
  std::vector<int> decoders;
  // Target tokens that the hypotheses of each sentence must begin with, even if suppressed. The
  // prefix of an empty sentence is ignored.
  std::vector<std::vector<int32_t>> prefixes;
  // Target tokens towards which each sentence is biased with options.bias_weight. The search then
  // reads every logit, which is slower.
  std::vector<std::vector<int32_t>> biases;
  // Number of each sentence in messages; with the seed, determines its samples. Default 0, 1, ...
  std::vector<int64_t> indices;
  // The only ids that may be produced, including the end of sentence; empty allows all.
  std::vector<int32_t> shortlist;
  // With max_length_factor, a sentence of n source tokens (without tag and end) gets at most
  // max(1, min_length, min(max_length, floor(max_length_factor * n) + max_length_offset)) tokens.
  BeamOptions options;
  // Whether hypotheses have the attention from each token to all source ids.
  bool alignments = false;
  // The attention used for alignments and coverage_penalty: a layer of the decoder (-1: the last)
  // and a head (-1: the mean over heads).
  int attention_layer = -1;
  int attention_head = -1;
  // Maximum of sentences that a worker processes at once, at least 1. Affects only the speed.
  int max_batch_size = 64;
};

// Throws InputError unless `decoders` is empty or has a valid decoder for each sentence.
void CheckDecoders(const TransformerConfig& config, const std::vector<int>& decoders,
                   int sentences);

// A request in progress. Any number of workers may run it concurrently.
class Translation {
 public:
  // Checks the whole request, which must outlive the object. `workers`: the expected number of
  // workers. Throws InputError, with name and value, if an option, an id or a length is out of
  // range.
  Translation(const Model& model, const TranslateRequest& request, int workers);

  // The number of workers that the request can keep busy: at most one per sentence.
  int parallelism() const;

  // Translates sentences until none is left or `stop` is true. `decoder` must have room for
  // options.beam_size beams. Throws NotANumberError.
  void Run(Decoder* decoder, const std::atomic<bool>& stop);

  // At most num_hypotheses per sentence, best first, in the order of the source.
  std::vector<std::vector<Hypothesis>>& results() { return results_; }

 private:
  class Worker;

  int MaxLength(int source) const;
  Sentence MakeSentence(int source) const;

  const Model& model_;
  const TranslateRequest& request_;
  int attention_layer_ = -1;  // -1: attention is not needed.
  int share_ = 1;             // Sentences that one worker processes at once.
  std::vector<float> bias_;   // Bias of the projection; empty if no token is forbidden.
  std::unique_ptr<Shortlist> shortlist_;
  std::unique_ptr<SentenceQueue> queue_;
  std::vector<std::vector<Hypothesis>> results_;
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_TRANSLATOR_H_
