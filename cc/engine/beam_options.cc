#include "engine/beam_options.h"

#include <cmath>
#include <sstream>

#include "engine/errors.h"

namespace keras_mtl {
namespace {

// Bounds that keep products of sizes within 64 bits, far above realistic values.
constexpr int kMaxBeamSize = 1 << 20;
constexpr int kMaxLength = 1 << 24;

constexpr LengthPenalty kLengthPenalties[] = {LengthPenalty::kNone, LengthPenalty::kPower,
                                              LengthPenalty::kGnmt, LengthPenalty::kLingvo,
                                              LengthPenalty::kConstant};

template <typename T>
[[noreturn]] void Fail(const char* name, T value, const std::string& remedy) {
  std::ostringstream text;
  text << name << "=" << value << ": " << remedy;
  throw InputError(text.str());
}

void CheckWhole(const char* name, int value, int low, int high) {
  if (value < low || value > high) {
    Fail(name, value,
         "give a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  }
}

void CheckReal(const char* name, double value, bool positive) {
  if (!std::isfinite(value) || value < 0 || (positive && value == 0)) {
    Fail(name, value,
         positive ? "give a finite number above 0" : "give a finite number of at least 0");
  }
}

}  // namespace

LengthPenalty ParseLengthPenalty(const std::string& name) {
  for (const LengthPenalty penalty : kLengthPenalties) {
    if (name == LengthPenaltyName(penalty)) return penalty;
  }
  throw InputError("length_penalty='" + name +
                   "' is unknown: give none, power, gnmt, lingvo or constant");
}

const char* LengthPenaltyName(LengthPenalty penalty) {
  switch (penalty) {
    case LengthPenalty::kNone:
      return "none";
    case LengthPenalty::kPower:
      return "power";
    case LengthPenalty::kGnmt:
      return "gnmt";
    case LengthPenalty::kLingvo:
      return "lingvo";
    case LengthPenalty::kConstant:
      return "constant";
  }
  return "";
}

int BeamOptions::max_finished() const {
  const double count = std::floor(beam_size * patience + 0.5);
  return count < kMaxBeamSize ? static_cast<int>(count) : kMaxBeamSize;
}

void BeamOptions::Check(int vocabulary_size, int32_t eos_id) const {
  if (vocabulary_size < 2) {
    Fail("vocabulary_size", vocabulary_size, "a vocabulary must have at least 2 tokens");
  }
  if (eos_id < 0 || eos_id >= vocabulary_size) {
    Fail("eos_id", eos_id, "give an id from 0 to " + std::to_string(vocabulary_size - 1));
  }
  CheckWhole("beam_size", beam_size, 1, kMaxBeamSize);
  CheckWhole("num_hypotheses", num_hypotheses, 1, kMaxBeamSize);
  CheckWhole("min_length", min_length, 0, kMaxLength);
  CheckWhole("max_length", max_length, 1, kMaxLength);
  CheckWhole("max_length_offset", max_length_offset, 0, kMaxLength);
  CheckWhole("no_repeat_ngram", no_repeat_ngram, 0, kMaxLength);
  CheckWhole("top_k", top_k, 0, 1 << 30);
  CheckReal("patience", patience, true);
  CheckReal("max_length_factor", max_length_factor, false);
  CheckReal("alpha", alpha, false);
  CheckReal("length_penalty_constant", length_penalty_constant, false);
  CheckReal("coverage_penalty", coverage_penalty, false);
  CheckReal("target_seq_length_ratio", target_seq_length_ratio, true);
  // Outside these bounds, logits could leave the range of float32.
  if (!(repetition_penalty >= 0.01 && repetition_penalty <= 100)) {
    Fail("repetition_penalty", repetition_penalty, "give a number from 0.01 to 100");
  }
  CheckReal("temperature", temperature, true);
  CheckReal("top_p", top_p, true);
  CheckReal("eos_max_logit_delta", eos_max_logit_delta, false);
  CheckReal("beam_gap", beam_gap, false);
  CheckReal("bias_weight", bias_weight, false);
  if (bias_weight > 1) Fail("bias_weight", bias_weight, "give a number from 0 to 1");
  if (merge_paths && (eoc_id < 0 || eoc_id >= vocabulary_size || eoc_id == eos_id)) {
    Fail("eoc_id", eoc_id,
         "merge_paths requires the id of an empty token, from 0 to " +
             std::to_string(vocabulary_size - 1) + " and not the end of sentence");
  }
  if (top_p > 1) Fail("top_p", top_p, "give a number above 0 and at most 1");
  if (std::isnan(local_eos_threshold)) {
    Fail("local_eos_threshold", local_eos_threshold, "give a number");
  }
  if (num_hypotheses > beam_size) {
    Fail("num_hypotheses", num_hypotheses,
         "it must not exceed beam_size=" + std::to_string(beam_size) +
             "; raise beam_size or lower num_hypotheses");
  }
  if (max_finished() < num_hypotheses) {
    Fail("patience", patience,
         "a sentence would end with " + std::to_string(max_finished()) +
             " finished hypotheses, fewer than num_hypotheses=" + std::to_string(num_hypotheses) +
             "; raise patience");
  }
  if (min_length > max_length) {
    Fail("min_length", min_length,
         "it must not exceed max_length=" + std::to_string(max_length) +
             "; lower min_length or raise max_length");
  }
  if (beam_size > vocabulary_size) {
    Fail("beam_size", beam_size,
         "it must not exceed the vocabulary's " + std::to_string(vocabulary_size) +
             " tokens; lower beam_size");
  }
  if (sampling && lingvo_pruning) {
    throw InputError("sampling and lingvo_pruning are both set: choose one");
  }
  for (const int32_t token : suppress) {
    if (token < 0 || token >= vocabulary_size) {
      Fail("suppress", token,
           "the ids of this vocabulary are 0 to " + std::to_string(vocabulary_size - 1));
    }
    if (token == eos_id) {
      Fail("suppress", token,
           "this is the end of sentence, without which no hypothesis could end; use min_length to "
           "get longer ones");
    }
  }
}

std::vector<float> LengthPenalties(const BeamOptions& options, int max_length) {
  std::vector<float> penalties(max_length + 1);
  penalties[0] = 1.0f;  // Only the empty hypothesis has length 0, and its score is 0.
  for (int length = 1; length <= max_length; ++length) {
    double base = 1.0;
    switch (options.length_penalty) {
      case LengthPenalty::kNone:
        break;
      case LengthPenalty::kPower:
        base = length;
        break;
      case LengthPenalty::kGnmt:
        base = (5.0 + length) / 6.0;
        break;
      case LengthPenalty::kLingvo:
        base = (5.0 + length) / 5.0;
        break;
      case LengthPenalty::kConstant: {
        const double constant = options.length_penalty_constant;
        base = (constant + length) / (constant + 1.0);
        break;
      }
    }
    penalties[length] = static_cast<float>(std::pow(base, options.alpha));
  }
  return penalties;
}

}  // namespace keras_mtl
