// The sentences of a request, in the order in which workers process them.
#ifndef KERAS_MTL_ENGINE_SENTENCE_QUEUE_H_
#define KERAS_MTL_ENGINE_SENTENCE_QUEUE_H_

#include <cstddef>
#include <mutex>
#include <vector>

#include "engine/encoder.h"

namespace keras_mtl {

// Sentences are grouped by decoder, so that each pass over its weights serves many rows, and sorted
// by descending length, so that the sentences of a batch have similar lengths and the last ones to
// finish are short. Thread-safe.
class SentenceQueue {
 public:
  // `sentences`: the indices of `source` to process. `routes`: [source.sentences()], or empty: all
  // 0. All arguments must outlive the object.
  SentenceQueue(const TransformerConfig& config, const TokenBatch& source,
                const std::vector<int>& routes, std::vector<int> sentences);

  size_t size() const { return order_.size(); }
  int decoder(int sentence) const { return config_.DecoderOf(route(sentence)); }

  // Removes and returns the next sentences: at least one if any is left, at most `count`, all of
  // one decoder, and few enough for one run of the encoder. They are sorted by route, so that the
  // rows of an adapter are usually adjacent.
  std::vector<int> Take(int count);

  // The routes of `sentences`.
  std::vector<int> Routes(const std::vector<int>& sentences) const;

  // The concatenated tokens of `sentences`.
  TokenBatch Tokens(const std::vector<int>& sentences) const;

 private:
  int route(int sentence) const { return routes_.empty() ? 0 : routes_[sentence]; }

  const TransformerConfig& config_;
  const TokenBatch& source_;
  const std::vector<int>& routes_;
  std::vector<int> order_;
  std::mutex mutex_;
  size_t next_ = 0;  // Index in order_.
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_SENTENCE_QUEUE_H_
