// A linear layer in float32 or int8.
#ifndef KERAS_MTL_ENGINE_DENSE_H_
#define KERAS_MTL_ENGINE_DENSE_H_

#include <map>
#include <string>
#include <vector>

#include "engine/adapters.h"
#include "engine/arena.h"
#include "engine/model_file.h"
#include "engine/thread_pool.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"

namespace keras_mtl {

// The named tensors of a model file.
using TensorMap = std::map<std::string, Tensor>;

// int8: weights and activations in int8 (W8A8), everything else in float32.
enum class ComputeType { kFloat32, kInt8 };

// Minimum number of rows per thread for cheap row-wise work (normalizing, quantizing). That is a
// few microseconds of work, enough to outweigh the cost of a thread's wake-up.
constexpr int kRowGrain = 8;

// What the layers of one worker share.
struct Context {
  const KernelTable& kernels;
  ComputeType compute;
  Arena* arena;
  ThreadPool* pool;  // null: no threads inside an operation
  // The adapters of the rows of the current batch; null if the model has none.
  const AdapterRows* adapters = nullptr;

  int threads() const { return pool == nullptr ? 1 : pool->threads(); }
};

// The input of a layer in the format of the compute type.
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
  // Copies rows index[0], ..., index[n - 1] into the arena.
  Rows Gather(const int* index, int n, Arena* arena) const;
};

// Makes x [count, depth] the input of a layer: x itself in float32, or quantized into the arena in
// int8. `range`: see Dense::input_range.
Rows MakeRows(const Context& context, const float* x, int count, int depth, float range = 0);

// Copies rows index[0], ..., index[n - 1] of x [*, dim] into the arena.
float* GatherRows(const Context& context, const float* x, int dim, const std::vector<int>& index);
// Adds y [n, dim] to rows index[0], ..., index[n - 1] of x [*, dim].
void AddToRows(const float* y, int dim, const std::vector<int>& index, float* x);

struct LowRankSet;

class Dense {
 public:
  Dense() = default;
  // Reads `name`.weight [columns, depth] (float32, or int8 with `name`.scale [columns]) and, if
  // `has_bias`, `name`.bias [columns], and `name`.input_range [1] if it exists. Converts to the
  // compute type. Throws ModelFileError.
  static Dense Load(const TensorMap& tensors, const std::string& name, int columns, int depth,
                    bool has_bias, ComputeType compute, const KernelTable& kernels,
                    HugePages* pages);

  // Reads the LoRA matrices `name`.lora.{set}.{member}.down and .up of all adapters, if there are
  // some. Throws ModelFileError.
  void LoadLowRank(const TensorMap& tensors, const std::string& name,
                   const std::vector<AdapterSet>& sets, ComputeType compute,
                   const KernelTable& kernels, HugePages* pages);

  // Returns the layer reduced to the outputs `columns`, each in [0, columns()).
  Dense Select(const std::vector<int32_t>& columns, ComputeType compute) const;

  int columns() const { return columns_; }
  // The magnitude of inputs that int8 maps to 127 in every row; 0: that of each row.
  float input_range() const { return input_range_; }
  // out [depth] = factor * the weights of output `column` + shift [depth].
  void Column(int column, float factor, const float* shift, ComputeType compute, float* out) const;
  int panels() const { return RoundUp(columns_, kPanel) / kPanel; }

  // out [count, columns()], row-major. Rows with an adapter of LoRA use its matrices.
  void Apply(const Context& context, const Rows& x, float* out,
             Activation activation = Activation::kNone, Combine combine = Combine::kStore) const;
  // See KernelTable::project_int8; `bias` [panels() * kPanel].
  void Project(const Context& context, const Rows& x, const float* bias, int first, int last,
               LogitRow* rows, SegmentSum* sums) const;

 private:
  // Apply() for a layer with LoRA. With an activation, `combine` must not be kAdd.
  void ApplyAdapted(const Context& context, const Rows& x, float* out, Activation activation,
                    Combine combine) const;
  // Adds to out [count, columns()] what LoRA computes from the rows that use it.
  void AddLowRank(const Context& context, const Rows& x, float* out) const;

  PackedInt8 int8_;
  PackedFloat float_;
  int columns_ = 0;
  int depth_ = 0;
  float input_range_ = 0;
  std::vector<LowRankSet> low_rank_;
};

// The LoRA matrices of a dense layer, by adapter of a set.
struct LowRankSet {
  int set;
  std::vector<Dense> down;  // [rank, depth]
  std::vector<Dense> up;    // [columns, rank]
};

// Returns the tensor `name`. Throws ModelFileError if it is missing or has another shape.
const Tensor& FindTensor(const TensorMap& tensors, const std::string& name,
                         const std::vector<int64_t>& shape);
// The same for a tensor that must be float32 and finite.
const float* FindFloats(const TensorMap& tensors, const std::string& name,
                        const std::vector<int64_t>& shape);

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_DENSE_H_
