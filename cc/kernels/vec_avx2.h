// Vectors of 16 floats as two registers of AVX2, with FMA. vec_generic.h specifies the functions.
#ifndef KERAS_MTL_KERNELS_VEC_AVX2_H_
#define KERAS_MTL_KERNELS_VEC_AVX2_H_

#include <immintrin.h>

#include <cstdint>

namespace keras_mtl {
namespace {

struct F32 {
  __m256 low, high;
};
struct I32 {
  __m256i low, high;
};

// 6 rows x 16 columns use 12 of the 16 registers.
constexpr int kFloatTileRows = 6;
constexpr int kFloatTileVectors = 1;
constexpr int kAttentionSums = 4;

// The mask of the first n of 8 lanes is loaded from kLanes + 8 - n.
alignas(64) constexpr int32_t kLanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
inline __m256i FirstLanes(int n) {
  const int clamped = n < 0 ? 0 : n > 8 ? 8 : n;
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kLanes + 8 - clamped));
}

inline F32 Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline F32 Set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F32 Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline F32 LoadN(const float* p, int n) {
  return {_mm256_maskload_ps(p, FirstLanes(n)), _mm256_maskload_ps(p + 8, FirstLanes(n - 8))};
}
inline void Store(float* p, F32 x) {
  _mm256_storeu_ps(p, x.low);
  _mm256_storeu_ps(p + 8, x.high);
}
inline void StoreN(float* p, F32 x, int n) {
  _mm256_maskstore_ps(p, FirstLanes(n), x.low);
  _mm256_maskstore_ps(p + 8, FirstLanes(n - 8), x.high);
}
inline F32 Add(F32 a, F32 b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
inline F32 Sub(F32 a, F32 b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
inline F32 Mul(F32 a, F32 b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
inline F32 Div(F32 a, F32 b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
inline F32 Fma(F32 a, F32 b, F32 c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline F32 Max(F32 a, F32 b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
inline F32 Min(F32 a, F32 b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
inline F32 Round(F32 x) {
  constexpr int kMode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(x.low, kMode), _mm256_round_ps(x.high, kMode)};
}
inline __m256 Pow2Half(__m256 n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
inline F32 Pow2(F32 n) { return {Pow2Half(n.low), Pow2Half(n.high)}; }
inline F32 ZeroWhereLess(F32 x, F32 limit, F32 value) {
  return {_mm256_and_ps(_mm256_cmp_ps(x.low, limit.low, _CMP_NLT_UQ), value.low),
          _mm256_and_ps(_mm256_cmp_ps(x.high, limit.high, _CMP_NLT_UQ), value.high)};
}
inline uint32_t MaskGreater(F32 a, F32 b) {
  const int low = _mm256_movemask_ps(_mm256_cmp_ps(a.low, b.low, _CMP_GT_OQ));
  const int high = _mm256_movemask_ps(_mm256_cmp_ps(a.high, b.high, _CMP_GT_OQ));
  return static_cast<uint32_t>(low | (high << 8));
}

inline float ReduceAdd(F32 x) {
  const __m256 a = _mm256_add_ps(x.low, x.high);
  __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
inline __m256 AddHalves(F32 a, F32 b) {  // four lanes of each
  const __m256 x = _mm256_add_ps(a.low, a.high), y = _mm256_add_ps(b.low, b.high);
  return _mm256_add_ps(_mm256_permute2f128_ps(x, y, 0x20), _mm256_permute2f128_ps(x, y, 0x31));
}
inline void ReduceAdd4(F32 a, F32 b, F32 c, F32 d, float* sums) {
  const __m256 ac = AddHalves(a, c), bd = AddHalves(b, d);
  // Two lanes of a and b, then two of c and d.
  __m256 x = _mm256_add_ps(_mm256_shuffle_ps(ac, bd, 0x44), _mm256_shuffle_ps(ac, bd, 0xEE));
  x = _mm256_add_ps(x, _mm256_movehdup_ps(x));
  _mm_storeu_ps(sums, _mm_shuffle_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1), 0x88));
}
inline float ReduceMax(F32 x) {
  const __m256 a = _mm256_max_ps(x.low, x.high);
  __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

inline I32 LoadInt(const int32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
}
inline F32 ToFloat(I32 x) { return {_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)}; }
inline I32 ZeroInt() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline I32 MagnitudeBits(F32 x) {
  const __m256i mask = _mm256_set1_epi32(0x7FFFFFFF);
  return {_mm256_and_si256(_mm256_castps_si256(x.low), mask),
          _mm256_and_si256(_mm256_castps_si256(x.high), mask)};
}
inline I32 MaxInt(I32 a, I32 b) {
  return {_mm256_max_epi32(a.low, b.low), _mm256_max_epi32(a.high, b.high)};
}
inline int32_t ReduceMaxInt(I32 x) {
  const __m256i a = _mm256_max_epi32(x.low, x.high);
  __m128i b = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  b = _mm_max_epi32(b, _mm_shuffle_epi32(b, 0x4E));
  return _mm_cvtsi128_si32(_mm_max_epi32(b, _mm_shuffle_epi32(b, 0xB1)));
}
inline __m128i PackHalf(__m256 x) {  // 8 floats to 8 int16
  const __m256i ints = _mm256_cvtps_epi32(x);
  return _mm_packs_epi32(_mm256_castsi256_si128(ints), _mm256_extracti128_si256(ints, 1));
}
// Loads 16 bytes written by StoreInt8 as floats.
inline F32 LoadInt8(const int8_t* p, uint8_t flip) {
  const __m128i flips = _mm_set1_epi8(static_cast<char>(flip));
  const __m128i bytes = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), flips);
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}
inline void StoreInt8(int8_t* p, F32 x, uint8_t flip) {
  const __m128i bytes = _mm_packs_epi16(PackHalf(x.low), PackHalf(x.high));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_xor_si128(bytes, _mm_set1_epi8(static_cast<char>(flip))));
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_VEC_AVX2_H_
