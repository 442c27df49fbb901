// Beam search over any model. The caller passes the model's outputs for the current rows; the
// search returns the rows that the model must compute next. docs/reference/beam_search.md gives the
// rule as numbered clauses.
#ifndef KERAS_MTL_ENGINE_BEAM_SEARCH_H_
#define KERAS_MTL_ENGINE_BEAM_SEARCH_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/beam_options.h"
#include "engine/log_softmax.h"
#include "engine/logits_processors.h"
#include "engine/row_outputs.h"

namespace keras_mtl {

// The caller's description of a sentence.
struct Sentence {
  int64_t index = 0;            // Identifies it in messages; with the seed, determines its samples.
  int max_length = 0;           // Maximum of target tokens; 0: one empty hypothesis with score 0.
  std::vector<int32_t> prefix;  // Tokens that every hypothesis begins with.
  int source_length = 0;        // Number of attention columns that belong to it.
  std::vector<int32_t> bias =
      {};  // Tokens that get the probability (1 - bias_weight) p + bias_weight.
};

// A live hypothesis whose next position the model must compute.
struct Row {
  int sentence;    // Number of the sentence, in the order of Add().
  int parent;      // The row of the previous step that this one continues; -1 at position 0.
  int position;    // Tokens so far: the position of `token` in the decoder's input.
  int32_t token;   // The newest token: the model's input; start_id at position 0.
  int32_t forced;  // The token that must come next, or -1.
  bool mask_eos;   // Whether the end of sentence is forbidden as the next token.
};

// Outputs of a model that normalizes and selects the best tokens itself. Before that, the model
// must apply Edits(row) and, if row.forced < 0, exclude options.suppress and all tokens that are
// not in the shortlist.
struct TopCandidates {
  int count;                      // Columns; at least top_count().
  const int32_t* tokens;          // [rows, count], by descending logit; ties: smaller id first.
                                  // Null: column i is token i, and count is vocabulary_size.
  const float* logits;            // [rows, count], padded with -inf.
  const Normalizer* normalizers;  // [rows]; {log_sum_exp, 0, valid} is valid, too.
  const float* wanted;            // [rows], logit of wanted(row); null if no row has one.
};

struct Attention {
  const float* weights = nullptr;  // [rows, width]: from each row to the source; sums to 1.
  int width = 0;                   // At least the largest source_length.
};

// A search result as the user gets it; keras_mtl.engine.Hypothesis adds the text.
struct Hypothesis {
  std::vector<int32_t> ids;         // Without the end of sentence.
  bool ended = false;               // Whether it has an end of sentence; if not, it was truncated.
  float score = 0.0f;               // log_probability / penalty + coverage.
  float log_probability = 0.0f;     // Includes the end of sentence and, if any, merged paths.
  std::vector<float> token_scores;  // Log-probability of each token, then of the end if any.
  std::vector<float> alignment;  // [token_scores.size(), source_length]; empty without attention.
};

// One search. Sentences may be added while it runs: each has its own position, and its results
// depend only on its own rows. Not thread-safe.
class BeamSearch {
 public:
  // `shortlist`: the only ids that may be produced, including eos_id; empty allows all.
  // `keep_attention`: hypotheses have alignments, and every step requires attention; implied by a
  // coverage penalty.
  // Throws InputError if an option or an id is invalid.
  BeamSearch(const BeamOptions& options, int vocabulary_size, int32_t start_id, int32_t eos_id,
             const std::vector<int32_t>& shortlist = {}, bool keep_attention = false);

  // Throws InputError if max_length, the prefix or the bias is out of range.
  void Check(const Sentence& sentence) const;

  // Adds a sentence and appends its first row to rows(). Returns its number: 0, 1, ...
  // Throws InputError if max_length, the prefix or the bias is out of range.
  int Add(const Sentence& sentence);

  // The rows to compute now, grouped by sentence; empty if all sentences are done. Add() and
  // Advance() change the rows and invalidate the reference.
  const std::vector<Row>& rows() const { return rows_; }

  // Advances the search by one step, given the model's outputs for rows().
  // outputs: [rows, vocabulary_size], logits or log-probabilities. Log-probabilities are used
  //   unchanged unless a token is masked. The caller need not mask anything.
  // Throws InputError if attention is missing or too narrow, NotANumberError (with sentence and
  // step) if an output is not a number. After an error, every further step throws InputError.
  void Advance(const float* outputs, bool log_probabilities, const Attention& attention = {});

  // The same, given the best tokens of each row. options.sampling and biases require all tokens.
  // Equal to Advance() with one exception: if several candidates of a row have the same float32
  // sum of score and log-probability, those outside its best top_count() are not considered.
  void AdvanceTop(const TopCandidates& top, const Attention& attention = {});

  // Changes to the logits of rows()[row] in addition to the mask that all rows share: the end of
  // sentence, repetition_penalty, no_repeat_ngram. Ascending by token; empty for a forced row.
  // Advance() applies them itself.
  std::vector<LogitEdit> Edits(int row) const;

  // The token whose logit AdvanceTop() needs regardless of its rank: the forced token, or the end
  // of sentence if Lingvo's rule may force it or its place among the best; else -1.
  int32_t wanted(int row) const;

  // The number of tokens per row that AdvanceTop() needs.
  int top_count() const;

  bool done(int sentence) const { return states_[sentence].done; }

  // The hypotheses of a finished sentence: at most num_hypotheses, best first.
  const std::vector<Hypothesis>& results(int sentence) const { return states_[sentence].results; }
  // The same, moved out of the search.
  std::vector<Hypothesis> TakeResults(int sentence) { return std::move(states_[sentence].results); }

  int sentences() const { return static_cast<int>(states_.size()); }
  const BeamOptions& options() const { return options_; }

 private:
  // A token of a hypothesis; `parent` links to the previous token.
  struct Node {
    int parent;
    int32_t token;
    float log_probability;
    int attention;  // Row in State::attention; -1 without attention.
  };

  struct Slot {
    float score;     // Cumulative log-probability.
    int node;        // Newest token; -1 at position 0.
    int sample;      // Number of the sample if sampling.
    int parent = 0;  // The slot of the previous step that this one continues.
  };

  struct Found {
    float score, log_probability;
    int node;
  };

  struct State {
    Sentence sentence;
    int step = 0;
    int first_row = 0;  // Index in rows_ of its first row.
    std::vector<Slot> live;
    std::vector<Found> found;  // Best first, at most num_hypotheses.
    int finished = 0;
    bool first_ended = false;
    float best_terminated = -1e36f;  // Used by Lingvo's rule.
    bool done = false;
    std::vector<Node> nodes;
    std::vector<float> attention;
    std::vector<Hypothesis> results;
  };

  struct Candidate {
    float score;  // Of the hypothesis including this token.
    float log_probability;
    int slot;
    int32_t token;
  };

  // Runs one step; outputs_of(row index, state) returns RowOutputs.
  template <typename OutputsOf>
  void AdvanceAll(const OutputsOf& outputs_of, const Attention& attention);
  template <typename OutputsOf>
  void StepAll(const OutputsOf& outputs_of, const Attention& attention);

  RowOutputs FullRow(int index, const State& state, const float* outputs, bool log_probabilities);
  // The token towards which a row is biased, or -1.
  int32_t BiasedTowards(int index, const State& state) const;
  // Mixes the probabilities of a row with its bias. `values` receives [vocabulary_size].
  void MixBias(int32_t token, int32_t wanted, RowOutputs* row, float* values) const;
  std::vector<Candidate> BestCandidates(const State& state,
                                        const std::vector<RowOutputs>& rows) const;
  void SelectByRule(State* state, const std::vector<Candidate>& candidates,
                    const std::vector<RowOutputs>& rows);
  void SelectByLingvo(State* state, const std::vector<RowOutputs>& rows);
  // The best tokens of a row by Lingvo's rule, best first, and the end of sentence.
  std::vector<Candidate> BestOfRow(const State& state, int slot, const RowOutputs& row,
                                   Candidate* eos) const;
  // Merges hypotheses that are equal without options.eoc_id. `candidates` are sorted.
  void MergePaths(const State& state, std::vector<Candidate>* candidates) const;
  void SelectSamples(State* state, const std::vector<RowOutputs>& rows);

  int AddNode(State* state, const Candidate& candidate, int attention);
  void Record(State* state, const Candidate& candidate, int attention);
  float Coverage(const State& state, int node) const;
  std::vector<int32_t> History(const State& state, int node) const;
  void Finish(State* state);
  void RebuildRows();
  [[noreturn]] void FailNotANumber(const State& state) const;

  const BeamOptions options_;
  const int vocabulary_size_;
  const int32_t start_id_, eos_id_;
  const bool keep_attention_;
  std::vector<int32_t> shortlist_;  // Sorted.
  std::vector<float> penalties_;
  std::vector<State> states_;
  std::vector<Row> rows_;
  bool failed_ = false;         // Whether a step threw.
  std::vector<float> scratch_;  // Masked copies of the rows of one sentence.
  std::vector<float> biased_;   // Log-probabilities of the rows of one sentence with a bias.
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_BEAM_SEARCH_H_
