// The sentences of a request in the order in which workers take them.
#ifndef KERAS_MTL_ENGINE_SENTENCE_QUEUE_H_
#define KERAS_MTL_ENGINE_SENTENCE_QUEUE_H_

#include <cstddef>
#include <mutex>
#include <vector>

#include "engine/encoder.h"

namespace keras_mtl {

// Longest first, so that sentences of a batch are of like length and the last ones to finish are
// short; those of one decoder together, so that its weights serve as many rows as there are.
// Safe for use by any number of threads.
class SentenceQueue {
 public:
  // `sentences`: which of `source`; `decoders` [source.sentences()], or empty: all 0. Both of
  // `source` and `decoders` must outlive the object.
  SentenceQueue(const TokenBatch& source, const std::vector<int>& decoders,
                std::vector<int> sentences);

  size_t size() const { return order_.size(); }
  int decoder(int sentence) const { return decoders_.empty() ? 0 : decoders_[sentence]; }

  // The next sentences: at least one if there is any, at most `count`, all of one decoder, and few
  // enough for one run of the encoder.
  std::vector<int> Take(int count);

  // Their tokens, one behind the other.
  TokenBatch Tokens(const std::vector<int>& sentences) const;

 private:
  const TokenBatch& source_;
  const std::vector<int>& decoders_;
  std::vector<int> order_;
  std::mutex mutex_;
  size_t next_ = 0;  // In order_.
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_SENTENCE_QUEUE_H_
