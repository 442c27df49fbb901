#include "engine/sentence_queue.h"

#include <algorithm>
#include <utility>

namespace keras_mtl {
namespace {

// Maximum of source tokens in one run of the encoder, equal to the maximum of rows in a decoder
// step. More tokens hardly speed up matrix products, but scratch memory grows by 22 kB per token
// (Transformer base).
constexpr int kEncoderTokens = 128;

}  // namespace

SentenceQueue::SentenceQueue(const TransformerConfig& config, const TokenBatch& source,
                             const std::vector<int>& routes, std::vector<int> sentences)
    : config_(config), source_(source), routes_(routes), order_(std::move(sentences)) {
  std::stable_sort(order_.begin(), order_.end(), [this](int a, int b) {
    if (decoder(a) != decoder(b)) return decoder(a) < decoder(b);
    return source_.length(a) > source_.length(b);
  });
}

std::vector<int> SentenceQueue::Take(int count) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<int> taken;
  int tokens = 0;
  while (next_ < order_.size() && static_cast<int>(taken.size()) < count) {
    const int sentence = order_[next_];
    tokens += source_.length(sentence);
    if (!taken.empty() &&
        (tokens > kEncoderTokens || decoder(sentence) != decoder(taken.front()))) {
      break;
    }
    taken.push_back(sentence);
    ++next_;
  }
  std::stable_sort(taken.begin(), taken.end(),
                   [this](int a, int b) { return route(a) < route(b); });
  return taken;
}

std::vector<int> SentenceQueue::Routes(const std::vector<int>& sentences) const {
  std::vector<int> routes;
  for (const int sentence : sentences) routes.push_back(route(sentence));
  return routes;
}

TokenBatch SentenceQueue::Tokens(const std::vector<int>& sentences) const {
  TokenBatch batch;
  for (const int sentence : sentences) {
    batch.Add(source_.ids.data() + source_.begins[sentence], source_.length(sentence));
  }
  return batch;
}

}  // namespace keras_mtl
