#include "tf_ops/hypotheses.h"

#include <algorithm>
#include <limits>

namespace keras_mtl {

using tensorflow::Tensor;
using tensorflow::TensorShape;

absl::Status SetHypotheses(tensorflow::OpKernelContext* context, const HypothesisOutputs& outputs,
                           const HypothesisShape& shape,
                           const std::vector<const std::vector<Hypothesis>*>& found) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  const int64_t count = static_cast<int64_t>(found.size());
  const int64_t tokens = shape.tokens, width = shape.source;
  const TensorShape matrix({count, shape.hypotheses});
  TensorShape cube = matrix, scored = matrix;
  TF_RETURN_IF_ERROR(cube.AddDimWithStatus(tokens));
  TF_RETURN_IF_ERROR(scored.AddDimWithStatus(tokens + 1));
  TensorShape aligned = scored;
  TF_RETURN_IF_ERROR(aligned.AddDimWithStatus(width));
  Tensor *ids = nullptr, *lengths = nullptr, *scores = nullptr, *log_probabilities = nullptr;
  Tensor *ended = nullptr, *token_scores = nullptr, *alignments = nullptr;
  TF_RETURN_IF_ERROR(context->allocate_output(outputs.ids, cube, &ids));
  TF_RETURN_IF_ERROR(context->allocate_output(outputs.lengths, matrix, &lengths));
  TF_RETURN_IF_ERROR(context->allocate_output(outputs.scores, matrix, &scores));
  TF_RETURN_IF_ERROR(
      context->allocate_output(outputs.log_probabilities, matrix, &log_probabilities));
  TF_RETURN_IF_ERROR(context->allocate_output(outputs.ended, matrix, &ended));
  TF_RETURN_IF_ERROR(context->allocate_output(outputs.token_scores, scored, &token_scores));
  TF_RETURN_IF_ERROR(context->allocate_output(outputs.alignments, aligned, &alignments));
  ids->flat<int32_t>().setConstant(shape.pad_id);
  lengths->flat<int32_t>().setZero();
  scores->flat<float>().setConstant(kNone);
  log_probabilities->flat<float>().setConstant(kNone);
  ended->flat<bool>().setConstant(false);
  token_scores->flat<float>().setZero();
  alignments->flat<float>().setZero();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t kept =
        std::min(static_cast<int64_t>(found[i]->size()), static_cast<int64_t>(shape.hypotheses));
    for (int64_t n = 0; n < kept; ++n) {
      const Hypothesis& hypothesis = (*found[i])[n];
      const int64_t row = i * shape.hypotheses + n;
      lengths->flat<int32_t>()(row) = static_cast<int32_t>(hypothesis.ids.size());
      scores->flat<float>()(row) = hypothesis.score;
      log_probabilities->flat<float>()(row) = hypothesis.log_probability;
      ended->flat<bool>()(row) = hypothesis.ended;
      std::copy(hypothesis.ids.begin(), hypothesis.ids.end(),
                ids->flat<int32_t>().data() + row * tokens);
      std::copy(hypothesis.token_scores.begin(), hypothesis.token_scores.end(),
                token_scores->flat<float>().data() + row * (tokens + 1));
      if (width == 0 || hypothesis.alignment.empty()) continue;
      const int64_t steps = static_cast<int64_t>(hypothesis.token_scores.size());
      const int64_t columns = static_cast<int64_t>(hypothesis.alignment.size()) / steps;
      const float* weights = hypothesis.alignment.data();
      float* out = alignments->flat<float>().data() + row * (tokens + 1) * width;
      for (int64_t t = 0; t < steps; ++t) {
        std::copy(weights + t * columns, weights + (t + 1) * columns, out + t * width);
      }
    }
  }
  return absl::OkStatus();
}

int64_t LongestHypothesis(const std::vector<const std::vector<Hypothesis>*>& found) {
  size_t longest = 0;
  for (const auto* hypotheses : found) {
    for (const Hypothesis& hypothesis : *hypotheses) {
      longest = std::max(longest, hypothesis.ids.size());
    }
  }
  return static_cast<int64_t>(longest);
}

}  // namespace keras_mtl
