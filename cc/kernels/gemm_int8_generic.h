// The int8 tile in plain C++, the reference for the others; gemm-inl.h specifies the interface.
#ifndef KERAS_MTL_KERNELS_GEMM_INT8_GENERIC_H_
#define KERAS_MTL_KERNELS_GEMM_INT8_GENERIC_H_

#include "kernels/kernels.h"

namespace keras_mtl {
namespace {

constexpr int kInt8TileRows = 4;
constexpr int kInt8MinRows = 1;
constexpr int kInt8Block = kPanel;
constexpr int kInt8Depth = 4;
constexpr uint8_t kRowFlip = 0;
constexpr Compensation kCompensation = Compensation::kNone;

inline void Int8Begin(int /*rows*/) {}
inline void Int8End() {}

template <int kColumns>
inline void Int8Tile(const int8_t* rows, int stride, int count, const int8_t* panel, int groups,
                     const int32_t* compensation, int32_t* acc) {
  for (int r = 0; r < count; ++r) {
    for (int n = 0; n < kColumns; ++n) acc[r * kPanel + n] = compensation[n];
  }
  for (int g = 0; g < groups; ++g) {
    for (int r = 0; r < count; ++r) {
      const int8_t* a = rows + static_cast<ptrdiff_t>(r) * stride + 4 * g;
      for (int n = 0; n < kColumns; ++n) {
        const int8_t* w = panel + (static_cast<ptrdiff_t>(g) * kColumns + n) * 4;
        acc[r * kPanel + n] += a[0] * w[0] + a[1] * w[1] + a[2] * w[2] + a[3] * w[3];
      }
    }
  }
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_GEMM_INT8_GENERIC_H_
