// The int8 tile for AVX-512 VNNI; gemm-inl.h specifies the interface.
#ifndef KERAS_MTL_KERNELS_GEMM_INT8_VNNI_H_
#define KERAS_MTL_KERNELS_GEMM_INT8_VNNI_H_

#include <immintrin.h>

#include <cstring>

#include "kernels/kernels.h"
#include "kernels/unroll-inl.h"

namespace keras_mtl {
namespace {

// 6 rows x 4 vectors of sums, 4 vectors of weights and 1 of activations use 29 of the 32 registers.
constexpr int kInt8TileRows = 6;
constexpr int kInt8MinRows = 1;
constexpr int kInt8Block = kPanel;
constexpr int kInt8Depth = 4;
// vpdpbusd needs unsigned activations: x + 128, which is x XOR 0x80. Sums start at the compensation
// -128 * sum(weights), so that the result is the signed product. vpdpbusd does not saturate.
constexpr uint8_t kRowFlip = 0x80;
constexpr Compensation kCompensation = Compensation::kShiftedRows;

inline void Int8Begin(int /*rows*/) {}
inline void Int8End() {}

template <int kRows, int kColumns>
void Int8TileOf(const int8_t* rows, int stride, const int8_t* panel, int groups,
                const int32_t* compensation, int32_t* acc) {
  constexpr int kVectors = kColumns / 16;
  __m512i sums[kRows][kVectors];
  Unroll<kVectors>([&](auto v) KERAS_MTL_ALWAYS_INLINE {
    const __m512i start = _mm512_loadu_si512(compensation + 16 * v);
    Unroll<kRows>([&](auto r) KERAS_MTL_ALWAYS_INLINE { sums[r][v] = start; });
  });
  for (int g = 0; g < groups; ++g) {
    const int8_t* w = panel + static_cast<ptrdiff_t>(g) * kColumns * 4;
    __m512i weights[kVectors];
    Unroll<kVectors>([&](auto v)
                         KERAS_MTL_ALWAYS_INLINE { weights[v] = _mm512_load_si512(w + 64 * v); });
    Unroll<kRows>([&](auto r) KERAS_MTL_ALWAYS_INLINE {
      int32_t four;
      std::memcpy(&four, rows + static_cast<ptrdiff_t>(r) * stride + 4 * g, sizeof(four));
      const __m512i a = _mm512_set1_epi32(four);
      Unroll<kVectors>([&](auto v) KERAS_MTL_ALWAYS_INLINE {
        sums[r][v] = _mm512_dpbusd_epi32(sums[r][v], a, weights[v]);
      });
    });
  }
  Unroll<kRows>([&](auto r) KERAS_MTL_ALWAYS_INLINE {
    Unroll<kVectors>([&](auto v) KERAS_MTL_ALWAYS_INLINE {
      _mm512_store_si512(acc + r * kPanel + 16 * v, sums[r][v]);
    });
  });
}

template <int kColumns>
inline void Int8Tile(const int8_t* rows, int stride, int count, const int8_t* panel, int groups,
                     const int32_t* compensation, int32_t* acc) {
  switch (count) {
    case 1:
      return Int8TileOf<1, kColumns>(rows, stride, panel, groups, compensation, acc);
    case 2:
      return Int8TileOf<2, kColumns>(rows, stride, panel, groups, compensation, acc);
    case 3:
      return Int8TileOf<3, kColumns>(rows, stride, panel, groups, compensation, acc);
    case 4:
      return Int8TileOf<4, kColumns>(rows, stride, panel, groups, compensation, acc);
    case 5:
      return Int8TileOf<5, kColumns>(rows, stride, panel, groups, compensation, acc);
    case 6:
      return Int8TileOf<6, kColumns>(rows, stride, panel, groups, compensation, acc);
  }
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_GEMM_INT8_VNNI_H_
