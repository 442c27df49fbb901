#include "engine/logits_processors.h"

#include <algorithm>
#include <limits>

namespace keras_mtl {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

std::vector<LogitEdit> HistoryEdits(const std::vector<int32_t>& history, float repetition_penalty,
                                    int no_repeat_ngram) {
  std::vector<LogitEdit> edits;
  if (no_repeat_ngram > 0 && history.size() >= static_cast<size_t>(no_repeat_ngram)) {
    const size_t before = static_cast<size_t>(no_repeat_ngram) - 1;
    const auto last = history.end() - before;
    for (size_t i = 0; i + before < history.size(); ++i) {
      if (std::equal(last, history.end(), history.begin() + i)) {
        edits.push_back({history[i + before], 0.0f});
      }
    }
  }
  if (repetition_penalty != 1.0f) {
    for (const int32_t token : history) edits.push_back({token, repetition_penalty});
  }
  // The edit that forbids a token (penalty 0) sorts first, and std::unique keeps it.
  std::sort(edits.begin(), edits.end(), [](const LogitEdit& a, const LogitEdit& b) {
    return a.token != b.token ? a.token < b.token : a.penalty < b.penalty;
  });
  const auto same = [](const LogitEdit& a, const LogitEdit& b) { return a.token == b.token; };
  edits.erase(std::unique(edits.begin(), edits.end(), same), edits.end());
  return edits;
}

void ApplyEdits(const std::vector<LogitEdit>& edits, float* logits) {
  for (const LogitEdit& edit : edits) {
    float& logit = logits[edit.token];
    if (edit.penalty == 0.0f) {
      logit = -kInfinity;
    } else {
      logit = logit < 0.0f ? logit * edit.penalty : logit / edit.penalty;
    }
  }
}

void KeepOnly(const std::vector<int32_t>& allowed, int vocabulary_size, float* logits) {
  int32_t next = 0;
  for (const int32_t token : allowed) {
    std::fill(logits + next, logits + token, -kInfinity);
    next = token + 1;
  }
  std::fill(logits + next, logits + vocabulary_size, -kInfinity);
}

}  // namespace keras_mtl
