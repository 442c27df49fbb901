#include "kernels/pack.h"

#include <algorithm>
#include <vector>

namespace keras_mtl {
namespace {

AlignedBuffer<float> PaddedCopy(const float* values, int columns) {
  AlignedBuffer<float> result(RoundUp(columns, kPanel));
  if (values != nullptr) std::copy(values, values + columns, result.data());
  return result;
}

// Copies column `from` to column `to` of other panels: `groups` times `size` values, one group of
// all columns of a panel behind the other.
template <typename T>
void CopyColumn(const T* source, int from, T* target, int to, int groups, int size) {
  const size_t panel = static_cast<size_t>(groups) * size * kPanel;
  source += from / kPanel * panel + from % kPanel * static_cast<size_t>(size);
  target += to / kPanel * panel + to % kPanel * static_cast<size_t>(size);
  for (int g = 0; g < groups; ++g) {
    std::copy(source, source + size, target);
    source += static_cast<ptrdiff_t>(size) * kPanel;
    target += static_cast<ptrdiff_t>(size) * kPanel;
  }
}

}  // namespace

PackedInt8::PackedInt8(const int8_t* weights, const float* scales, const float* bias, int columns,
                       int depth)
    : data_(static_cast<size_t>(RoundUp(columns, kPanel)) * RoundUp(depth, kDepthAlign)),
      compensation_(RoundUp(columns, kPanel)),
      scales_(PaddedCopy(scales, columns)),
      bias_(PaddedCopy(bias, columns)),
      columns_(columns),
      stride_(RoundUp(depth, kDepthAlign)) {
  for (int n = 0; n < columns; ++n) {
    const int8_t* row = weights + static_cast<size_t>(n) * depth;
    int8_t* out = data_.data() + static_cast<size_t>(n / kPanel) * stride_ * kPanel;
    out += n % kPanel * 4;
    int32_t sum = 0;
    for (int k = 0; k < depth; ++k) {
      out[static_cast<size_t>(k / 4) * kPanel * 4 + k % 4] = row[k];
      sum += row[k];
    }
    compensation_[n] = -128 * sum;
  }
}

PackedInt8 PackedInt8::Quantize(const float* weights, const float* bias, int columns, int depth,
                                const KernelTable& kernels) {
  const int stride = RoundUp(depth, kDepthAlign);
  std::vector<int8_t> quantized(static_cast<size_t>(columns) * depth);
  std::vector<float> scales(columns);
  std::vector<int8_t> row(stride);
  for (int n = 0; n < columns; ++n) {
    kernels.quantize_rows(weights + static_cast<size_t>(n) * depth, 1, depth, depth, row.data(),
                          &scales[n]);
    int8_t* out = quantized.data() + static_cast<size_t>(n) * depth;
    for (int k = 0; k < depth; ++k) {
      out[k] = static_cast<int8_t>(static_cast<uint8_t>(row[k]) ^ kernels.row_flip);
    }
  }
  return PackedInt8(quantized.data(), scales.data(), bias, columns, depth);
}

PackedInt8 PackedInt8::Select(const int32_t* which, int count) const {
  PackedInt8 result;
  result.columns_ = count;
  result.stride_ = stride_;
  const int padded = RoundUp(count, kPanel);
  result.data_ = AlignedBuffer<int8_t>(static_cast<size_t>(padded) * stride_);
  result.compensation_ = AlignedBuffer<int32_t>(padded);
  result.scales_ = AlignedBuffer<float>(padded);
  result.bias_ = AlignedBuffer<float>(padded);
  for (int n = 0; n < count; ++n) {
    const int from = which[n];
    CopyColumn(data_.data(), from, result.data_.data(), n, stride_ / 4, 4);
    result.compensation_[n] = compensation_[from];
    result.scales_[n] = scales_[from];
    result.bias_[n] = bias_[from];
  }
  return result;
}

void PackedInt8::Column(int which, float factor, const float* shift, int depth, float* out) const {
  const int8_t* column = data_.data() + static_cast<size_t>(which / kPanel) * stride_ * kPanel;
  column += which % kPanel * 4;
  factor *= scales_[which];
  for (int k = 0; k < depth; ++k) {
    const int8_t value = column[static_cast<size_t>(k / 4) * kPanel * 4 + k % 4];
    out[k] = static_cast<float>(value) * factor + shift[k];
  }
}

Int8Weights PackedInt8::view() const {
  return {data_.data(), compensation_.data(), scales_.data(), bias_.data(), columns_, stride_};
}

PackedFloat::PackedFloat(const float* weights, const float* bias, int columns, int depth)
    : data_(static_cast<size_t>(RoundUp(columns, kPanel)) * depth),
      bias_(PaddedCopy(bias, columns)),
      columns_(columns),
      depth_(depth) {
  for (int n = 0; n < columns; ++n) {
    const float* row = weights + static_cast<size_t>(n) * depth;
    float* out = data_.data() + static_cast<size_t>(n / kPanel) * depth * kPanel + n % kPanel;
    for (int k = 0; k < depth; ++k) out[static_cast<size_t>(k) * kPanel] = row[k];
  }
}

PackedFloat PackedFloat::Select(const int32_t* which, int count) const {
  PackedFloat result;
  result.columns_ = count;
  result.depth_ = depth_;
  const int padded = RoundUp(count, kPanel);
  result.data_ = AlignedBuffer<float>(static_cast<size_t>(padded) * depth_);
  result.bias_ = AlignedBuffer<float>(padded);
  for (int n = 0; n < count; ++n) {
    CopyColumn(data_.data(), which[n], result.data_.data(), n, depth_, 1);
    result.bias_[n] = bias_[which[n]];
  }
  return result;
}

void PackedFloat::Column(int which, float factor, const float* shift, float* out) const {
  const float* column = data_.data() + static_cast<size_t>(which / kPanel) * depth_ * kPanel;
  column += which % kPanel;
  for (int k = 0; k < depth_; ++k) {
    out[k] = column[static_cast<size_t>(k) * kPanel] * factor + shift[k];
  }
}

FloatWeights PackedFloat::view() const { return {data_.data(), bias_.data(), columns_, depth_}; }

}  // namespace keras_mtl
