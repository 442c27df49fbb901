// Weights in the layout that the matrix products of one instruction set read; kernels.h describes
// it. (AMX and VNNI have the same.)
#ifndef KERAS_MTL_KERNELS_PACK_H_
#define KERAS_MTL_KERNELS_PACK_H_

#include <cstdint>

#include "kernels/aligned_buffer.h"
#include "kernels/kernels.h"

namespace keras_mtl {

// Owns packed int8 weights [columns, depth].
class PackedInt8 {
 public:
  PackedInt8() = default;
  // weights [columns, depth], row-major, any int8; scales [columns], finite;
  // bias [columns], or null for none. The memory is that of `pages` where they are given.
  PackedInt8(const int8_t* weights, const float* scales, const float* bias, int columns, int depth,
             const KernelTable& kernels, HugePages* pages = nullptr);
  // Quantizes float weights [columns, depth]: symmetric, one scale a column, absmax / 127.
  static PackedInt8 Quantize(const float* weights, const float* bias, int columns, int depth,
                             const KernelTable& kernels, HugePages* pages = nullptr);

  // The columns `which` [count], each in [0, columns), as they are packed here.
  PackedInt8 Select(const int32_t* which, int count) const;

  // out [depth] = factor * scale * column `which` + shift [depth].
  void Column(int which, float factor, const float* shift, int depth, float* out) const;

  Int8Weights view() const;

 private:
  AlignedBuffer<int8_t> data_;
  AlignedBuffer<int32_t> compensation_;
  AlignedBuffer<float> scales_;
  AlignedBuffer<float> bias_;
  int columns_ = 0;
  int stride_ = 0;
  int block_ = kPanel;
};

// Owns packed float weights [columns, depth].
class PackedFloat {
 public:
  PackedFloat() = default;
  // weights [columns, depth], row-major; bias [columns], or null for none. `pages`: as above.
  PackedFloat(const float* weights, const float* bias, int columns, int depth,
              const KernelTable& kernels, HugePages* pages = nullptr);

  // See PackedInt8.
  PackedFloat Select(const int32_t* which, int count) const;

  // out [depth] = factor * column `which` + shift [depth].
  void Column(int which, float factor, const float* shift, float* out) const;

  FloatWeights view() const;

 private:
  AlignedBuffer<float> data_;
  AlignedBuffer<float> bias_;
  int columns_ = 0;
  int depth_ = 0;
  int block_ = kPanel;
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_PACK_H_
