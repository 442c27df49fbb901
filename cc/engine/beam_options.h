// Options of beam search; beam_options.def lists them.
#ifndef KERAS_MTL_ENGINE_BEAM_OPTIONS_H_
#define KERAS_MTL_ENGINE_BEAM_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace keras_mtl {

enum class LengthPenalty { kNone, kPower, kGnmt, kLingvo, kConstant };

// Parses "none", "power", "gnmt", "lingvo" or "constant". Throws InputError for any other name.
LengthPenalty ParseLengthPenalty(const std::string& name);
const char* LengthPenaltyName(LengthPenalty penalty);

struct BeamOptions {
#define KERAS_MTL_BEAM_OPTION(type, name, value) type name = value;
#include "engine/beam_options.def"
#undef KERAS_MTL_BEAM_OPTION

  // Throws InputError naming the option, its value and the remedy. `vocabulary_size` must be >= 2.
  void Check(int vocabulary_size, int32_t eos_id) const;

  // Number of finished hypotheses at which a sentence ends if there is a penalty.
  int max_finished() const;

  // Whether scores differ from plain log-probabilities.
  bool penalizes() const {
    return (length_penalty != LengthPenalty::kNone && alpha != 0) || coverage_penalty != 0;
  }
};

// The divisor of the log-probability for each hypothesis length, end of sentence included:
// max_length + 1 values, rounded from float64; entry 0 is 1.
// Reference: "gnmt" is equation 14 of arXiv:1609.08144.
std::vector<float> LengthPenalties(const BeamOptions& options, int max_length);

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_BEAM_OPTIONS_H_
