// Checks of inputs and attributes that the operations share.
#ifndef KERAS_MTL_TF_OPS_INPUTS_H_
#define KERAS_MTL_TF_OPS_INPUTS_H_

#include <cstdint>

#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace keras_mtl {

// Operations on sentences have the matrix of ids as input 1 and vectors with one entry per sentence
// as inputs 2, 3 and 4. Input 4 holds the numbers of the sentences in messages.
constexpr int kMatrixInput = 1;
constexpr int kFirstVectorInput = 2;
constexpr int kIndicesInput = 4;

// Reads attributes: the arguments are names, each followed by the address of its value.
inline absl::Status ReadAttributes(tensorflow::OpKernelConstruction* /*context*/) {
  return absl::OkStatus();
}
template <class Value, class... More>
absl::Status ReadAttributes(tensorflow::OpKernelConstruction* context, const char* name,
                            Value* value, More... more) {
  TF_RETURN_IF_ERROR(context->GetAttr(name, value));
  return ReadAttributes(context, more...);
}

// Checks the shapes of the inputs on sentences. `count` receives the number of sentences, if known.
absl::Status SentenceShapes(tensorflow::shape_inference::InferenceContext* c,
                            tensorflow::shape_inference::DimensionHandle* count);

// Checks the tensors: InvalidArgument unless ids has shape [N, S] and all others [N].
absl::Status CheckSentences(tensorflow::OpKernelContext* context);

// InvalidArgument if input `lengths` contains a value below 0 or above the number of columns of
// ids.
absl::Status CheckLengths(tensorflow::OpKernelContext* context, int lengths);

}  // namespace keras_mtl

#endif  // KERAS_MTL_TF_OPS_INPUTS_H_
