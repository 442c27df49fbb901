// Log-softmax in float64 for the outputs of any model, bit-identical on every processor. The engine
// does not use it: its projection sums in float32 while logits are in registers
// (KernelTable::log_sum_exp).
#ifndef KERAS_MTL_ENGINE_LOG_SOFTMAX_H_
#define KERAS_MTL_ENGINE_LOG_SOFTMAX_H_

#include <cstddef>

namespace keras_mtl {

// exp(x) for x <= 0, with a relative error below 1e-15; 0 below -745. The C library's exp() is not
// used because its last bit may differ between processors.
double Exp(double x);

// Normalizes logits: log p[i] = min((logits[i] - highest) - log_total, 0).
struct Normalizer {
  float highest = 0.0f;    // 0 if all logits are -inf, so that no difference is NaN.
  float log_total = 0.0f;  // log of the sum of exp(logits[i] - highest).
  bool valid = true;       // False if a logit is NaN or +inf.
};

// Sums in float64 over 16 lanes in a fixed order.
Normalizer Normalize(const float* logits, size_t count);

inline float LogProbability(float logit, const Normalizer& normalizer) {
  const float value = (logit - normalizer.highest) - normalizer.log_total;
  return value < 0.0f ? value : 0.0f;  // Rounding may make it slightly positive.
}

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_LOG_SOFTMAX_H_
