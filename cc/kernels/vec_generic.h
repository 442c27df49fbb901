// Vectors of 16 floats in plain C++: the specification of and reference for the other vec_*.h.
//
// All vec_*.h define the same types and functions in an unnamed namespace. A file includes one of
// them and then the *-inl.h files, which use only these functions. A file with special compiler
// flags must not call inline functions of the C++ library: the linker might use its copy of such a
// function for code that must run on any processor.
#ifndef KERAS_MTL_KERNELS_VEC_GENERIC_H_
#define KERAS_MTL_KERNELS_VEC_GENERIC_H_

#include <cmath>
#include <cstdint>
#include <cstring>

namespace keras_mtl {
namespace {

struct F32 {
  float lane[16];
};
struct I32 {
  int32_t lane[16];
};

// Tile of the float product in registers: rows x vectors of 16 columns.
constexpr int kFloatTileRows = 1;
constexpr int kFloatTileVectors = 1;
// Vectors of attention sums in registers: queries x vectors of a head.
constexpr int kAttentionSums = 4;

template <class Function>
inline F32 EachLane(Function function) {
  F32 result;
  for (int i = 0; i < 16; ++i) result.lane[i] = function(i);
  return result;
}

inline F32 Set(float x) {
  return EachLane([&](int) { return x; });
}
inline F32 Zero() { return Set(0.0f); }
// Loads the first n lanes, 0 <= n <= 16; the others are 0.
inline F32 LoadN(const float* p, int n) {
  return EachLane([&](int i) { return i < n ? p[i] : 0.0f; });
}
inline F32 Load(const float* p) { return LoadN(p, 16); }
inline void StoreN(float* p, const F32& x, int n) {
  for (int i = 0; i < n; ++i) p[i] = x.lane[i];
}
inline void Store(float* p, const F32& x) { StoreN(p, x, 16); }
inline F32 Add(const F32& a, const F32& b) {
  return EachLane([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline F32 Sub(const F32& a, const F32& b) {
  return EachLane([&](int i) { return a.lane[i] - b.lane[i]; });
}
inline F32 Mul(const F32& a, const F32& b) {
  return EachLane([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline F32 Div(const F32& a, const F32& b) {
  return EachLane([&](int i) { return a.lane[i] / b.lane[i]; });
}
// a * b + c, rounded once.
inline F32 Fma(const F32& a, const F32& b, const F32& c) {
  return EachLane([&](int i) { return __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]); });
}
// Max and Min return the second operand if one operand is NaN or both are zero, as on x86.
inline F32 Max(const F32& a, const F32& b) {
  return EachLane([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline F32 Min(const F32& a, const F32& b) {
  return EachLane([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
// Rounds to the nearest integer, half to even.
inline F32 Round(const F32& x) {
  return EachLane([&](int i) { return __builtin_rintf(x.lane[i]); });
}
// 2^n for integral n in [-126, 127]. The result for NaN is unspecified.
inline F32 Pow2(const F32& n) {
  return EachLane([&](int i) {
    const float x = n.lane[i];
    const uint32_t bits = static_cast<uint32_t>(x == x ? static_cast<int32_t>(x) + 127 : 0) << 23;
    float result;
    std::memcpy(&result, &bits, sizeof(result));
    return result;
  });
}
// 0 in lanes where x < limit, else value.
inline F32 ZeroWhereLess(const F32& x, const F32& limit, const F32& value) {
  return EachLane([&](int i) { return x.lane[i] < limit.lane[i] ? 0.0f : value.lane[i]; });
}
// Bit i is set if a > b in lane i.
inline uint32_t MaskGreater(const F32& a, const F32& b) {
  uint32_t mask = 0;
  for (int i = 0; i < 16; ++i) mask |= static_cast<uint32_t>(a.lane[i] > b.lane[i]) << i;
  return mask;
}
// Adds the halves, four times; kernels.h specifies the order.
inline float ReduceAdd(F32 x) {
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) x.lane[i] = x.lane[i] + x.lane[i + half];
  }
  return x.lane[0];
}
// sums [4] = the sums of a, b, c and d.
inline void ReduceAdd4(const F32& a, const F32& b, const F32& c, const F32& d, float* sums) {
  sums[0] = ReduceAdd(a);
  sums[1] = ReduceAdd(b);
  sums[2] = ReduceAdd(c);
  sums[3] = ReduceAdd(d);
}
inline float ReduceMax(F32 x) {
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      x.lane[i] = x.lane[i] > x.lane[i + half] ? x.lane[i] : x.lane[i + half];
    }
  }
  return x.lane[0];
}

inline I32 LoadInt(const int32_t* p) {
  I32 result;
  std::memcpy(result.lane, p, sizeof(result.lane));
  return result;
}
inline F32 ToFloat(const I32& x) {
  return EachLane([&](int i) { return static_cast<float>(x.lane[i]); });
}
inline I32 ZeroInt() { return I32{}; }
// The bits of |x|. As integers, they have the order of the magnitudes, with infinity and then NaN
// as the largest.
inline I32 MagnitudeBits(const F32& x) {
  I32 result;
  std::memcpy(result.lane, x.lane, sizeof(result.lane));
  for (int i = 0; i < 16; ++i) result.lane[i] &= 0x7FFFFFFF;
  return result;
}
inline I32 MaxInt(const I32& a, const I32& b) {
  I32 result;
  for (int i = 0; i < 16; ++i) {
    result.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
  }
  return result;
}
inline int32_t ReduceMaxInt(const I32& x) {
  int32_t result = x.lane[0];
  for (int i = 1; i < 16; ++i) result = x.lane[i] > result ? x.lane[i] : result;
  return result;
}
// Loads 16 bytes written by StoreInt8 as floats.
inline F32 LoadInt8(const int8_t* p, uint8_t flip) {
  return EachLane([&](int i) {
    return static_cast<float>(static_cast<int8_t>(static_cast<uint8_t>(p[i]) ^ flip));
  });
}
// Stores integral x in [-127, 127] as 16 bytes, each XORed with `flip`.
inline void StoreInt8(int8_t* p, const F32& x, uint8_t flip) {
  for (int i = 0; i < 16; ++i) {
    p[i] = static_cast<int8_t>(static_cast<uint8_t>(static_cast<int8_t>(x.lane[i])) ^ flip);
  }
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_VEC_GENERIC_H_
