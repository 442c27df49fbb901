// Weights in the layout of one instruction set's matrix products, which kernels.h describes. VNNI
// kernels can read the weights of AMX, which only have more padding in K.
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
  // weights [columns, depth], row-major, any int8 values; scales [columns], finite; bias [columns],
  // or null for none. If `pages` is given, it owns the memory.
  PackedInt8(const int8_t* weights, const float* scales, const float* bias, int columns, int depth,
             const KernelTable& kernels, HugePages* pages = nullptr);
  // Quantizes float weights [columns, depth] symmetrically, with one scale per column: absmax /
  // 127.
  static PackedInt8 Quantize(const float* weights, const float* bias, int columns, int depth,
                             const KernelTable& kernels, HugePages* pages = nullptr);

  // Returns the packed columns `which` [count], each in [0, columns).
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
  // weights [columns, depth], row-major; bias [columns], or null for none. `pages`: see PackedInt8.
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
