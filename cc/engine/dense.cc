#include "engine/dense.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/errors.h"

namespace keras_mtl {
namespace {

// Quantization treats rows with a smaller absmax as zeros; see kernels/rows-inl.h.
constexpr float kLeastRange = 1e-30f;

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

// Returns the range of the inputs of a layer, or 0 if there is no such tensor.
float InputRange(const TensorMap& tensors, const std::string& name) {
  if (tensors.count(name) == 0) return 0;
  const float range = FindFloats(tensors, name, {1})[0];
  if (range < kLeastRange) {
    throw ModelFileError("tensor '" + name + "' is " + std::to_string(range) +
                         "; a range must be above 0: export the model again");
  }
  return range;
}

}  // namespace

const Tensor& FindTensor(const TensorMap& tensors, const std::string& name,
                         const std::vector<int64_t>& shape) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) throw ModelFileError("tensor '" + name + "' is missing");
  if (found->second.shape != shape) {
    throw ModelFileError("tensor '" + name + "' has shape " + ShapeText(found->second.shape) +
                         "; the model's hyperparameters require " + ShapeText(shape));
  }
  return found->second;
}

const float* FindFloats(const TensorMap& tensors, const std::string& name,
                        const std::vector<int64_t>& shape) {
  const Tensor& tensor = FindTensor(tensors, name, shape);
  if (tensor.dtype != DType::kFloat32) throw ModelFileError("tensor '" + name + "' is not float32");
  int64_t size = 1;
  for (int64_t dimension : shape) size *= dimension;
  for (int64_t i = 0; i < size; ++i) {
    if (!std::isfinite(tensor.float32()[i])) {
      throw ModelFileError("tensor '" + name + "' contains " + std::to_string(tensor.float32()[i]) +
                           " at element " + std::to_string(i) +
                           "; weights must be finite: export an earlier checkpoint");
    }
  }
  return tensor.float32();
}

Rows Rows::Slice(int begin, int n) const {
  Rows rows = *this;
  rows.count = n;
  const ptrdiff_t first = begin;
  if (floats != nullptr) rows.floats += first * depth;
  if (bytes != nullptr) rows.bytes += first * RoundUp(depth, kDepthAlign);
  if (scales != nullptr) rows.scales += first;
  return rows;
}

Rows Rows::Gather(const int* index, int n, Arena* arena) const {
  Rows rows;
  rows.count = n;
  rows.depth = depth;
  const auto copy = [&](const auto* from, size_t stride) {
    auto* to = arena->Allocate<std::decay_t<decltype(*from)>>(n * stride);
    for (int i = 0; i < n; ++i) std::copy_n(from + index[i] * stride, stride, to + i * stride);
    return to;
  };
  if (floats != nullptr) rows.floats = copy(floats, depth);
  if (bytes != nullptr) rows.bytes = copy(bytes, RoundUp(depth, kDepthAlign));
  if (scales != nullptr) rows.scales = copy(scales, 1);
  return rows;
}

float* GatherRows(const Context& context, const float* x, int dim, const std::vector<int>& index) {
  float* rows = context.arena->Allocate<float>(index.size() * dim);
  for (size_t i = 0; i < index.size(); ++i) {
    std::copy_n(x + static_cast<ptrdiff_t>(index[i]) * dim, dim, rows + i * dim);
  }
  return rows;
}

void AddToRows(const float* y, int dim, const std::vector<int>& index, float* x) {
  for (size_t i = 0; i < index.size(); ++i) {
    float* row = x + static_cast<ptrdiff_t>(index[i]) * dim;
    for (int k = 0; k < dim; ++k) row[k] += y[i * dim + k];
  }
}

Rows MakeRows(const Context& context, const float* x, int count, int depth, float range) {
  Rows rows;
  rows.count = count;
  rows.depth = depth;
  if (context.compute == ComputeType::kFloat32) {
    rows.floats = x;
    return rows;
  }
  int8_t* bytes =
      context.arena->Allocate<int8_t>(static_cast<size_t>(count) * RoundUp(depth, kDepthAlign));
  float* scales = context.arena->Allocate<float>(count);
  const ptrdiff_t stride = RoundUp(depth, kDepthAlign);
  ParallelFor(context.pool, count, kRowGrain, [&](int, int begin, int end) {
    const float* first = x + static_cast<ptrdiff_t>(begin) * depth;
    int8_t* data = bytes + begin * stride;
    if (range > 0) {
      context.kernels.quantize_rows_in(range, first, end - begin, depth, depth, data,
                                       scales + begin);
    } else {
      context.kernels.quantize_rows(first, end - begin, depth, depth, data, scales + begin);
    }
  });
  rows.bytes = bytes;
  rows.scales = scales;
  return rows;
}

Dense Dense::Load(const TensorMap& tensors, const std::string& name, int columns, int depth,
                  bool has_bias, ComputeType compute, const KernelTable& kernels,
                  HugePages* pages) {
  const float* bias = has_bias ? FindFloats(tensors, name + ".bias", {columns}) : nullptr;
  const std::string weight_name = name + ".weight";
  Dense dense;
  dense.columns_ = columns;
  dense.depth_ = depth;
  dense.input_range_ = InputRange(tensors, name + ".input_range");
  const Tensor& tensor = FindTensor(tensors, weight_name, {columns, depth});
  if (tensor.dtype == DType::kFloat32) {
    const float* weights = FindFloats(tensors, weight_name, {columns, depth});
    if (compute == ComputeType::kFloat32) {
      dense.float_ = PackedFloat(weights, bias, columns, depth, kernels, pages);
    } else {
      dense.int8_ = PackedInt8::Quantize(weights, bias, columns, depth, kernels, pages);
    }
    return dense;
  }
  if (tensor.dtype != DType::kInt8) {
    throw ModelFileError("tensor '" + weight_name + "' is neither float32 nor int8");
  }
  const float* scales = FindFloats(tensors, name + ".scale", {columns});
  if (compute == ComputeType::kInt8) {
    dense.int8_ = PackedInt8(tensor.int8(), scales, bias, columns, depth, kernels, pages);
    return dense;
  }
  std::vector<float> weights(static_cast<size_t>(columns) * depth);
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] = static_cast<float>(tensor.int8()[i]) * scales[i / depth];
  }
  dense.float_ = PackedFloat(weights.data(), bias, columns, depth, kernels, pages);
  return dense;
}

void Dense::LoadLowRank(const TensorMap& tensors, const std::string& name,
                        const std::vector<AdapterSet>& sets, ComputeType compute,
                        const KernelTable& kernels, HugePages* pages) {
  for (size_t set = 0; set < sets.size(); ++set) {
    const std::string prefix = name + ".lora." + std::to_string(set) + ".";
    if (sets[set].kind != AdapterKind::kLowRank || tensors.count(prefix + "0.down.weight") == 0)
      continue;
    LowRankSet found{static_cast<int>(set), {}, {}};
    for (int member = 0; member < sets[set].count; ++member) {
      const std::string own = prefix + std::to_string(member);
      found.down.push_back(
          Load(tensors, own + ".down", sets[set].size, depth_, false, compute, kernels, pages));
      found.up.push_back(
          Load(tensors, own + ".up", columns_, sets[set].size, false, compute, kernels, pages));
    }
    low_rank_.push_back(std::move(found));
  }
}

Dense Dense::Select(const std::vector<int32_t>& columns, ComputeType compute) const {
  Dense dense;
  dense.columns_ = static_cast<int>(columns.size());
  dense.depth_ = depth_;
  dense.input_range_ = input_range_;
  if (compute == ComputeType::kInt8) {
    dense.int8_ = int8_.Select(columns.data(), dense.columns_);
  } else {
    dense.float_ = float_.Select(columns.data(), dense.columns_);
  }
  return dense;
}

void Dense::Column(int column, float factor, const float* shift, ComputeType compute,
                   float* out) const {
  if (compute == ComputeType::kInt8) {
    int8_.Column(column, factor, shift, depth_, out);
  } else {
    float_.Column(column, factor, shift, out);
  }
}

void Dense::Apply(const Context& context, const Rows& x, float* out, Activation activation,
                  Combine combine) const {
  // LoRA is added before the activation.
  if (context.adapters != nullptr && !low_rank_.empty()) {
    return ApplyAdapted(context, x, out, activation, combine);
  }
  const Output output{out, columns_, activation, combine};
  ParallelFor(context.pool, panels(), 1, [&](int, int first, int last) {
    if (context.compute == ComputeType::kInt8) {
      context.kernels.gemm_int8(x.AsInt8(), int8_.view(), first, last, output);
    } else {
      context.kernels.gemm_float(x.AsFloat(), float_.view(), first, last, output);
    }
  });
}

void Dense::ApplyAdapted(const Context& context, const Rows& x, float* out, Activation activation,
                         Combine combine) const {
  const Arena::Scope scope(context.arena);
  Context plain = context;
  plain.adapters = nullptr;
  const bool multiplies = combine == Combine::kMultiply;
  float* y = out;
  if (multiplies) y = context.arena->Allocate<float>(static_cast<size_t>(x.count) * columns_);
  Apply(plain, x, y, Activation::kNone, multiplies ? Combine::kStore : combine);
  AddLowRank(context, x, y);
  if (activation == Activation::kNone && !multiplies) return;
  ParallelFor(context.pool, x.count, kRowGrain, [&](int, int begin, int end) {
    for (int i = begin; i < end; ++i) {
      float* row = y + static_cast<ptrdiff_t>(i) * columns_;
      context.kernels.activate(activation, row, columns_);
      if (!multiplies) continue;
      float* product = out + static_cast<ptrdiff_t>(i) * columns_;
      for (int k = 0; k < columns_; ++k) product[k] *= row[k];
    }
  });
}

void Dense::AddLowRank(const Context& context, const Rows& x, float* out) const {
  for (const LowRankSet& each : low_rank_) {
    for (const AdapterGroup& group : context.adapters->groups(each.set)) {
      const Arena::Scope scope(context.arena);
      const int n = group.count();
      const Dense& down = each.down[group.adapter];
      float* hidden = context.arena->Allocate<float>(static_cast<size_t>(n) * down.columns_);
      down.Apply(context,
                 group.adjacent() ? x.Slice(group.first(), n)
                                  : x.Gather(group.rows.data(), n, context.arena),
                 hidden);
      const Rows rows = MakeRows(context, hidden, n, down.columns_);
      const Dense& up = each.up[group.adapter];
      if (group.adjacent()) {
        up.Apply(context, rows, out + static_cast<ptrdiff_t>(group.first()) * columns_,
                 Activation::kNone, Combine::kAdd);
        continue;
      }
      float* y = context.arena->Allocate<float>(static_cast<size_t>(n) * columns_);
      up.Apply(context, rows, y);
      AddToRows(y, columns_, group.rows, out);
    }
  }
}

void Dense::Project(const Context& context, const Rows& x, const float* bias, int first, int last,
                    LogitRow* rows, SegmentSum* sums) const {
  if (context.compute == ComputeType::kInt8) {
    context.kernels.project_int8(x.AsInt8(), int8_.view(), bias, first, last, rows, sums);
  } else {
    context.kernels.project_float(x.AsFloat(), float_.view(), bias, first, last, rows, sums);
  }
}

}  // namespace keras_mtl
