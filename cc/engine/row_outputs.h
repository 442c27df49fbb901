// The model's output for one row, whole or only the best tokens, as log-probabilities.
#ifndef KERAS_MTL_ENGINE_ROW_OUTPUTS_H_
#define KERAS_MTL_ENGINE_ROW_OUTPUTS_H_

#include <cstdint>

#include "engine/log_softmax.h"

namespace keras_mtl {

struct RowOutputs {
  const float* values = nullptr;    // [count]
  const int32_t* tokens = nullptr;  // [count]; null: token i is i.
  int count = 0;
  bool normalised = false;  // values are log-probabilities already.
  Normaliser normaliser;
  float wanted = 0.0f;  // Log-probability of BeamSearch::wanted().
  int attention = -1;   // Row of it in the sentence's attention.

  int32_t token(int i) const { return tokens != nullptr ? tokens[i] : i; }

  float log_probability(float value) const {
    if (normalised) return value < 0.0f ? value : 0.0f;
    return LogProbability(value, normaliser);
  }
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_ROW_OUTPUTS_H_
