// The float arithmetic of the search that is not a plain sum: the same on every processor. In
// float64, for the outputs of any model, with no instruction set to choose. The engine does not
// come here: its projection sums while logits are in registers (KernelTable::log_sum_exp), in
// float32.
#ifndef KERAS_MTL_ENGINE_LOG_SOFTMAX_H_
#define KERAS_MTL_ENGINE_LOG_SOFTMAX_H_

#include <cstddef>

namespace keras_mtl {

// exp(x) for x <= 0, within 1e-15 of the true value; 0 below -745. Written out because that of the
// C library may differ in the last bit from processor to processor.
double Exp(double x);

// log p[i] = min((logits[i] - highest) - log_total, 0): what is needed to normalise logits.
struct Normaliser {
  float highest = 0.0f;    // 0 where all are -inf, so that no difference is NaN.
  float log_total = 0.0f;  // log of the sum of exp(logits[i] - highest).
  bool valid = true;       // False where a logit is NaN or +inf.
};

// Sums in float64 over 16 lanes in a fixed order.
Normaliser Normalise(const float* logits, size_t count);

inline float LogProbability(float logit, const Normaliser& normaliser) {
  const float value = (logit - normaliser.highest) - normaliser.log_total;
  return value < 0.0f ? value : 0.0f;  // Rounding may leave it just above.
}

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_LOG_SOFTMAX_H_
