// The int8 tile for AVX2; gemm-inl.h specifies the interface.
#ifndef KERAS_MTL_KERNELS_GEMM_INT8_AVX2_H_
#define KERAS_MTL_KERNELS_GEMM_INT8_AVX2_H_

#include <immintrin.h>

#include <cstring>

#include "kernels/kernels.h"
#include "kernels/unroll-inl.h"

namespace keras_mtl {
namespace {

// 4 rows x 16 columns use 8 of the 16 registers; the magnitudes and signs of weights, the ones and
// temporaries use the others.
constexpr int kInt8TileRows = 4;
constexpr int kInt8MinRows = 1;
constexpr int kInt8Block = 16;
constexpr int kInt8Depth = 4;
constexpr Compensation kCompensation = Compensation::kNegativeWeights;
constexpr uint8_t kRowFlip = 0;

inline void Int8Begin(int /*rows*/) {}
inline void Int8End() {}

// A block of 16 columns. vpmaddubsw multiplies unsigned by signed bytes and adds pairs in
// saturating int16. The unsigned operand is the magnitude of the weight; if the weight is negative,
// the bits of the activation x are flipped to -x - 1 (vpsignb, which negates, has half the
// throughput of vpxor). Since quantize_rows writes activations of at least -127, a pair lies
// between -2 * 128 * 128 and 2 * 128 * 127 and never saturates. vpmaddwd widens each pair
// immediately, because sums of pairs would overflow int16.
template <int kRows>
void Int8BlockOf(const int8_t* rows, int stride, const int8_t* block, int groups,
                 const int32_t* compensation, int32_t* acc) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sums[kRows][2];
  Unroll<2>([&](auto v) KERAS_MTL_ALWAYS_INLINE {
    const __m256i start =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(compensation + 8 * v));
    Unroll<kRows>([&](auto r) KERAS_MTL_ALWAYS_INLINE { sums[r][v] = start; });
  });
  for (int g = 0; g < groups; ++g) {
    __m256i magnitudes[2], negative[2];
    Unroll<2>([&](auto v) KERAS_MTL_ALWAYS_INLINE {
      const __m256i weights = _mm256_load_si256(reinterpret_cast<const __m256i*>(block) + v);
      magnitudes[v] = _mm256_abs_epi8(weights);
      negative[v] = _mm256_cmpgt_epi8(_mm256_setzero_si256(), weights);
    });
    block += kInt8Block * 4;
    Unroll<kRows>([&](auto r) KERAS_MTL_ALWAYS_INLINE {
      int32_t four;
      std::memcpy(&four, rows + static_cast<ptrdiff_t>(r) * stride + 4 * g, sizeof(four));
      const __m256i a = _mm256_set1_epi32(four);
      Unroll<2>([&](auto v) KERAS_MTL_ALWAYS_INLINE {
        const __m256i pairs = _mm256_maddubs_epi16(magnitudes[v], _mm256_xor_si256(a, negative[v]));
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

template <int kRows, int kColumns>
void Int8TileOf(const int8_t* rows, int stride, const int8_t* panel, int groups,
                const int32_t* compensation, int32_t* acc) {
  for (int column = 0; column < kColumns; column += kInt8Block) {
    Int8BlockOf<kRows>(rows, stride, panel + static_cast<ptrdiff_t>(4) * column * groups, groups,
                       compensation + column, acc + column);
  }
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
  }
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_GEMM_INT8_AVX2_H_
