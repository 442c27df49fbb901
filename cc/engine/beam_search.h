// Beam search over any model: it is given what the model put out for each row, and says which rows
// the model has to compute next. The rule, by number, is in docs/reference/beam_search.md.
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

// What a caller says of a sentence.
struct Sentence {
  int64_t index = 0;            // Names it in messages; with the seed, it decides what is sampled.
  int max_length = 0;           // Most target tokens; 0: one empty hypothesis of score 0.
  std::vector<int32_t> prefix;  // Tokens that every hypothesis begins with.
  int source_length = 0;        // Columns of attention that belong to it.
};

// A live hypothesis, for which the model has to be run one position further.
struct Row {
  int sentence;    // Number of the sentence, in the order of Add.
  int parent;      // Row of the step before that this one continues; -1 at position 0.
  int position;    // Tokens so far: the position of `token` in the decoder's input.
  int32_t token;   // The newest token: the model's input; start_id at position 0.
  int32_t forced;  // The token that must come next, or -1.
  bool mask_eos;   // Whether the end of sentence may not come next.
};

// What came out for the rows, from a model that normalises, and picks the best tokens, itself. It
// has applied Edits(row) and, where row.forced < 0, left out options.suppress and what is not on
// the shortlist, before it did anything else.
struct TopCandidates {
  int count;              // Columns; at least top_count().
  const int32_t* tokens;  // [rows, count]: falling by logit, of equal ones the smaller id first.
                          // Null: column i is token i, and there are vocabulary_size.
  const float* logits;    // [rows, count]; -inf fills up a row that has fewer.
  const Normaliser* normalisers;  // [rows]; {log_sum_exp, 0, valid} does too.
  const float* wanted;            // [rows], logit of wanted(row); null when no row has one.
};

struct Attention {
  const float* weights = nullptr;  // [rows, width]: from each row to the source, sum 1.
  int width = 0;                   // At least the longest source_length.
};

// What a search found, as it reaches the user: keras_mtl.engine.Hypothesis adds the text.
struct Hypothesis {
  std::vector<int32_t> ids;         // Without end of sentence.
  bool ended = false;               // Whether there was one; else it was cut at max_length.
  float score = 0.0f;               // log_probability / penalty + coverage.
  float log_probability = 0.0f;     // End of sentence included.
  std::vector<float> token_scores;  // Log-probability of each token, then that of the end if any.
  std::vector<float> alignment;  // [token_scores.size(), source_length]; empty without attention.
};

// One search. Sentences may be added while it runs: each is at its own position, and what is found
// for it depends only on its own rows. Not safe for use by two threads at once.
class BeamSearch {
 public:
  // `shortlist`: ids that may be produced, eos_id among them; empty allows all.
  // `keep_attention`: hypotheses carry their alignment, and every step is given attention; implied
  // by a coverage penalty.
  // Throws InputError.
  BeamSearch(const BeamOptions& options, int vocabulary_size, int32_t start_id, int32_t eos_id,
             const std::vector<int32_t>& shortlist = {}, bool keep_attention = false);

  // Throws InputError: max_length or the prefix is out of range.
  void Check(const Sentence& sentence) const;

  // Adds a sentence, and its first row behind the rows there are; returns its number: 0, 1, …
  // Throws InputError: max_length or the prefix is out of range.
  int Add(const Sentence& sentence);

  // The rows to compute now, those of a sentence together; empty when all sentences are done.
  // Changed by Add and Advance, which are also what ends the life of the reference.
  const std::vector<Row>& rows() const { return rows_; }

  // Takes the model's output for rows() and goes one step further.
  // outputs: [rows, vocabulary_size]: logits, or log-probabilities, which are used bit by bit as
  //   they are unless something is masked. They need not be masked.
  // Throws InputError (attention is missing or too narrow), NotANumberError (names sentence and
  // step); the search is then over, and another step is an InputError.
  void Advance(const float* outputs, bool log_probabilities, const Attention& attention = {});

  // The same from the best tokens of each row. With options.sampling all tokens are needed.
  // Equal to Advance but for this: of candidates whose sums with the score round to one float,
  // those behind the best top_count() of a row by logit are not seen.
  void AdvanceTop(const TopCandidates& top, const Attention& attention = {});

  // What changes in the logits of rows()[row] besides the mask that all rows share: the end of
  // sentence, repetition_penalty, no_repeat_ngram. Ascending by token; none for a forced row.
  // Advance applies them itself.
  std::vector<LogitEdit> Edits(int row) const;

  // The token whose logit AdvanceTop needs whatever its rank: the one that is forced, or the end of
  // sentence where Lingvo's rule may force it; else -1.
  int32_t wanted(int row) const;

  // Tokens of a row that AdvanceTop needs.
  int top_count() const;

  bool done(int sentence) const { return states_[sentence].done; }

  // The hypotheses of a sentence that is done: at most num_hypotheses, best first.
  const std::vector<Hypothesis>& results(int sentence) const { return states_[sentence].results; }
  // The same, given away.
  std::vector<Hypothesis> TakeResults(int sentence) { return std::move(states_[sentence].results); }

  int sentences() const { return static_cast<int>(states_.size()); }
  const BeamOptions& options() const { return options_; }

 private:
  // A token of a hypothesis; following `parent` gives the ones before.
  struct Node {
    int parent;
    int32_t token;
    float log_probability;
    int attention;  // Row in State::attention; -1 without attention.
  };

  struct Slot {
    float score;     // Cumulative log-probability.
    int node;        // Newest token; -1 at position 0.
    int sample;      // Number of the sample, when sampling.
    int parent = 0;  // Slot of the step before that this one continues.
  };

  struct Found {
    float score, log_probability;
    int node;
  };

  struct State {
    Sentence sentence;
    int step = 0;
    int first_row = 0;  // In rows_, of those of this step.
    std::vector<Slot> live;
    std::vector<Found> found;  // Best first, at most num_hypotheses.
    int finished = 0;
    bool first_ended = false;
    float best_terminated = -1e36f;  // Lingvo's rule.
    bool done = false;
    std::vector<Node> nodes;
    std::vector<float> attention;
    std::vector<Hypothesis> results;
  };

  struct Candidate {
    float score;  // Of the hypothesis that it would make.
    float log_probability;
    int slot;
    int32_t token;
  };

  // Runs one step; outputs_of(index of a row, its state) gives RowOutputs.
  template <typename OutputsOf>
  void AdvanceAll(const OutputsOf& outputs_of, const Attention& attention);
  template <typename OutputsOf>
  void StepAll(const OutputsOf& outputs_of, const Attention& attention);

  RowOutputs FullRow(int index, const State& state, const float* outputs, bool log_probabilities);
  std::vector<Candidate> BestCandidates(const State& state,
                                        const std::vector<RowOutputs>& rows) const;
  void SelectByRule(State* state, const std::vector<Candidate>& candidates,
                    const std::vector<RowOutputs>& rows);
  void SelectByLingvo(State* state, const std::vector<RowOutputs>& rows);
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
  bool failed_ = false;         // A step ended in an error.
  std::vector<float> scratch_;  // Masked copies of the rows of one sentence.
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_BEAM_SEARCH_H_
