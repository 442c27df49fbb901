#include "tf_ops/inputs.h"

#include <string>

namespace keras_mtl {

using tensorflow::Tensor;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

absl::Status SentenceShapes(InferenceContext* c, DimensionHandle* count) {
  ShapeHandle matrix, vector;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(kMatrixInput), 2, &matrix));
  *count = c->Dim(matrix, 0);
  for (int i = kFirstVectorInput; i <= kIndicesInput; ++i) {
    TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 1, &vector));
    TF_RETURN_IF_ERROR(c->Merge(*count, c->Dim(vector, 0), count));
  }
  return absl::OkStatus();
}

absl::Status CheckSentences(tensorflow::OpKernelContext* context) {
  const auto fail = [context](int input, const char* wanted) {
    return absl::InvalidArgumentError(
        context->op_kernel().def().name() + ": input " + std::to_string(input) + " has shape " +
        context->input(input).shape().DebugString() + "; expected " + wanted);
  };
  const Tensor& matrix = context->input(kMatrixInput);
  if (matrix.dims() != 2) return fail(kMatrixInput, "[N, S], the ids of each sentence");
  for (int i = kFirstVectorInput; i <= kIndicesInput; ++i) {
    const Tensor& vector = context->input(i);
    if (vector.dims() != 1 || vector.dim_size(0) != matrix.dim_size(0)) {
      return fail(i, "[N], one entry per row of ids");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckLengths(tensorflow::OpKernelContext* context, int lengths) {
  const auto values = context->input(lengths).vec<int32_t>();
  const int64_t width = context->input(kMatrixInput).dim_size(1);
  for (int64_t i = 0; i < values.size(); ++i) {
    if (values(i) >= 0 && values(i) <= width) continue;
    const int64_t index = context->input(kIndicesInput).vec<int64_t>()(i);
    return absl::InvalidArgumentError("length " + std::to_string(values(i)) + " of sentence " +
                                      std::to_string(index) + " is not in [0, " +
                                      std::to_string(width) +
                                      "]; the upper limit is the number of "
                                      "columns of its ids");
  }
  return absl::OkStatus();
}

}  // namespace keras_mtl
