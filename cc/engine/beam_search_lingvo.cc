// One step by Lingvo's rule, which prunes beams by differences of log-probabilities.
// Reference: lingvo/core/ops/beam_search_step_op_kernels.cc; the defaults are those of
// lingvo/core/beam_search_helper.py.
#include <algorithm>
#include <limits>

#include "engine/beam_search.h"

namespace keras_mtl {

void BeamSearch::SelectByLingvo(State* state, const std::vector<RowOutputs>& rows) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const size_t k = options_.beam_size;
  const bool last = state->step + 1 == state->sentence.max_length;
  const bool force_eos = last && options_.force_eos_in_last_step;
  std::vector<Candidate> merged, best;
  for (size_t b = 0; b < rows.size(); ++b) {
    const RowOutputs& row = rows[b];
    // The row's best k + 1 candidates in descending order; ties: smaller token first.
    best.clear();
    Candidate eos{-kInfinity, -kInfinity, static_cast<int>(b), eos_id_};
    if (force_eos) eos = {state->live[b].score + row.wanted, row.wanted, eos.slot, eos_id_};
    for (int i = 0; i < row.count; ++i) {
      const float log_p = row.log_probability(row.values[i]);
      if (!(log_p > -kInfinity)) continue;
      const int32_t token = row.token(i);
      const Candidate candidate{state->live[b].score + log_p, log_p, static_cast<int>(b), token};
      if (token == eos_id_) eos = candidate;
      const auto before = [&](const Candidate& other) {
        if (other.log_probability != log_p) return other.log_probability > log_p;
        return other.token < token;
      };
      if (best.size() == k + 1 && before(best.back())) continue;
      auto place = best.end();
      while (place != best.begin() && !before(*(place - 1))) --place;
      best.insert(place, candidate);
      if (best.size() > k + 1) best.pop_back();
    }
    if (best.empty()) continue;
    // Compares with the best extension of this hypothesis, not of the beam. Both tests are strict.
    const double highest = best[0].log_probability;
    const bool among_best = std::any_of(best.begin(), best.end(), [&](const Candidate& candidate) {
      return candidate.token == eos_id_;
    });
    const double log_p = eos.log_probability;
    const bool accepted = among_best && log_p > highest - options_.eos_max_logit_delta &&
                          log_p > options_.local_eos_threshold;
    if (accepted || (force_eos && log_p > -kInfinity)) {
      Record(state, eos, row.attention);
      state->best_terminated = std::max(state->best_terminated, eos.score);
    }
    for (const Candidate& candidate : best) {
      if (candidate.token != eos_id_) merged.push_back(candidate);
    }
  }
  std::sort(merged.begin(), merged.end(), [](const Candidate& a, const Candidate& b) {
    if (a.score != b.score) return a.score > b.score;
    return a.token != b.token ? a.token < b.token : a.slot < b.slot;
  });
  if (merged.size() > k) merged.resize(k);
  std::vector<Slot> live;
  for (const Candidate& candidate : merged) {
    const int node = AddNode(state, candidate, rows[candidate.slot].attention);
    live.push_back({candidate.score, node, 0, candidate.slot});
  }
  state->live = std::move(live);
  // Scores are not divided by a length penalty here.
  const double bound = state->best_terminated - options_.beam_gap;
  const bool full = !options_.ensure_full_beam || state->finished >= options_.beam_size;
  const bool beaten = std::all_of(state->live.begin(), state->live.end(), [&](const Slot& slot) {
    return static_cast<double>(slot.score) <= bound;
  });
  state->done = last || state->live.empty() || (full && beaten);
}

}  // namespace keras_mtl
