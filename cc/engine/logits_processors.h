// Changes to the logits of a row before they are normalised (clause 1 of the rule).
#ifndef KERAS_MTL_ENGINE_LOGITS_PROCESSORS_H_
#define KERAS_MTL_ENGINE_LOGITS_PROCESSORS_H_

#include <cstdint>
#include <vector>

namespace keras_mtl {

// What happens to the logit of a token: 0 forbids it; p > 0 divides a positive logit by p and
// multiplies a negative one by it.
struct LogitEdit {
  int32_t token;
  float penalty;
};

// Edits that follow from the tokens of a hypothesis so far, ascending by token, each token once.
//   repetition_penalty: of every token in `history`; 1 for none. Reference: Keskar et al., arXiv
//     1909.05858, section 4.1, with CTRL's later correction for negative logits.
//   no_repeat_ngram: forbids tokens that would complete a sequence of this length that `history`
//     holds already; 0 for none. A token that is forbidden is not penalised too.
std::vector<LogitEdit> HistoryEdits(const std::vector<int32_t>& history, float repetition_penalty,
                                    int no_repeat_ngram);

void ApplyEdits(const std::vector<LogitEdit>& edits, float* logits);

// Sets all but `allowed` (sorted ids) to -inf.
void KeepOnly(const std::vector<int32_t>& allowed, int vocabulary_size, float* logits);

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_LOGITS_PROCESSORS_H_
