// Options of beam search: the names, defaults and meanings of keras_mtl.decoding.BeamOptions.
#ifndef KERAS_MTL_ENGINE_BEAM_OPTIONS_H_
#define KERAS_MTL_ENGINE_BEAM_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace keras_mtl {

enum class LengthPenalty { kNone, kPower, kGnmt, kLingvo, kConstant };

// "none", "power", "gnmt", "lingvo" or "constant". Throws InputError for another.
LengthPenalty ParseLengthPenalty(const std::string& name);

struct BeamOptions {
  int beam_size = 4;
  int num_hypotheses = 1;
  double patience = 1.0;
  int min_length = 1;
  int max_length = 256;
  LengthPenalty length_penalty = LengthPenalty::kPower;
  double alpha = 1.0;
  double length_penalty_constant = 5.0;
  std::vector<int32_t> suppress;
  bool score_prefix = true;
  bool early_exit = true;

  double coverage_penalty = 0.0;
  double repetition_penalty = 1.0;
  int no_repeat_ngram = 0;

  bool sampling = false;
  double temperature = 1.0;
  int top_k = 0;
  double top_p = 1.0;
  uint64_t seed = 0;

  // Lingvo's rule in place of clauses 2 to 6; the five behind it are read only then.
  bool lingvo_pruning = false;
  double eos_max_logit_delta = 5.0;
  double local_eos_threshold = -100.0;
  double beam_gap = 3.0;
  bool ensure_full_beam = false;
  bool force_eos_in_last_step = false;

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
