// Hypotheses as outputs of an operation.
#ifndef KERAS_MTL_TF_OPS_HYPOTHESES_H_
#define KERAS_MTL_TF_OPS_HYPOTHESES_H_

#include <cstdint>
#include <vector>

#include "engine/beam_search.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace keras_mtl {

// Which output is which: N sentences, H hypotheses each, T tokens, S source tokens.
struct HypothesisOutputs {
  int ids;                // int32 [N, H, T], without end of sentence, filled up with pad_id.
  int lengths;            // int32 [N, H]
  int scores;             // float [N, H], -inf if there are fewer hypotheses.
  int log_probabilities;  // float [N, H], -inf if there are fewer.
  int ended;              // bool [N, H]
  int token_scores;       // float [N, H, T + 1], then 0.
  int alignments;         // float [N, H, T + 1, S], then 0.
};

// What all outputs have in common.
struct HypothesisShape {
  int hypotheses;  // H: those beyond it are left out.
  int64_t tokens;  // T: no hypothesis has more.
  int64_t source;  // S: no alignment has more columns; 0 leaves alignments out.
  int32_t pad_id;
};

// Allocates and fills the outputs. `found`: the hypotheses of each sentence, best first.
absl::Status SetHypotheses(tensorflow::OpKernelContext* context, const HypothesisOutputs& outputs,
                           const HypothesisShape& shape,
                           const std::vector<const std::vector<Hypothesis>*>& found);

// Most tokens of a hypothesis.
int64_t LongestHypothesis(const std::vector<const std::vector<Hypothesis>*>& found);

}  // namespace keras_mtl

#endif  // KERAS_MTL_TF_OPS_HYPOTHESES_H_
