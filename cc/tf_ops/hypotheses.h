// Writes hypotheses to the outputs of an operation.
#ifndef KERAS_MTL_TF_OPS_HYPOTHESES_H_
#define KERAS_MTL_TF_OPS_HYPOTHESES_H_

#include <cstdint>
#include <vector>

#include "engine/beam_search.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace keras_mtl {

// The index of each output: N sentences, H hypotheses each, T tokens, S source tokens.
struct HypothesisOutputs {
  int ids;                // int32 [N, H, T], without the end of sentence, padded with pad_id.
  int lengths;            // int32 [N, H]
  int scores;             // float [N, H], padded with -inf.
  int log_probabilities;  // float [N, H], padded with -inf.
  int ended;              // bool [N, H], padded with false.
  int token_scores;       // float [N, H, T + 1], padded with 0.
  int alignments;         // float [N, H, T + 1, S], padded with 0.
};

// The dimensions of the outputs.
struct HypothesisShape {
  int hypotheses;  // H: further hypotheses are dropped.
  int64_t tokens;  // T: at least the length of the longest hypothesis.
  int64_t source;  // S: at least the columns of every alignment; 0 omits alignments.
  int32_t pad_id;
};

// Allocates and fills the outputs. `found`: the hypotheses of each sentence, best first.
absl::Status SetHypotheses(tensorflow::OpKernelContext* context, const HypothesisOutputs& outputs,
                           const HypothesisShape& shape,
                           const std::vector<const std::vector<Hypothesis>*>& found);

// Returns the number of tokens of the longest hypothesis.
int64_t LongestHypothesis(const std::vector<const std::vector<Hypothesis>*>& found);

}  // namespace keras_mtl

#endif  // KERAS_MTL_TF_OPS_HYPOTHESES_H_
