// Sampling: draws `beam_size` sequences independently of each other.
#include <algorithm>
#include <limits>

#include "engine/beam_search.h"
#include "engine/random.h"

namespace keras_mtl {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The distribution of a row's next token: indices with cumulative weights.
struct Distribution {
  std::vector<int32_t> indices;  // Indices of the row's values.
  std::vector<double> cumulative;

  Distribution(const RowOutputs& row, const BeamOptions& options) {
    for (int i = 0; i < row.count; ++i) {
      if (row.values[i] > -kInfinity) indices.push_back(i);
    }
    const bool cut = options.top_k > 0 && indices.size() > static_cast<size_t>(options.top_k);
    if (cut || options.top_p < 1) {
      std::sort(indices.begin(), indices.end(), [&row](int32_t a, int32_t b) {
        return row.values[a] != row.values[b] ? row.values[a] > row.values[b] : a < b;
      });
      if (cut) indices.resize(options.top_k);
    }
    float highest = -kInfinity;
    for (const int32_t i : indices) highest = std::max(highest, row.values[i]);
    double total = 0.0;
    for (const int32_t i : indices) {
      total += Exp((static_cast<double>(row.values[i]) - highest) / options.temperature);
      cumulative.push_back(total);
    }
    if (options.top_p < 1) {  // Keep the smallest set whose probabilities sum to at least top_p.
      const auto end =
          std::lower_bound(cumulative.begin(), cumulative.end(), options.top_p * total);
      const size_t kept = std::min<size_t>(end - cumulative.begin() + 1, cumulative.size());
      indices.resize(kept);
      cumulative.resize(kept);
    }
  }

  // Returns the index whose interval in [0, 1) contains `uniform`.
  int32_t Draw(double uniform) const {
    const auto place =
        std::upper_bound(cumulative.begin(), cumulative.end(), uniform * cumulative.back());
    // Rounding may make uniform * total equal to the total.
    const size_t found = std::min<size_t>(place - cumulative.begin(), indices.size() - 1);
    return indices[found];
  }
};

}  // namespace

void BeamSearch::SelectSamples(State* state, const std::vector<RowOutputs>& rows) {
  const bool last = state->step + 1 == state->sentence.max_length;
  // The first step after the prefix draws all samples from the single row.
  const bool first = static_cast<size_t>(state->step) == state->sentence.prefix.size();
  std::vector<Slot> live;
  for (size_t b = 0; b < rows.size(); ++b) {
    const RowOutputs& row = rows[b];
    const Distribution distribution(row, options_);
    if (distribution.indices.empty()) continue;  // All tokens are masked.
    const Slot slot = state->live[b];
    const int begin = first ? 0 : slot.sample;
    const int end = first ? options_.beam_size : slot.sample + 1;
    for (int sample = begin; sample < end; ++sample) {
      const uint64_t bits =
          Philox(options_.seed, static_cast<uint64_t>(state->sentence.index), state->step, sample);
      const int32_t index = distribution.Draw(Uniform(bits));
      // The score uses the model's log-probability, regardless of the temperature.
      const float log_p = row.log_probability(row.values[index]);
      const Candidate candidate{slot.score + log_p, log_p, static_cast<int>(b), row.token(index)};
      const bool ends = candidate.token == eos_id_;
      if (ends || last) Record(state, candidate, row.attention);
      if (ends) continue;
      const int node = AddNode(state, candidate, row.attention);
      live.push_back({candidate.score, node, sample, static_cast<int>(b)});
    }
  }
  state->live = std::move(live);
  state->done = last || state->live.empty();
}

}  // namespace keras_mtl
