// Options of beam search; beam_options.def lists them.
#ifndef KERAS_MTL_ENGINE_BEAM_OPTIONS_H_
#define KERAS_MTL_ENGINE_BEAM_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace keras_mtl {

enum class LengthPenalty { kNone, kPower, kGnmt, kLingvo, kConstant };

// "none", "power", "gnmt", "lingvo" or "constant". Throws InputError for another.
LengthPenalty ParseLengthPenalty(const std::string& name);
const char* LengthPenaltyName(LengthPenalty penalty);

struct BeamOptions {
#define KERAS_MTL_BEAM_OPTION(type, name, value) type name = value;
#include "engine/beam_options.def"
#undef KERAS_MTL_BEAM_OPTION

  // Throws InputError naming option, value and remedy. A vocabulary has 2 or more tokens.
  void Check(int vocabulary_size, int32_t eos_id) const;

  // Number of finished hypotheses that ends a sentence when there is a penalty.
  int max_finished() const;

  // Whether the score is anything but the plain log-probability.
  bool penalises() const {
    return (length_penalty != LengthPenalty::kNone && alpha != 0) || coverage_penalty != 0;
  }
};

// What the log-probability of a hypothesis of each length (end of sentence counted) is divided by:
// max_length + 1 values, rounded from float64; entry 0 is 1.
// Reference: gnmt is equation 14 of arXiv 1609.08144.
std::vector<float> LengthPenalties(const BeamOptions& options, int max_length);

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_BEAM_OPTIONS_H_
