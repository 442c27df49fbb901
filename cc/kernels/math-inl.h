// exp, erf and the activations on vectors. Include after one of the vec_*.h.
#ifndef KERAS_MTL_KERNELS_MATH_INL_H_
#define KERAS_MTL_KERNELS_MATH_INL_H_

#include "kernels/kernels.h"

namespace keras_mtl {
namespace {

constexpr float kLowest = -3.402823466e38f;

// exp(x): x = n log 2 + r with |r| <= log(2) / 2, then the polynomial of degree 5 of Cephes' expf
// (S. Moshier, netlib.org/cephes) for (exp(r) - 1 - r) / r^2. The relative error is below 2e-7 on
// [-87.3, 88]. Returns 0 below, exp(88) above, and NaN for NaN.
inline F32 Exp(F32 x) {
  const F32 low = Set(-87.3365f);  // exp() is denormal below this
  F32 c = Min(Set(88.0f), x);      // so that n <= 127
  c = Max(low, c);
  const F32 n = Round(Mul(c, Set(1.44269504088896341f)));
  // log 2 in two parts; the product of n and the first is exact.
  F32 r = Fma(n, Set(-0.693359375f), c);
  r = Fma(n, Set(2.12194440e-4f), r);
  F32 p = Set(1.9875691500e-4f);
  p = Fma(p, r, Set(1.3981999507e-3f));
  p = Fma(p, r, Set(8.3334519073e-3f));
  p = Fma(p, r, Set(4.1665795894e-2f));
  p = Fma(p, r, Set(1.6666665459e-1f));
  p = Fma(p, r, Set(5.0000001201e-1f));
  const F32 y = Add(Fma(p, Mul(r, r), r), Set(1.0f));
  return ZeroWhereLess(x, low, Mul(y, Pow2(n)));
}

// erf(x) with an absolute error below 3e-7, by the rational function of XLA's float32 erf (openxla,
// xla/hlo/builder/lib/math.cc): x P(x^2) / Q(x^2) on [-4, 4]. erf(4) is 1 - 2e-8.
inline F32 Erf(F32 x) {
  const F32 c = Max(Set(-4.0f), Min(Set(4.0f), x));
  const F32 s = Mul(c, c);
  F32 p = Set(-2.72614225801306e-10f);
  p = Fma(p, s, Set(2.77068142495902e-08f));
  p = Fma(p, s, Set(-2.10102402082508e-06f));
  p = Fma(p, s, Set(-5.69250639462346e-05f));
  p = Fma(p, s, Set(-7.34990630326855e-04f));
  p = Fma(p, s, Set(-2.95459980854025e-03f));
  p = Fma(p, s, Set(-1.60960333262415e-02f));
  F32 q = Set(-1.45660718464996e-05f);
  q = Fma(q, s, Set(-2.13374055278905e-04f));
  q = Fma(q, s, Set(-1.68282697438203e-03f));
  q = Fma(q, s, Set(-7.37332916720468e-03f));
  q = Fma(q, s, Set(-1.42647390514189e-02f));
  return Div(Mul(c, p), q);
}

// Keras' relu, gelu(approximate=False) and silu.
template <Activation kActivation>
inline F32 Activate(F32 x) {
  if constexpr (kActivation == Activation::kRelu) return Max(Zero(), x);
  if constexpr (kActivation == Activation::kGelu) {
    const F32 erf = Erf(Mul(x, Set(0.70710678118654752f)));
    return Mul(Mul(Set(0.5f), x), Add(Set(1.0f), erf));
  }
  if constexpr (kActivation == Activation::kSilu) {
    return Div(x, Add(Set(1.0f), Exp(Sub(Zero(), x))));
  }
  return x;
}

template <Activation kActivation>
void ActivateArray(float* x, int count) {
  int i = 0;
  for (; i + 16 <= count; i += 16) Store(x + i, Activate<kActivation>(Load(x + i)));
  if (i < count) StoreN(x + i, Activate<kActivation>(LoadN(x + i, count - i)), count - i);
}

void ActivateAny(Activation activation, float* x, int count) {
  switch (activation) {
    case Activation::kNone:
      return;
    case Activation::kRelu:
      return ActivateArray<Activation::kRelu>(x, count);
    case Activation::kGelu:
      return ActivateArray<Activation::kGelu>(x, count);
    case Activation::kSilu:
      return ActivateArray<Activation::kSilu>(x, count);
  }
}

void ExpArray(float* x, int count) {
  int i = 0;
  for (; i + 16 <= count; i += 16) Store(x + i, Exp(Load(x + i)));
  if (i < count) StoreN(x + i, Exp(LoadN(x + i, count - i)), count - i);
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_MATH_INL_H_
