// Quantization, normalization and rotation of rows. Include after one of the vec_*.h and after the
// definition of kRowFlip.
#ifndef KERAS_MTL_KERNELS_ROWS_INL_H_
#define KERAS_MTL_KERNELS_ROWS_INL_H_

#include <cstring>

#include "kernels/kernels.h"

namespace keras_mtl {
namespace {

// Rows with a smaller absmax are treated as zeros, so that 127 / absmax is finite.
constexpr float kTinyMagnitude = 1e-30f;

// Calls f(i, 16) for i = 0, 16, ..., then f(i, n) for the last n < 16 lanes if there are any.
template <class Function>
inline void ForEachVector(int count, Function f) {
  int i = 0;
  for (; i + 16 <= count; i += 16) f(i, 16);
  if (i < count) f(i, count - i);
}

inline F32 LoadUpTo(const float* p, int n) { return n == 16 ? Load(p) : LoadN(p, n); }
inline void StoreUpTo(float* p, F32 x, int n) {
  if (n == 16) {
    Store(p, x);
  } else {
    StoreN(p, x, n);
  }
}

// Writes RoundUp(columns, kDepthAlign) bytes.
inline void QuantizeRow(const float* x, int columns, uint8_t flip, int8_t* data, float* scale) {
  I32 bits = ZeroInt();
  ForEachVector(columns,
                [&](int i, int n) { bits = MaxInt(bits, MagnitudeBits(LoadUpTo(x + i, n))); });
  const int32_t top = ReduceMaxInt(bits);
  float absmax;
  std::memcpy(&absmax, &top, sizeof(absmax));
  const int stride = RoundUp(columns, kDepthAlign);
  const bool finite = top < 0x7F800000;
  if (!finite || absmax < kTinyMagnitude) {
    std::memset(data, flip, stride);
    *scale = finite ? 1.0f : __builtin_nanf("");
    return;
  }
  const F32 inverse = Set(127.0f / absmax);
  // |x| * inverse is at most 127 (1 + 2^-23), which rounds to 127, so no clamping is needed.
  ForEachVector(columns, [&](int i, int n) {
    StoreInt8(data + i, Round(Mul(LoadUpTo(x + i, n), inverse)), flip);
  });
  const int written = RoundUp(columns, 16);
  std::memset(data + written, flip, stride - written);
  *scale = absmax / 127.0f;
}

// QuantizeRow with a given absmax. The pass that rounds also finds values that are not finite.
inline void QuantizeRowIn(float range, const float* x, int columns, uint8_t flip, int8_t* data,
                          float* scale) {
  const int stride = RoundUp(columns, kDepthAlign);
  const F32 inverse = Set(127.0f / range), top = Set(127.0f), bottom = Set(-127.0f);
  I32 bits = ZeroInt();
  ForEachVector(columns, [&](int i, int n) {
    const F32 v = LoadUpTo(x + i, n);
    bits = MaxInt(bits, MagnitudeBits(v));
    StoreInt8(data + i, Round(Max(Min(Mul(v, inverse), top), bottom)), flip);
  });
  if (ReduceMaxInt(bits) >= 0x7F800000) {
    std::memset(data, flip, stride);
    *scale = __builtin_nanf("");
    return;
  }
  const int written = RoundUp(columns, 16);
  std::memset(data + written, flip, stride - written);
  *scale = range / 127.0f;
}

void QuantizeRowsIn(float range, const float* x, int rows, int columns, int x_stride, int8_t* data,
                    float* scales) {
  const int stride = RoundUp(columns, kDepthAlign);
  for (int row = 0; row < rows; ++row) {
    QuantizeRowIn(range, x + static_cast<ptrdiff_t>(row) * x_stride, columns, kRowFlip,
                  data + static_cast<ptrdiff_t>(row) * stride, scales + row);
  }
}

void QuantizeRows(const float* x, int rows, int columns, int x_stride, int8_t* data,
                  float* scales) {
  const int stride = RoundUp(columns, kDepthAlign);
  for (int row = 0; row < rows; ++row) {
    QuantizeRow(x + static_cast<ptrdiff_t>(row) * x_stride, columns, kRowFlip,
                data + static_cast<ptrdiff_t>(row) * stride, scales + row);
  }
}

inline void LayerNormRow(const float* x, int columns, const float* gamma, const float* beta,
                         float epsilon, float* y) {
  F32 sum = Zero();
  ForEachVector(columns, [&](int i, int n) { sum = Add(sum, LoadUpTo(x + i, n)); });
  const float mean = ReduceAdd(sum) / static_cast<float>(columns);
  const F32 center = Set(mean);
  F32 squares = Zero();
  ForEachVector(columns, [&](int i, int n) {
    F32 d = Sub(LoadUpTo(x + i, n), center);
    if (n < 16) {  // the unused lanes are -mean: set them to 0
      float lanes[16];
      Store(lanes, d);
      d = LoadN(lanes, n);
    }
    squares = Fma(d, d, squares);
  });
  const float variance = ReduceAdd(squares) / static_cast<float>(columns);
  const F32 inverse = Set(1.0f / __builtin_sqrtf(variance + epsilon));
  ForEachVector(columns, [&](int i, int n) {
    const F32 normal = Mul(Sub(LoadUpTo(x + i, n), center), inverse);
    StoreUpTo(y + i, Fma(normal, LoadUpTo(gamma + i, n), LoadUpTo(beta + i, n)), n);
  });
}

inline void RmsNormRow(const float* x, int columns, const float* gamma, float epsilon, float* y) {
  F32 squares = Zero();
  ForEachVector(columns, [&](int i, int n) {
    const F32 v = LoadUpTo(x + i, n);
    squares = Fma(v, v, squares);
  });
  const float mean = ReduceAdd(squares) / static_cast<float>(columns);
  const F32 inverse = Set(1.0f / __builtin_sqrtf(mean + epsilon));
  ForEachVector(columns, [&](int i, int n) {
    StoreUpTo(y + i, Mul(Mul(LoadUpTo(x + i, n), inverse), LoadUpTo(gamma + i, n)), n);
  });
}

inline void NormRow(const float* x, int columns, const float* gamma, const float* beta,
                    float epsilon, float* y) {
  if (beta == nullptr) return RmsNormRow(x, columns, gamma, epsilon, y);
  LayerNormRow(x, columns, gamma, beta, epsilon, y);
}

void LayerNorm(const float* x, int rows, int columns, const float* gamma, const float* beta,
               float epsilon, float* y) {
  for (int row = 0; row < rows; ++row) {
    const ptrdiff_t offset = static_cast<ptrdiff_t>(row) * columns;
    NormRow(x + offset, columns, gamma, beta, epsilon, y + offset);
  }
}

void LayerNormQuantize(const float* x, int rows, int columns, const float* gamma, const float* beta,
                       float epsilon, float range, float* scratch, int8_t* data, float* scales) {
  const int stride = RoundUp(columns, kDepthAlign);
  for (int row = 0; row < rows; ++row) {
    NormRow(x + static_cast<ptrdiff_t>(row) * columns, columns, gamma, beta, epsilon, scratch);
    int8_t* out = data + static_cast<ptrdiff_t>(row) * stride;
    if (range > 0) {
      QuantizeRowIn(range, scratch, columns, kRowFlip, out, scales + row);
    } else {
      QuantizeRow(scratch, columns, kRowFlip, out, scales + row);
    }
  }
}

void Rotate(const float* table, int heads, int dim, float* x) {
  const int half = dim / 2;
  for (int head = 0; head < heads; ++head) {
    float* first = x + static_cast<ptrdiff_t>(head) * dim;
    float* second = first + half;
    ForEachVector(half, [&](int i, int n) {
      const F32 a = LoadUpTo(first + i, n), b = LoadUpTo(second + i, n);
      const F32 cosine = LoadUpTo(table + i, n), sine = LoadUpTo(table + half + i, n);
      StoreUpTo(first + i, Fma(a, cosine, Sub(Zero(), Mul(b, sine))), n);
      StoreUpTo(second + i, Fma(b, cosine, Mul(a, sine)), n);
    });
  }
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_ROWS_INL_H_
