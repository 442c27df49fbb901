// KerasMtl>QuantizedMatMul: multiplies float rows, quantized on the fly, by int8 weights.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <shared_mutex>
#include <vector>

#include "engine/engine.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/util/work_sharder.h"
#include "tf_ops/options.h"

namespace keras_mtl {
namespace {

using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("KerasMtl>QuantizedMatMul")
    .Input("x: float")
    .Input("weights: int8")
    .Input("scales: float")
    .Output("product: float")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle x, weights, scales, head, out;
      TF_RETURN_IF_ERROR(c->WithRankAtLeast(c->input(0), 1, &x));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &weights));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 1, &scales));
      DimensionHandle depth, columns;
      TF_RETURN_IF_ERROR(c->Merge(c->Dim(x, -1), c->Dim(weights, 0), &depth));
      TF_RETURN_IF_ERROR(c->Merge(c->Dim(weights, 1), c->Dim(scales, 0), &columns));
      TF_RETURN_IF_ERROR(c->Subshape(x, 0, -1, &head));
      TF_RETURN_IF_ERROR(c->Concatenate(head, c->Vector(columns), &out));
      c->set_output(0, out);
      return absl::OkStatus();
    })
    .Doc(R"doc(
Multiplies rows of floats by int8 weights.

Each row is quantized to int8 with its own scale (absmax / 127, rounded half to even). The sum of
products is exact. product = sum * (scale of the row * scale of the column), bit-identical on every
processor. A row of zeros gives zeros. A row with an infinity or NaN gives NaN, and so does a column
with scale NaN.

x: [..., K].
weights: [K, N].
scales: [N], scale of each column's weights.
product: [..., N].
)doc");

// A cache of weights in the kernels' layout. Each call compares the weights with the cached copy in
// full, so that assignments to a variable are always noticed; this costs less than the product.
// There is one cache per process because eager code has one kernel for all layers and graphs have
// several kernels for one layer.
class PackedWeights {
 public:
  static PackedWeights& OfProcess() {
    // Never destroyed, because kernels may outlive static objects.
    static PackedWeights& all = *new PackedWeights;
    return all;
  }

  // weights [depth, columns], scales [columns].
  std::shared_ptr<const PackedInt8> Get(const Tensor& weights, const Tensor& scales,
                                        const KernelTable& kernels) {
    const auto bytes = weights.flat<int8_t>();
    const auto factors = scales.flat<float>();
    {
      std::shared_lock<std::shared_mutex> lock(mutex_);
      for (const auto& entry : entries_) {
        if (entry->kernels == &kernels && entry->shape == weights.shape() &&
            Same(entry->weights, bytes.data()) && Same(entry->scales, factors.data())) {
          entry->used = ++calls_;
          return {entry, &entry->packed};
        }
      }
    }
    const int depth = static_cast<int>(weights.dim_size(0));
    const int columns = static_cast<int>(weights.dim_size(1));
    auto entry = std::make_shared<Entry>();
    entry->kernels = &kernels;
    entry->shape = weights.shape();
    entry->weights.assign(bytes.data(), bytes.data() + bytes.size());
    entry->scales.assign(factors.data(), factors.data() + factors.size());
    std::vector<int8_t> transposed(entry->weights.size());
    for (int k = 0; k < depth; ++k) {
      for (int n = 0; n < columns; ++n) {
        transposed[static_cast<size_t>(n) * depth + k] =
            bytes.data()[static_cast<size_t>(k) * columns + n];
      }
    }
    entry->packed = PackedInt8(transposed.data(), factors.data(), nullptr, columns, depth, kernels);
    entry->used = ++calls_;
    std::unique_lock<std::shared_mutex> lock(mutex_);
    bytes_ += entry->weights.size();
    entries_.push_back(entry);
    // Evict the least recently used weights: changed weights and those of deleted models are never
    // used again.
    while (bytes_ > kMaxBytes && entries_.size() > 1) {
      const auto oldest = std::min_element(
          entries_.begin(), entries_.end(),
          [](const auto& a, const auto& b) { return a->used.load() < b->used.load(); });
      bytes_ -= (*oldest)->weights.size();
      *oldest = std::move(entries_.back());
      entries_.pop_back();
    }
    return {entry, &entry->packed};
  }

 private:
  // Maximum size of all cached weights. The packed copies need the same amount again.
  static constexpr size_t kMaxBytes = size_t{1} << 29;

  struct Entry {
    const KernelTable* kernels;
    mutable std::atomic<uint64_t> used;  // Number of the last call that used it.
    TensorShape shape;
    std::vector<int8_t> weights;
    std::vector<float> scales;
    PackedInt8 packed;
  };

  template <typename T>
  static bool Same(const std::vector<T>& ours, const T* theirs) {
    return std::memcmp(ours.data(), theirs, ours.size() * sizeof(T)) == 0;
  }

  std::atomic<uint64_t> calls_{0};
  std::shared_mutex mutex_;
  size_t bytes_ = 0;
  std::vector<std::shared_ptr<const Entry>> entries_;
};

class QuantizedMatMulOp : public tensorflow::OpKernel {
 public:
  explicit QuantizedMatMulOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, Guard([&] { kernels_ = &GetKernels(ChooseIsa(RequestedIsa())); }));
  }

  void Compute(tensorflow::OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    const Tensor& weights = context->input(1);
    const Tensor& scales = context->input(2);
    OP_REQUIRES(context, x.dims() >= 1 && weights.dims() == 2 && scales.dims() == 1,
                absl::InvalidArgumentError("x has shape " + x.shape().DebugString() + ", weights " +
                                           weights.shape().DebugString() + " and scales " +
                                           scales.shape().DebugString() +
                                           "; expected [..., K], [K, N] and [N]"));
    const int64_t depth = weights.dim_size(0), columns = weights.dim_size(1);
    OP_REQUIRES(context, x.dim_size(x.dims() - 1) == depth && scales.dim_size(0) == columns,
                absl::InvalidArgumentError("x has shape " + x.shape().DebugString() + ", weights " +
                                           weights.shape().DebugString() + " and scales " +
                                           scales.shape().DebugString() +
                                           "; expected [..., K], [K, N] and [N]"));
    OP_REQUIRES(context, depth <= kMaxInt8Depth,
                absl::InvalidArgumentError("weights have " + std::to_string(depth) +
                                           " rows; int8 supports at most " +
                                           std::to_string(kMaxInt8Depth)));
    TensorShape shape = x.shape();
    shape.set_dim(shape.dims() - 1, columns);
    Tensor* product = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &product));
    if (product->NumElements() == 0) return;
    if (depth == 0) {
      product->flat<float>().setZero();
      return;
    }
    OP_REQUIRES_OK(context, Guard([&] { Multiply(context, x, weights, scales, product); }));
  }

 private:
  void Multiply(tensorflow::OpKernelContext* context, const Tensor& x, const Tensor& weights,
                const Tensor& scales, Tensor* product) {
    const std::shared_ptr<const PackedInt8> packed =
        PackedWeights::OfProcess().Get(weights, scales, *kernels_);
    const Int8Weights view = packed->view();
    const int depth = static_cast<int>(weights.dim_size(0));
    const int64_t rows = x.NumElements() / depth;
    const tensorflow::DeviceBase::CpuWorkerThreads& threads =
        *context->device()->tensorflow_cpu_worker_threads();
    // With many rows, each thread quantizes and multiplies its share of the rows. With few rows,
    // threads share the panels instead.
    const int panels = RoundUp(view.columns, kPanel) / kPanel;
    const int64_t cost = static_cast<int64_t>(view.stride) * view.columns / 64 + depth;
    const float* in = x.flat<float>().data();
    float* out = product->flat<float>().data();
    const auto run = [&](int64_t begin, int64_t end, int first, int last) {
      const int count = static_cast<int>(end - begin);
      const int stride = RoundUp(depth, kDepthAlign);
      AlignedBuffer<int8_t> bytes(static_cast<size_t>(count) * stride);
      std::vector<float> row_scales(count);
      kernels_->quantize_rows(in + begin * depth, count, depth, depth, bytes.data(),
                              row_scales.data());
      kernels_->gemm_int8(
          {bytes.data(), row_scales.data(), count, stride}, view, first, last,
          {out + begin * view.columns, view.columns, Activation::kNone, Combine::kStore});
    };
    // Rows per block, so that the quantized rows stay in the cache.
    constexpr int64_t kBlock = 256;
    if (rows >= 2 * threads.num_threads) {
      tensorflow::Shard(threads.num_threads, threads.workers, rows, cost,
                        [&](int64_t begin, int64_t end) {
                          for (; begin < end; begin += kBlock) {
                            run(begin, std::min(end, begin + kBlock), 0, panels);
                          }
                        });
    } else {
      tensorflow::Shard(threads.num_threads, threads.workers, panels, rows * cost / panels,
                        [&](int64_t first, int64_t last) {
                          run(0, rows, static_cast<int>(first), static_cast<int>(last));
                        });
    }
  }

  const KernelTable* kernels_ = nullptr;
};

REGISTER_KERNEL_BUILDER(Name("KerasMtl>QuantizedMatMul").Device(tensorflow::DEVICE_CPU),
                        QuantizedMatMulOp);

}  // namespace
}  // namespace keras_mtl
