// int8 tile in AVX2. Contract in gemm-inl.h.
#ifndef KERAS_MTL_KERNELS_GEMM_INT8_AVX2_H_
#define KERAS_MTL_KERNELS_GEMM_INT8_AVX2_H_

#include <immintrin.h>

#include <cstring>

#include "kernels/kernels.h"
#include "kernels/unroll-inl.h"

namespace keras_mtl {
namespace {

// 4 rows x 16 columns fill 8 of the 16 registers; the weights, their magnitudes and temporaries
// take the rest.
constexpr int kInt8TileRows = 4;
constexpr int kInt8LeastRows = 1;
constexpr uint8_t kRowFlip = 0;

inline void Int8Begin(int /*rows*/) {}
inline void Int8End() {}

// 16 columns. vpmaddubsw multiplies unsigned by signed bytes and adds pairs in saturating int16:
// the weight's sign moves to the activation, so that a pair is at most 2 * 128 * 127 = 32512 and
// nothing saturates (activations are at least -127, as quantize_rows makes them). Pairs are widened
// by vpmaddwd at once: sums of int16 would overflow.
template <int kRows>
void Int8Block(const int8_t* rows, int stride, const int8_t* panel, int groups, int32_t* acc) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sums[kRows][2];
  Unroll<kRows>([&](auto r)
                    KERAS_MTL_ALWAYS_INLINE { sums[r][0] = sums[r][1] = _mm256_setzero_si256(); });
  for (int g = 0; g < groups; ++g) {
    const __m256i* w =
        reinterpret_cast<const __m256i*>(panel + static_cast<ptrdiff_t>(g) * kPanel * 4);
    const __m256i weights[2] = {_mm256_load_si256(w), _mm256_load_si256(w + 1)};
    const __m256i magnitudes[2] = {_mm256_abs_epi8(weights[0]), _mm256_abs_epi8(weights[1])};
    Unroll<kRows>([&](auto r) KERAS_MTL_ALWAYS_INLINE {
      int32_t four;
      std::memcpy(&four, rows + static_cast<ptrdiff_t>(r) * stride + 4 * g, sizeof(four));
      const __m256i a = _mm256_set1_epi32(four);
      Unroll<2>([&](auto v) KERAS_MTL_ALWAYS_INLINE {
        const __m256i pairs = _mm256_maddubs_epi16(magnitudes[v], _mm256_sign_epi8(a, weights[v]));
        sums[r][v] = _mm256_add_epi32(sums[r][v], _mm256_madd_epi16(pairs, ones));
      });
    });
  }
  Unroll<kRows>([&](auto r) KERAS_MTL_ALWAYS_INLINE {
    __m256i* out = reinterpret_cast<__m256i*>(acc + r * kPanel);
    _mm256_store_si256(out, sums[r][0]);
    _mm256_store_si256(out + 1, sums[r][1]);
  });
}

template <int kRows>
void Int8Blocks(const int8_t* rows, int stride, const int8_t* panel, int groups, int32_t* acc) {
  for (int column = 0; column < kPanel; column += 16) {
    Int8Block<kRows>(rows, stride, panel + 4 * column, groups, acc + column);
  }
}

inline void Int8Tile(const int8_t* rows, int stride, int count, const int8_t* panel, int groups,
                     const int32_t* /*compensation*/, int32_t* acc) {
  switch (count) {
    case 1:
      return Int8Blocks<1>(rows, stride, panel, groups, acc);
    case 2:
      return Int8Blocks<2>(rows, stride, panel, groups, acc);
    case 3:
      return Int8Blocks<3>(rows, stride, panel, groups, acc);
    case 4:
      return Int8Blocks<4>(rows, stride, panel, groups, acc);
  }
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_GEMM_INT8_AVX2_H_
