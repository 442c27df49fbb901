// Vectors of 16 floats in AVX-512. vec_generic.h specifies the functions.
#ifndef KERAS_MTL_KERNELS_VEC_AVX512_H_
#define KERAS_MTL_KERNELS_VEC_AVX512_H_

#include <immintrin.h>

#include <cstdint>

namespace keras_mtl {
namespace {

using F32 = __m512;
using I32 = __m512i;

constexpr int kFloatTileRows = 6;
constexpr int kFloatTileVectors = 4;
constexpr int kAttentionSums = 16;

inline __mmask16 FirstLanes(int n) { return static_cast<__mmask16>((1u << n) - 1); }

inline F32 Zero() { return _mm512_setzero_ps(); }
inline F32 Set(float x) { return _mm512_set1_ps(x); }
inline F32 Load(const float* p) { return _mm512_loadu_ps(p); }
inline F32 LoadN(const float* p, int n) { return _mm512_maskz_loadu_ps(FirstLanes(n), p); }
inline void Store(float* p, F32 x) { _mm512_storeu_ps(p, x); }
inline void StoreN(float* p, F32 x, int n) { _mm512_mask_storeu_ps(p, FirstLanes(n), x); }
inline F32 Add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
inline F32 Sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
inline F32 Mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
inline F32 Div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
inline F32 Fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
inline F32 Max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
inline F32 Min(F32 a, F32 b) { return _mm512_min_ps(a, b); }
inline F32 Round(F32 x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline F32 Pow2(F32 n) {
  const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}
inline F32 ZeroWhereLess(F32 x, F32 limit, F32 value) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), value);
}
inline uint32_t MaskGreater(F32 a, F32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }

inline __m256 UpperHalf(__m512 x) {
  return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
}
inline float ReduceAdd(F32 x) {
  const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), UpperHalf(x));
  __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
inline void ReduceAdd4(F32 a, F32 b, F32 c, F32 d, float* sums) {
  const F32 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
  const F32 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xEE));
  // Four lanes each of a, b, c and d.
  F32 x = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
  x = _mm512_add_ps(x, _mm512_permute_ps(x, 0x0E));
  x = _mm512_add_ps(x, _mm512_movehdup_ps(x));
  _mm_storeu_ps(sums, _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, x)));
}
inline float ReduceMax(F32 x) {
  const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(x), UpperHalf(x));
  __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

inline I32 LoadInt(const int32_t* p) { return _mm512_loadu_si512(p); }
inline F32 ToFloat(I32 x) { return _mm512_cvtepi32_ps(x); }
inline I32 ZeroInt() { return _mm512_setzero_si512(); }
inline I32 MagnitudeBits(F32 x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7FFFFFFF));
}
inline I32 MaxInt(I32 a, I32 b) { return _mm512_max_epi32(a, b); }
inline int32_t ReduceMaxInt(I32 x) {
  const __m256i high = _mm512_extracti64x4_epi64(x, 1);
  const __m256i a = _mm256_max_epi32(_mm512_castsi512_si256(x), high);
  __m128i b = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  b = _mm_max_epi32(b, _mm_shuffle_epi32(b, 0x4E));
  return _mm_cvtsi128_si32(_mm_max_epi32(b, _mm_shuffle_epi32(b, 0xB1)));
}
// Loads 16 bytes written by StoreInt8 as floats.
inline F32 LoadInt8(const int8_t* p, uint8_t flip) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m128i flips = _mm_set1_epi8(static_cast<char>(flip));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_xor_si128(bytes, flips)));
}
inline void StoreInt8(int8_t* p, F32 x, uint8_t flip) {
  const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_xor_si128(bytes, _mm_set1_epi8(static_cast<char>(flip))));
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_VEC_AVX512_H_
