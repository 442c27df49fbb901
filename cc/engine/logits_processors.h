// Changes to the logits of a row before they are normalized (clause 1 of the rule).
#ifndef KERAS_MTL_ENGINE_LOGITS_PROCESSORS_H_
#define KERAS_MTL_ENGINE_LOGITS_PROCESSORS_H_

#include <cstdint>
#include <vector>

namespace keras_mtl {

// A change to the logit of a token. A penalty of 0 forbids the token; p > 0 divides a positive
// logit by p and multiplies a negative logit by p.
struct LogitEdit {
  int32_t token;
  float penalty;
};

// Edits that follow from the tokens of a hypothesis, ascending by token, at most one per token.
//   repetition_penalty: penalty of every token in `history`; 1 means none. Reference: Keskar et
//     al., arXiv:1909.05858, section 4.1, with CTRL's later correction for negative logits.
//   no_repeat_ngram: forbids tokens that would repeat an n-gram of this length in `history`; 0
//     forbids none. A forbidden token gets no repetition penalty.
std::vector<LogitEdit> HistoryEdits(const std::vector<int32_t>& history, float repetition_penalty,
                                    int no_repeat_ngram);

void ApplyEdits(const std::vector<LogitEdit>& edits, float* logits);

// Sets all logits except those of `allowed` (sorted ids) to -inf.
void KeepOnly(const std::vector<int32_t>& allowed, int vocabulary_size, float* logits);

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_LOGITS_PROCESSORS_H_
