// The model's output for one row: all tokens or only the best ones, as log-probabilities.
#ifndef KERAS_MTL_ENGINE_ROW_OUTPUTS_H_
#define KERAS_MTL_ENGINE_ROW_OUTPUTS_H_

#include <cstdint>

#include "engine/log_softmax.h"

namespace keras_mtl {

struct RowOutputs {
  const float* values = nullptr;    // [count]
  const int32_t* tokens = nullptr;  // [count]; null: column i is token i.
  int count = 0;
  bool normalized = false;  // Whether values are already log-probabilities.
  Normalizer normalizer;
  float wanted = 0.0f;  // Log-probability of BeamSearch::wanted().
  int attention = -1;   // Its row in the sentence's attention.

  int32_t token(int i) const { return tokens != nullptr ? tokens[i] : i; }

  float log_probability(float value) const {
    if (normalized) return value < 0.0f ? value : 0.0f;
    return LogProbability(value, normalizer);
  }
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_ROW_OUTPUTS_H_
