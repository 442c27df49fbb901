#include "engine/beam_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "engine/errors.h"
#include "kernels/kernels.h"

namespace keras_mtl {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Lower bound of attention sums, so that their log is finite.
constexpr float kMinAttention = std::numeric_limits<float>::min();

std::string IdRange(int vocabulary_size) {
  return "the ids of this vocabulary are 0 to " + std::to_string(vocabulary_size - 1);
}

}  // namespace

BeamSearch::BeamSearch(const BeamOptions& options, int vocabulary_size, int32_t start_id,
                       int32_t eos_id, const std::vector<int32_t>& shortlist, bool keep_attention)
    : options_(options),
      vocabulary_size_(vocabulary_size),
      start_id_(start_id),
      eos_id_(eos_id),
      keep_attention_(keep_attention || options.coverage_penalty != 0),
      shortlist_(shortlist) {
  options_.Check(vocabulary_size, eos_id);
  for (const int32_t token : shortlist_) {
    if (token < 0 || token >= vocabulary_size) {
      throw InputError("shortlist contains id " + std::to_string(token) + ": " +
                       IdRange(vocabulary_size));
    }
  }
  std::sort(shortlist_.begin(), shortlist_.end());
  shortlist_.erase(std::unique(shortlist_.begin(), shortlist_.end()), shortlist_.end());
  if (!shortlist_.empty() && !std::binary_search(shortlist_.begin(), shortlist_.end(), eos_id)) {
    throw InputError("shortlist does not contain id " + std::to_string(eos_id) +
                     ", the end of sentence, without which no hypothesis could end: add it");
  }
  penalties_ = LengthPenalties(options_, options_.max_length);
}

void BeamSearch::Check(const Sentence& sentence) const {
  const std::string name = "sentence " + std::to_string(sentence.index);
  if (sentence.max_length < 0 || sentence.max_length > options_.max_length) {
    throw InputError(name + ": max_length=" + std::to_string(sentence.max_length) +
                     ": give a whole number from 0 to the option's max_length, " +
                     std::to_string(options_.max_length));
  }
  if (sentence.source_length < 0) {
    throw InputError(name + ": source_length=" + std::to_string(sentence.source_length) +
                     ": give a whole number of at least 0");
  }
  if (sentence.prefix.size() > static_cast<size_t>(sentence.max_length)) {
    throw InputError("the prefix of " + name + " has " + std::to_string(sentence.prefix.size()) +
                     " tokens: give at most " + std::to_string(sentence.max_length) +
                     ", the sentence's maximum target length");
  }
  for (const int32_t token : sentence.prefix) {
    if (token < 0 || token >= vocabulary_size_ || token == eos_id_) {
      throw InputError("the prefix of " + name + " contains id " + std::to_string(token) +
                       ": give ids from 0 to " + std::to_string(vocabulary_size_ - 1) +
                       " other than the end of sentence, " + std::to_string(eos_id_));
    }
  }
  for (const int32_t token : sentence.bias) {
    if (token < 0 || token >= vocabulary_size_) {
      throw InputError("the bias of " + name + " contains id " + std::to_string(token) + ": " +
                       IdRange(vocabulary_size_));
    }
  }
}

int BeamSearch::Add(const Sentence& sentence) {
  Check(sentence);
  const int number = static_cast<int>(states_.size());
  states_.emplace_back();
  State& state = states_.back();
  state.sentence = sentence;
  state.live.push_back({0.0f, -1, 0});
  if (sentence.max_length == 0) {
    state.live.clear();
    state.done = true;
    Hypothesis empty;
    empty.ended = true;
    state.results.push_back(empty);
    return number;
  }
  const int32_t forced = sentence.prefix.empty() ? -1 : sentence.prefix[0];
  state.first_row = static_cast<int>(rows_.size());
  rows_.push_back({number, -1, 0, start_id_, forced, options_.min_length > 0});
  return number;
}

int32_t BeamSearch::wanted(int row) const {
  if (rows_[row].forced >= 0) return rows_[row].forced;
  const bool force_eos = options_.force_eos_in_last_step || options_.force_eos_in_top_k;
  return options_.lingvo_pruning && force_eos ? eos_id_ : -1;
}

int BeamSearch::top_count() const {
  const int merged = options_.lingvo_pruning && options_.merge_paths ? options_.beam_size + 2 : 0;
  return std::min(std::max(2 * options_.beam_size, merged), vocabulary_size_);
}

void BeamSearch::FailNotANumber(const State& state) const {
  throw NotANumberError("sentence " + std::to_string(state.sentence.index) +
                        ": the model's output is not a number at decoding step " +
                        std::to_string(state.step) +
                        ". Training diverged or the weights are damaged: use an earlier "
                        "checkpoint.");
}

std::vector<int32_t> BeamSearch::History(const State& state, int node) const {
  std::vector<int32_t> tokens;
  for (; node >= 0; node = state.nodes[node].parent) tokens.push_back(state.nodes[node].token);
  std::reverse(tokens.begin(), tokens.end());
  return tokens;
}

std::vector<LogitEdit> BeamSearch::Edits(int row) const {
  const Row& which = rows_[row];
  const State& state = states_[which.sentence];
  std::vector<LogitEdit> edits;
  // A forced token keeps its probability. After an error, rows and hypotheses are inconsistent.
  if (which.forced >= 0 || failed_) return edits;
  const Slot& slot = state.live[row - state.first_row];
  if (slot.node >= 0 && (options_.repetition_penalty != 1.0 || options_.no_repeat_ngram > 0)) {
    edits = HistoryEdits(History(state, slot.node), static_cast<float>(options_.repetition_penalty),
                         options_.no_repeat_ngram);
  }
  if (which.mask_eos) {  // No history contains the end of sentence, so it has no edit yet.
    const auto place = std::find_if(edits.begin(), edits.end(),
                                    [this](const LogitEdit& edit) { return edit.token > eos_id_; });
    edits.insert(place, {eos_id_, 0.0f});
  }
  return edits;
}

// Clause 1.
RowOutputs BeamSearch::FullRow(int index, const State& state, const float* outputs,
                               bool log_probabilities) {
  RowOutputs result;
  result.values = outputs;
  result.count = vocabulary_size_;
  result.normalized = log_probabilities;
  const Row& row = rows_[index];
  const bool masked = row.forced < 0 && !(options_.suppress.empty() && shortlist_.empty());
  const std::vector<LogitEdit> edits = Edits(index);
  if (masked || !edits.empty()) {
    const size_t number = index - state.first_row;
    float* copy = scratch_.data() + number * vocabulary_size_;
    std::copy(outputs, outputs + vocabulary_size_, copy);
    ApplyEdits(edits, copy);
    for (const int32_t token : options_.suppress) copy[token] = -kInfinity;
    if (!shortlist_.empty()) KeepOnly(shortlist_, vocabulary_size_, copy);
    result.values = copy;
    result.normalized = false;
  }
  if (result.normalized) {
    for (int i = 0; i < result.count; ++i) {
      result.normalizer.valid &= result.values[i] < kInfinity;  // false for NaN, too
    }
  } else {
    result.normalizer = Normalize(result.values, result.count);
  }
  const int32_t token = wanted(index);
  if (token >= 0) result.wanted = result.log_probability(result.values[token]);
  return result;
}

int32_t BeamSearch::BiasedTowards(int index, const State& state) const {
  const std::vector<int32_t>& bias = state.sentence.bias;
  const size_t step = state.step;
  if (step >= bias.size() || rows_[index].forced >= 0) return -1;
  if (options_.bias_only_if_consistent) {
    int node = state.live[index - state.first_row].node;
    for (size_t i = step; i-- > 0; node = state.nodes[node].parent) {
      if (state.nodes[node].token != bias[i]) return -1;
    }
  }
  return bias[step];
}

void BeamSearch::MixBias(int32_t token, int32_t wanted, RowOutputs* row, float* values) const {
  if (row->tokens != nullptr) {
    throw InputError(
        "a bias needs the outputs for the whole vocabulary, but only the best tokens of each row "
        "were given");
  }
  const double weight = options_.bias_weight;
  const auto rest = static_cast<float>(Log(1 - weight));
  const float log_p = row->log_probability(row->values[token]);
  for (int i = 0; i < row->count; ++i) values[i] = row->log_probability(row->values[i]) + rest;
  values[token] = static_cast<float>(Log((1 - weight) * Exp(log_p) + weight));
  row->values = values;
  row->normalized = true;
  if (wanted >= 0) row->wanted = row->log_probability(values[wanted]);
}

void BeamSearch::Advance(const float* outputs, bool log_probabilities, const Attention& attention) {
  scratch_.resize(static_cast<size_t>(options_.beam_size) * vocabulary_size_);
  AdvanceAll(
      [&](int index, const State& state) {
        const float* row = outputs + static_cast<size_t>(index) * vocabulary_size_;
        return FullRow(index, state, row, log_probabilities);
      },
      attention);
}

void BeamSearch::AdvanceTop(const TopCandidates& top, const Attention& attention) {
  if (top.tokens == nullptr && top.count != vocabulary_size_) {
    throw InputError("outputs have " + std::to_string(top.count) + " columns; expected " +
                     std::to_string(vocabulary_size_) + ", the size of the vocabulary");
  }
  if (options_.sampling && top.tokens != nullptr) {
    throw InputError(
        "sampling needs the outputs for the whole vocabulary, but only the best tokens of each row "
        "were given");
  }
  for (size_t i = 0; top.wanted == nullptr && i < rows_.size(); ++i) {
    if (wanted(static_cast<int>(i)) >= 0) {
      throw InputError("the logit of token " + std::to_string(wanted(static_cast<int>(i))) +
                       ", which row " + std::to_string(i) + " requires, is missing");
    }
  }
  if (top.count < top_count()) {
    throw InputError("there are " + std::to_string(top.count) + " candidates per row; at least " +
                     std::to_string(top_count()) + " are required");
  }
  AdvanceAll(
      [&](int index, const State&) {
        RowOutputs result;
        result.values = top.logits + static_cast<size_t>(index) * top.count;
        if (top.tokens != nullptr) {
          result.tokens = top.tokens + static_cast<size_t>(index) * top.count;
        }
        result.count = top.count;
        result.normalizer = top.normalizers[index];
        if (wanted(index) >= 0) result.wanted = result.log_probability(top.wanted[index]);
        return result;
      },
      attention);
}

template <typename OutputsOf>
void BeamSearch::AdvanceAll(const OutputsOf& outputs_of, const Attention& attention) {
  if (failed_) throw InputError("the search failed at an earlier step: start a new search");
  if (keep_attention_ && !rows_.empty() && attention.weights == nullptr) {
    throw InputError(
        "attention is missing: coverage_penalty and alignments require it at each step");
  }
  try {
    StepAll(outputs_of, attention);
  } catch (...) {
    failed_ = true;  // Some sentences have advanced, but rows_ is still that of the last step.
    throw;
  }
  RebuildRows();
}

template <typename OutputsOf>
void BeamSearch::StepAll(const OutputsOf& outputs_of, const Attention& attention) {
  std::vector<RowOutputs> outputs;
  for (size_t begin = 0, end; begin < rows_.size(); begin = end) {
    State& state = states_[rows_[begin].sentence];
    end = begin + state.live.size();
    outputs.clear();
    for (size_t i = begin; i < end; ++i) {
      outputs.push_back(outputs_of(static_cast<int>(i), state));
      if (!outputs.back().normalizer.valid) FailNotANumber(state);
      const int32_t target = BiasedTowards(static_cast<int>(i), state);
      if (target >= 0) {
        biased_.resize(static_cast<size_t>(options_.beam_size) * vocabulary_size_);
        float* values = biased_.data() + (i - begin) * vocabulary_size_;
        MixBias(target, wanted(static_cast<int>(i)), &outputs.back(), values);
      }
      if (keep_attention_) {
        const int length = state.sentence.source_length;
        if (attention.width < length) {
          throw InputError("attention has " + std::to_string(attention.width) +
                           " columns, but sentence " + std::to_string(state.sentence.index) +
                           " has " + std::to_string(length) + " source tokens");
        }
        const float* weights = attention.weights + i * static_cast<size_t>(attention.width);
        outputs.back().attention =
            length > 0 ? static_cast<int>(state.attention.size() / length) : 0;
        state.attention.insert(state.attention.end(), weights, weights + length);
      }
    }
    const size_t step = state.step;
    if (step < state.sentence.prefix.size()) {
      const Slot& slot = state.live[0];
      const float log_p = options_.score_prefix ? outputs[0].wanted : 0.0f;
      std::vector<Candidate> forced;
      if (slot.score + log_p > -kInfinity) {
        forced.push_back({slot.score + log_p, log_p, 0, state.sentence.prefix[step]});
      }
      SelectByRule(&state, forced, outputs);
    } else if (options_.sampling) {
      SelectSamples(&state, outputs);
    } else if (options_.lingvo_pruning) {
      SelectByLingvo(&state, outputs);
    } else {
      SelectByRule(&state, BestCandidates(state, outputs), outputs);
    }
    ++state.step;
    if (state.done) Finish(&state);
  }
}

// Clauses 2 and 3: the best 2k candidates in descending order; ties: the smaller slot, then the
// smaller token.
std::vector<BeamSearch::Candidate> BeamSearch::BestCandidates(
    const State& state, const std::vector<RowOutputs>& rows) const {
  const size_t wanted = 2 * static_cast<size_t>(options_.beam_size);
  std::vector<Candidate> best;
  best.reserve(wanted + 1);
  float worst = -kInfinity;  // Score of the worst candidate in `best`.
  for (size_t b = 0; b < rows.size(); ++b) {
    const RowOutputs& row = rows[b];
    const float score = state.live[b].score;
    for (int i = 0; i < row.count; ++i) {
      const float log_p = row.log_probability(row.values[i]);
      const Candidate candidate{score + log_p, log_p, static_cast<int>(b), row.token(i)};
      // The best tokens of a row are sorted by logit. If rounding makes two scores equal, the
      // smaller token must come first, as in a row of the whole vocabulary.
      const auto before = [&](const Candidate& other) {
        if (other.score != candidate.score) return other.score > candidate.score;
        return other.slot != candidate.slot || other.token < candidate.token;
      };
      if (!(candidate.score > -kInfinity)) continue;
      if (best.size() == wanted && (candidate.score < worst || before(best.back()))) continue;
      auto place = best.end();
      while (place != best.begin() && !before(*(place - 1))) --place;
      best.insert(place, candidate);
      if (best.size() > wanted) best.pop_back();
      worst = best.back().score;
    }
  }
  return best;
}

// Clauses 4 to 6.
void BeamSearch::SelectByRule(State* state, const std::vector<Candidate>& candidates,
                              const std::vector<RowOutputs>& rows) {
  const size_t k = options_.beam_size;
  const bool last = state->step + 1 == state->sentence.max_length;
  size_t refill = std::min(k, candidates.size());
  std::vector<Slot> live;
  for (size_t rank = 0; rank < std::min(k, candidates.size()); ++rank) {
    const Candidate* candidate = &candidates[rank];
    const bool ends = candidate->token == eos_id_;
    if (ends || last) Record(state, *candidate, rows[candidate->slot].attention);
    if (ends) {
      state->first_ended |= rank == 0;
      while (refill < candidates.size() && candidates[refill].token == eos_id_) ++refill;
      if (refill == candidates.size()) continue;
      candidate = &candidates[refill++];
    }
    const int node = AddNode(state, *candidate, rows[candidate->slot].attention);
    live.push_back({candidate->score, node, state->live[candidate->slot].sample, candidate->slot});
  }
  state->live = std::move(live);
  float best_live = -kInfinity;
  for (const Slot& slot : state->live) best_live = std::max(best_live, slot.score);
  state->done = last || state->live.empty();
  if (options_.sampling || options_.lingvo_pruning) return;  // A forced step ends no hypothesis.
  const bool enough = state->finished >= options_.num_hypotheses;
  if (options_.penalizes()) {
    state->done |= state->finished >= options_.max_finished();
  } else {
    state->done |= state->first_ended && enough;
  }
  if (options_.early_exit && options_.coverage_penalty == 0 && enough) {
    // Log-probabilities only decrease and penalties only increase, in float32, too. So no live
    // hypothesis can reach a better final score than this bound. With equal scores, the shorter
    // hypothesis wins.
    const float bound = best_live / penalties_[state->sentence.max_length];
    state->done |= bound < state->found.back().score;
  }
}

int BeamSearch::AddNode(State* state, const Candidate& candidate, int attention) {
  const int parent = state->live[candidate.slot].node;
  state->nodes.push_back({parent, candidate.token, candidate.log_probability, attention});
  return static_cast<int>(state->nodes.size()) - 1;
}

// Clause 7. Called in the order in which hypotheses are found, so shorter ones come first.
void BeamSearch::Record(State* state, const Candidate& candidate, int attention) {
  const int node = AddNode(state, candidate, attention);
  float score = candidate.score / penalties_[state->step + 1];
  if (options_.coverage_penalty != 0) score += Coverage(*state, node);
  ++state->finished;
  auto place = state->found.end();
  while (place != state->found.begin() && (place - 1)->score < score) --place;
  state->found.insert(place, {score, candidate.score, node});
  if (state->found.size() > static_cast<size_t>(options_.num_hypotheses)) state->found.pop_back();
}

float BeamSearch::Coverage(const State& state, int node) const {
  const int length = state.sentence.source_length;
  std::vector<int> rows;
  for (; node >= 0; node = state.nodes[node].parent) rows.push_back(state.nodes[node].attention);
  double total = 0.0;
  for (int s = 0; s < length; ++s) {
    float sum = 0.0f;
    for (size_t i = rows.size(); i-- > 0;) {
      sum += state.attention[static_cast<size_t>(rows[i]) * length + s];
    }
    sum /= static_cast<float>(options_.target_seq_length_ratio);
    // Lingvo clips to [0.001, 0.5] (lingvo/core/ops/beam_search_step_op_kernels.cc).
    const float capped = options_.lingvo_pruning ? std::min(std::max(sum, 0.001f), 0.5f)
                                                 : std::min(std::max(sum, kMinAttention), 1.0f);
    total += std::log(static_cast<double>(capped));
  }
  return static_cast<float>(options_.target_seq_length_ratio * options_.coverage_penalty * total);
}

// Builds the results and frees everything else.
void BeamSearch::Finish(State* state) {
  const int length = state->sentence.source_length;
  for (const Found& found : state->found) {
    Hypothesis hypothesis;
    hypothesis.score = found.score;
    hypothesis.log_probability = found.log_probability;
    std::vector<int> path;
    for (int node = found.node; node >= 0; node = state->nodes[node].parent) path.push_back(node);
    std::reverse(path.begin(), path.end());
    for (const int index : path) {
      const Node& node = state->nodes[index];
      hypothesis.ids.push_back(node.token);
      hypothesis.token_scores.push_back(node.log_probability);
      if (keep_attention_) {
        const auto row = state->attention.begin() + static_cast<size_t>(node.attention) * length;
        hypothesis.alignment.insert(hypothesis.alignment.end(), row, row + length);
      }
    }
    if (hypothesis.ids.back() == eos_id_) {
      hypothesis.ids.pop_back();
      hypothesis.ended = true;
    }
    state->results.push_back(std::move(hypothesis));
  }
  state->sentence = Sentence();
  std::vector<Slot>().swap(state->live);
  std::vector<Found>().swap(state->found);
  std::vector<Node>().swap(state->nodes);
  std::vector<float>().swap(state->attention);
}

void BeamSearch::RebuildRows() {
  // rows_ still lists the previous step; the rows of a sentence are in the order of its slots.
  std::vector<Row> rows;
  for (size_t begin = 0; begin < rows_.size();) {
    const int sentence = rows_[begin].sentence;
    State& state = states_[sentence];
    state.first_row = static_cast<int>(rows.size());
    for (const Slot& slot : state.live) {
      const Node& node = state.nodes[slot.node];
      const size_t step = state.step;
      const bool forced = step < state.sentence.prefix.size();
      rows.push_back({sentence, static_cast<int>(begin) + slot.parent, state.step, node.token,
                      forced ? state.sentence.prefix[step] : -1, state.step < options_.min_length});
    }
    while (begin < rows_.size() && rows_[begin].sentence == sentence) ++begin;
  }
  rows_ = std::move(rows);
}

}  // namespace keras_mtl
