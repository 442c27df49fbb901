// A linear layer in float32 or int8.
#ifndef KERAS_MTL_ENGINE_DENSE_H_
#define KERAS_MTL_ENGINE_DENSE_H_

#include <map>
#include <string>
#include <vector>

#include "engine/arena.h"
#include "engine/model_file.h"
#include "engine/thread_pool.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"

namespace keras_mtl {

// Named tensors, as a model file has them.
using TensorMap = std::map<std::string, Tensor>;

// int8: weights and activations in int8 (W8A8), everything else in float32.
enum class ComputeType { kFloat32, kInt8 };

// Rows of which one thread does no fewer: the work of some microseconds, where each row takes
// little (to normalize it, to quantize it).
constexpr int kRowGrain = 8;

// What the layers of one thread of work share.
struct Context {
  const KernelTable& kernels;
  ComputeType compute;
  Arena* arena;
  ThreadPool* pool;  // null: no threads inside an operation

  int threads() const { return pool == nullptr ? 1 : pool->threads(); }
};

// The input of a layer in the form that the compute type wants.
struct Rows {
  int count = 0;
  int depth = 0;
  const float* floats = nullptr;  // [count, depth]; float32 only
  const int8_t* bytes = nullptr;  // [count, RoundUp(depth, kDepthAlign)]; int8 only
  const float* scales = nullptr;  // [count]; int8 only

  FloatRows AsFloat() const { return {floats, count, depth}; }
  Int8Rows AsInt8() const { return {bytes, scales, count, RoundUp(depth, kDepthAlign)}; }
  // Rows [begin, begin + n).
  Rows Slice(int begin, int n) const;
  // Copies of rows index[0], ..., index[n - 1].
  Rows Gather(const int* index, int n, Arena* arena) const;
};

// x [count, depth] as input of a layer: itself in float32, quantized into the arena in int8.
Rows MakeRows(const Context& context, const float* x, int count, int depth);

class Dense {
 public:
  Dense() = default;
  // Reads `name`.weight [columns, depth], float32, or int8 with `name`.scale [columns], and
  // `name`.bias [columns] if `has_bias`; converts to the compute type. Throws ModelFileError.
  static Dense Load(const TensorMap& tensors, const std::string& name, int columns, int depth,
                    bool has_bias, ComputeType compute, const KernelTable& kernels,
                    HugePages* pages);

  // The layer of some of its outputs, `columns`, each in [0, columns()).
  Dense Select(const std::vector<int32_t>& columns, ComputeType compute) const;

  int columns() const { return columns_; }
  // out [depth] = factor * the weights of output `column` + shift [depth].
  void Column(int column, float factor, const float* shift, ComputeType compute, float* out) const;
  int panels() const { return RoundUp(columns_, kPanel) / kPanel; }

  // out [count, columns()], row by row without gaps.
  void Apply(const Context& context, const Rows& x, float* out,
             Activation activation = Activation::kNone, bool accumulate = false) const;
  // See KernelTable::project_int8; `bias` [panels() * kPanel].
  void Project(const Context& context, const Rows& x, const float* bias, int first, int last,
               LogitRow* rows, SegmentSum* sums) const;

 private:
  PackedInt8 int8_;
  PackedFloat float_;
  int columns_ = 0;
  int depth_ = 0;
};

// The tensor `name`, checked for its shape. Throws ModelFileError.
const Tensor& FindTensor(const TensorMap& tensors, const std::string& name,
                         const std::vector<int64_t>& shape);
// The same, which must be float32 and finite.
const float* FindFloats(const TensorMap& tensors, const std::string& name,
                        const std::vector<int64_t>& shape);

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_DENSE_H_
