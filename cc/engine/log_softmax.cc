#include "engine/log_softmax.h"

#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/kernels.h"

namespace keras_mtl {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr size_t kLanes = 16;

// 2^k * exp(r) with r = x - k * ln 2 in [-0.35, 0.35], by the Taylor series up to r^13 / 13!. The
// next term is below 5e-18.
inline double ExpNormal(double x) {
  constexpr double kLog2e = 1.4426950408889634;
  // ln 2 in two parts. The first ends in enough zero bits that its product with k is exact (Cody
  // and Waite).
  constexpr double kLn2High = 6.93147180369123816490e-01;
  constexpr double kLn2Low = 1.90821492927058770002e-10;
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer.
  const double shifted = x * kLog2e + kRound;
  const double k = shifted - kRound;
  const double r = (x - k * kLn2High) - k * kLn2Low;
  double p = 1.6059043836821613e-10;  // 1 / 13!
  p = p * r + 2.08767569878681e-09;
  p = p * r + 2.505210838544172e-08;
  p = p * r + 2.755731922398589e-07;
  p = p * r + 2.7557319223985893e-06;
  p = p * r + 2.48015873015873e-05;
  p = p * r + 1.984126984126984e-04;
  p = p * r + 1.3888888888888889e-03;
  p = p * r + 8.333333333333333e-03;
  p = p * r + 4.1666666666666664e-02;
  p = p * r + 1.6666666666666666e-01;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  uint64_t bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  // The low bits of `shifted` are k. Shifted into the exponent field, they give 2^k.
  const uint64_t exponent = (bits + 1023) << 52;
  double scale;
  std::memcpy(&scale, &exponent, sizeof(scale));
  return p * scale;
}

constexpr double kLowest = -708.0;  // 2^k would be subnormal below this.

}  // namespace

double Exp(double x) {
  if (x >= kLowest) return ExpNormal(x);
  if (x < -745.0) return 0.0;
  return ExpNormal(x + 64.0) * 1.603810890548638e-28;  // exp(-64)
}

Normalizer Normalize(const float* logits, size_t count) {
  Normalizer result;
  float highest = -kInfinity;
  bool valid = true;
  for (size_t i = 0; i < count; ++i) {
    valid &= logits[i] < kInfinity;  // false for NaN, too
    highest = logits[i] > highest ? logits[i] : highest;
  }
  result.valid = valid;
  if (!valid || highest == -kInfinity) return result;
  result.highest = highest;
  double lanes[kLanes] = {};
  const auto term = [highest](float logit) {
    // The sum contains a term of 1. Fewer than 2^80 terms of exp(-100) do not change its float32
    // value, so clamping is exact. It keeps the loop free of branches.
    const float shifted = logit - highest;
    return ExpNormal(shifted > -100.0f ? shifted : -100.0f);
  };
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += term(logits[i + lane]);
  }
  for (size_t lane = 0; i < count; ++i, ++lane) lanes[lane] += term(logits[i]);
  for (size_t width = kLanes / 2; width > 0; width /= 2) {
    for (size_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  result.log_total = static_cast<float>(Log(lanes[0]));
  return result;
}

}  // namespace keras_mtl
