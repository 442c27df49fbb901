#include "kernels/pack.h"

#include <algorithm>
#include <vector>

namespace keras_mtl {
namespace {

AlignedBuffer<float> PaddedCopy(const float* values, int columns, HugePages* pages) {
  AlignedBuffer<float> result(RoundUp(columns, kPanel), pages);
  if (values != nullptr) std::copy(values, values + columns, result.data());
  return result;
}

// The start of column `n` and the distance between its k-groups, in units of a k-group of one
// column.
struct Place {
  size_t first;
  size_t step;
};
Place ColumnPlace(int n, int groups, int block) {
  return {static_cast<size_t>(n / block) * block * groups + n % block, static_cast<size_t>(block)};
}

// Returns the columns of a block of an int8 matrix.
int Int8Block(int columns, int block) { return columns <= kNarrowPanel ? kNarrowPanel : block; }

// Returns the bytes of a packed int8 matrix.
size_t PackedSize(int columns, int stride) {
  return static_cast<size_t>(columns <= kNarrowPanel ? kNarrowPanel : RoundUp(columns, kPanel)) *
         stride;
}

// Copies column `from` of `source`, in blocks of `block` columns, to column `to` of `target`, in
// blocks of `to_block` columns, with `size` values per k-group.
template <typename T>
void CopyColumn(const T* source, int from, int block, T* target, int to, int to_block, int groups,
                int size) {
  const Place place = ColumnPlace(from, groups, block), other = ColumnPlace(to, groups, to_block);
  source += place.first * size;
  target += other.first * size;
  for (int g = 0; g < groups; ++g) {
    std::copy(source, source + size, target);
    source += place.step * size;
    target += other.step * size;
  }
}

int32_t SumStart(const int8_t* weights, int depth, Compensation compensation) {
  int64_t start = 0;
  for (int k = 0; k < depth; ++k) {
    if (compensation == Compensation::kShiftedRows) start -= 128 * weights[k];
    if (compensation == Compensation::kNegativeWeights) start += weights[k] < 0 ? -weights[k] : 0;
  }
  return static_cast<int32_t>(start);  // 2^17 weights of -128 give 2^31, which wraps as sums do.
}

}  // namespace

PackedInt8::PackedInt8(const int8_t* weights, const float* scales, const float* bias, int columns,
                       int depth, const KernelTable& kernels, HugePages* pages)
    : data_(PackedSize(columns, RoundUp(depth, kernels.int8_depth)), pages),
      compensation_(RoundUp(columns, kPanel), pages),
      scales_(PaddedCopy(scales, columns, pages)),
      bias_(PaddedCopy(bias, columns, pages)),
      columns_(columns),
      stride_(RoundUp(depth, kernels.int8_depth)),
      block_(Int8Block(columns, kernels.int8_block)) {
  for (int n = 0; n < columns; ++n) {
    const int8_t* row = weights + static_cast<size_t>(n) * depth;
    const Place place = ColumnPlace(n, stride_ / 4, block_);
    int8_t* out = data_.data() + 4 * place.first;
    for (int k = 0; k < depth; ++k) out[k / 4 * place.step * 4 + k % 4] = row[k];
    compensation_[n] = SumStart(row, depth, kernels.compensation);
  }
}

PackedInt8 PackedInt8::Quantize(const float* weights, const float* bias, int columns, int depth,
                                const KernelTable& kernels, HugePages* pages) {
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
  return PackedInt8(quantized.data(), scales.data(), bias, columns, depth, kernels, pages);
}

PackedInt8 PackedInt8::Select(const int32_t* which, int count) const {
  PackedInt8 result;
  result.columns_ = count;
  result.stride_ = stride_;
  result.block_ = Int8Block(count, block_);
  const int padded = RoundUp(count, kPanel);
  result.data_ = AlignedBuffer<int8_t>(PackedSize(count, stride_));
  result.compensation_ = AlignedBuffer<int32_t>(padded);
  result.scales_ = AlignedBuffer<float>(padded);
  result.bias_ = AlignedBuffer<float>(padded);
  for (int n = 0; n < count; ++n) {
    const int from = which[n];
    CopyColumn(data_.data(), from, block_, result.data_.data(), n, result.block_, stride_ / 4, 4);
    result.compensation_[n] = compensation_[from];
    result.scales_[n] = scales_[from];
    result.bias_[n] = bias_[from];
  }
  return result;
}

void PackedInt8::Column(int which, float factor, const float* shift, int depth, float* out) const {
  const Place place = ColumnPlace(which, stride_ / 4, block_);
  const int8_t* column = data_.data() + 4 * place.first;
  factor *= scales_[which];
  for (int k = 0; k < depth; ++k) {
    const int8_t value = column[k / 4 * place.step * 4 + k % 4];
    out[k] = static_cast<float>(value) * factor + shift[k];
  }
}

Int8Weights PackedInt8::view() const {
  return {data_.data(), compensation_.data(), scales_.data(), bias_.data(), columns_, stride_};
}

PackedFloat::PackedFloat(const float* weights, const float* bias, int columns, int depth,
                         const KernelTable& kernels, HugePages* pages)
    : data_(static_cast<size_t>(RoundUp(columns, kPanel)) * depth, pages),
      bias_(PaddedCopy(bias, columns, pages)),
      columns_(columns),
      depth_(depth),
      block_(kernels.float_block) {
  for (int n = 0; n < columns; ++n) {
    const float* row = weights + static_cast<size_t>(n) * depth;
    const Place place = ColumnPlace(n, depth, block_);
    float* out = data_.data() + place.first;
    for (int k = 0; k < depth; ++k) out[k * place.step] = row[k];
  }
}

PackedFloat PackedFloat::Select(const int32_t* which, int count) const {
  PackedFloat result;
  result.columns_ = count;
  result.depth_ = depth_;
  result.block_ = block_;
  const int padded = RoundUp(count, kPanel);
  result.data_ = AlignedBuffer<float>(static_cast<size_t>(padded) * depth_);
  result.bias_ = AlignedBuffer<float>(padded);
  for (int n = 0; n < count; ++n) {
    CopyColumn(data_.data(), which[n], block_, result.data_.data(), n, block_, depth_, 1);
    result.bias_[n] = bias_[which[n]];
  }
  return result;
}

void PackedFloat::Column(int which, float factor, const float* shift, float* out) const {
  const Place place = ColumnPlace(which, depth_, block_);
  const float* column = data_.data() + place.first;
  for (int k = 0; k < depth_; ++k) {
    out[k] = column[k * place.step] * factor + shift[k];
  }
}

FloatWeights PackedFloat::view() const { return {data_.data(), bias_.data(), columns_, depth_}; }

}  // namespace keras_mtl
