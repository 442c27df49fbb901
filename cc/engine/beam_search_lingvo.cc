// One step by Lingvo's rule, which prunes beams by differences of log-probabilities.
// Reference: lingvo/core/ops/beam_search_step_op_kernels.cc; the defaults are those of
// lingvo/core/beam_search_helper.py.
#include <algorithm>
#include <limits>

#include "engine/beam_search.h"
#include "kernels/kernels.h"

namespace keras_mtl {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

std::vector<BeamSearch::Candidate> BeamSearch::BestOfRow(const State& state, int slot,
                                                         const RowOutputs& row,
                                                         Candidate* eos) const {
  const size_t count = static_cast<size_t>(options_.beam_size) + (options_.merge_paths ? 2 : 1);
  const float score = state.live[slot].score;
  // In descending order; ties: smaller token first.
  std::vector<Candidate> best;
  *eos = {-kInfinity, -kInfinity, slot, eos_id_};
  if (options_.force_eos_in_last_step || options_.force_eos_in_top_k) {
    *eos = {score + row.wanted, row.wanted, slot, eos_id_};
  }
  for (int i = 0; i < row.count; ++i) {
    const float log_p = row.log_probability(row.values[i]);
    if (!(log_p > -kInfinity)) continue;
    const int32_t token = row.token(i);
    const Candidate candidate{score + log_p, log_p, slot, token};
    if (token == eos_id_) *eos = candidate;
    const auto before = [&](const Candidate& other) {
      if (other.log_probability != log_p) return other.log_probability > log_p;
      return other.token < token;
    };
    if (best.size() == count && before(best.back())) continue;
    auto place = best.end();
    while (place != best.begin() && !before(*(place - 1))) --place;
    best.insert(place, candidate);
    if (best.size() > count) best.pop_back();
  }
  const bool has_eos = std::any_of(best.begin(), best.end(), [this](const Candidate& candidate) {
    return candidate.token == eos_id_;
  });
  if (options_.force_eos_in_top_k && !has_eos && eos->log_probability > -kInfinity) {
    best.back() = *eos;  // It replaces the worst one, so the order remains.
  }
  return best;
}

void BeamSearch::MergePaths(const State& state, std::vector<Candidate>* candidates) const {
  const auto tokens_of = [&](const Candidate& candidate) {
    std::vector<int32_t> tokens = History(state, state.live[candidate.slot].node);
    tokens.push_back(candidate.token);
    tokens.erase(std::remove(tokens.begin(), tokens.end(), options_.eoc_id), tokens.end());
    return tokens;
  };
  std::vector<Candidate> merged;
  std::vector<std::vector<int32_t>> known;
  std::vector<double> scores;
  for (const Candidate& candidate : *candidates) {
    std::vector<int32_t> tokens = tokens_of(candidate);
    const size_t place = std::find(known.begin(), known.end(), tokens) - known.begin();
    if (place == known.size()) {
      known.push_back(std::move(tokens));
      merged.push_back(candidate);
      scores.push_back(candidate.score);
    } else {  // The first one of equal hypotheses is the best one, and represents all.
      const double high = std::max<double>(scores[place], candidate.score);
      const double low = std::min<double>(scores[place], candidate.score);
      scores[place] = high + Log(1 + Exp(low - high));
    }
  }
  for (size_t i = 0; i < merged.size(); ++i) {
    merged[i].score = std::min(static_cast<float>(scores[i]), 0.0f);
  }
  *candidates = std::move(merged);
}

void BeamSearch::SelectByLingvo(State* state, const std::vector<RowOutputs>& rows) {
  const size_t k = options_.beam_size;
  const bool last = state->step + 1 == state->sentence.max_length;
  const bool force_eos = last && options_.force_eos_in_last_step;
  std::vector<Candidate> merged;
  for (size_t b = 0; b < rows.size(); ++b) {
    const RowOutputs& row = rows[b];
    Candidate eos;
    const std::vector<Candidate> best = BestOfRow(*state, static_cast<int>(b), row, &eos);
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
  const auto better = [](const Candidate& a, const Candidate& b) {
    if (a.score != b.score) return a.score > b.score;
    return a.token != b.token ? a.token < b.token : a.slot < b.slot;
  };
  std::sort(merged.begin(), merged.end(), better);
  if (options_.merge_paths) {
    MergePaths(*state, &merged);
    std::sort(merged.begin(), merged.end(), better);
  }
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
