// What the operations check and read alike.
#ifndef KERAS_MTL_TF_OPS_INPUTS_H_
#define KERAS_MTL_TF_OPS_INPUTS_H_

#include <cstdint>

#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace keras_mtl {

// Operations on sentences take their matrix of ids as input 1, and as inputs 2, 3 and 4 what each
// sentence has one of; the last are the sentences' indices, which messages name them by.
constexpr int kMatrixInput = 1;
constexpr int kFirstVectorInput = 2;
constexpr int kIndicesInput = 4;

// Reads attributes: `more` are names, each followed by the address of its value.
inline absl::Status ReadAttributes(tensorflow::OpKernelConstruction* /*context*/) {
  return absl::OkStatus();
}
template <class Value, class... More>
absl::Status ReadAttributes(tensorflow::OpKernelConstruction* context, const char* name,
                            Value* value, More... more) {
  TF_RETURN_IF_ERROR(context->GetAttr(name, value));
  return ReadAttributes(context, more...);
}

// Shapes of the inputs on sentences. `count` receives the number of sentences, if it is known.
absl::Status SentenceShapes(tensorflow::shape_inference::InferenceContext* c,
                            tensorflow::shape_inference::DimensionHandle* count);

// The same of tensors: InvalidArgument unless there are [N, S] ids and [N] of all others.
absl::Status CheckSentences(tensorflow::OpKernelContext* context);

// InvalidArgument where input `lengths` holds more than the ids have columns, or less than 0.
absl::Status CheckLengths(tensorflow::OpKernelContext* context, int lengths);

}  // namespace keras_mtl

#endif  // KERAS_MTL_TF_OPS_INPUTS_H_
