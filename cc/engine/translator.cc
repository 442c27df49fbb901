#include "engine/translator.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "engine/errors.h"

namespace keras_mtl {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// A batch is refilled when 1 / kRefillPart of it is free. This makes fewer runs of the encoder,
// with more rows each.
constexpr int kRefillPart = 4;

// Maximum of rows in a worker's step. More rows do not make it faster, and the keys and values of
// hypotheses need memory (2 MB per sentence of 25 tokens for Transformer base with 4 beams).
constexpr int kMaxRows = 128;

[[noreturn]] void Fail(const std::string& message) { throw InputError(message); }

void CheckRange(const std::string& name, int value, int low, int high) {
  if (value < low || value > high) {
    Fail(name + "=" + std::to_string(value) + ": give a whole number from " + std::to_string(low) +
         " to " + std::to_string(high));
  }
}

template <typename T>
void CheckCount(const char* name, const std::vector<T>& values, int sentences) {
  if (values.empty() || static_cast<int>(values.size()) == sentences) return;
  Fail(std::string(name) + " has " + std::to_string(values.size()) + " entries, but there are " +
       std::to_string(sentences) + " sentences: give one entry per sentence");
}

// The log-probability of a logit is its difference from `log_sum`.
Normalizer NormalizerOf(float log_sum) {
  Normalizer normalizer;
  normalizer.valid = log_sum < kInfinity;                  // false for NaN, too
  if (log_sum > -kInfinity) normalizer.highest = log_sum;  // else no token is allowed
  return normalizer;
}

}  // namespace

void CheckDecoders(const TransformerConfig& config, const std::vector<int>& decoders,
                   int sentences) {
  CheckCount("decoders", decoders, sentences);
  for (size_t i = 0; i < decoders.size(); ++i) {
    CheckRange("decoder of sentence " + std::to_string(i), decoders[i], 0, config.routes() - 1);
  }
}

Translation::Translation(const Model& model, const TranslateRequest& request, int workers)
    : model_(model), request_(request) {
  const TransformerConfig& config = model.config();
  const int count = request.source.sentences();
  CheckSource(config, request.source);
  CheckDecoders(config, request.decoders, count);
  CheckCount("prefixes", request.prefixes, count);
  CheckCount("biases", request.biases, count);
  CheckCount("indices", request.indices, count);
  CheckRange("max_batch_size", request.max_batch_size, 1, 1 << 20);
  CheckRange("attention_layer", request.attention_layer, -1, config.decoder_layers - 1);
  CheckRange("attention_head", request.attention_head, -1, config.num_heads - 1);
  const BeamOptions& options = request.options;
  const BeamSearch search(options, config.vocabulary_size, config.bos_id, config.eos_id,
                          request.shortlist);
  CheckRange("beam_size", options.beam_size, 1, 0xFFFF);
  if (options.max_length > config.max_length) {
    Fail("max_length=" + std::to_string(options.max_length) + ": the model has only " +
         std::to_string(config.max_length) + " positions; give at most that number");
  }
  if (request.alignments || options.coverage_penalty != 0) {
    attention_layer_ =
        request.attention_layer < 0 ? config.decoder_layers - 1 : request.attention_layer;
  }
  std::vector<uint8_t> allowed(config.vocabulary_size, request.shortlist.empty());
  for (const int32_t token : request.shortlist) allowed[token] = 1;
  for (const int32_t token : options.suppress) allowed[token] = 0;
  if (!request.shortlist.empty()) {
    shortlist_ = std::make_unique<Shortlist>();
    for (int token = 0; token < config.vocabulary_size; ++token) {
      if (allowed[token]) shortlist_->tokens.push_back(token);
    }
    for (int i = 0; i < (config.projection_is_tied() ? 1 : config.decoders); ++i) {
      shortlist_->projections.push_back(
          model.projection(i).Select(shortlist_->tokens, model.compute()));
    }
  } else if (!options.suppress.empty()) {
    bias_ = AllowedBias(allowed);
  }
  results_.resize(count);
  std::vector<int> sentences;
  for (int i = 0; i < count; ++i) {
    if (MaxLength(i) > 0) {
      search.Check(MakeSentence(i));
      sentences.push_back(i);
      continue;
    }
    Hypothesis empty;
    empty.ended = true;
    results_[i].push_back(empty);
  }
  const int total = static_cast<int>(sentences.size());
  share_ = std::max(1, std::min({request.max_batch_size, kMaxRows / options.beam_size,
                                 (total + workers - 1) / workers}));
  queue_ = std::make_unique<SentenceQueue>(config, request.source, request.decoders,
                                           std::move(sentences));
}

int Translation::parallelism() const { return static_cast<int>(queue_->size()); }

int Translation::MaxLength(int source) const {
  const TransformerConfig& config = model_.config();
  const int32_t* ids = request_.source.ids.data() + request_.source.begins[source];
  int count = request_.source.length(source);
  if (count > 0 && ids[count - 1] == config.eos_id) --count;
  const bool tagged = count > 0 && std::any_of(config.tasks.begin(), config.tasks.end(),
                                               [&](const Task& t) { return t.tag == ids[0]; });
  if (tagged) --count;
  if (count == 0) return 0;
  const BeamOptions& options = request_.options;
  double limit = options.max_length;
  if (options.max_length_factor > 0) {
    limit =
        std::min(limit, std::floor(options.max_length_factor * count) + options.max_length_offset);
  }
  return std::max({1, options.min_length, static_cast<int>(limit)});
}

Sentence Translation::MakeSentence(int source) const {
  Sentence sentence;
  sentence.index = request_.indices.empty() ? source : request_.indices[source];
  sentence.max_length = MaxLength(source);
  if (!request_.prefixes.empty()) sentence.prefix = request_.prefixes[source];
  sentence.source_length = request_.source.length(source);
  if (!request_.biases.empty()) sentence.bias = request_.biases[source];
  return sentence;
}

// The state of one worker: its search and the mapping from its sentences to the decoder's handles.
class Translation::Worker {
 public:
  Worker(Translation* translation, Decoder* decoder)
      : translation_(*translation),
        decoder_(*decoder),
        search_(translation->request_.options, decoder->model().config().vocabulary_size,
                decoder->model().config().bos_id, decoder->model().config().eos_id,
                translation->request_.shortlist, translation->attention_layer_ >= 0) {
    const BeamOptions& options = search_.options();
    options_.all = options.sampling || !translation->request_.biases.empty();
    options_.top = options_.all ? 0 : search_.top_count();
    if (!translation->bias_.empty()) options_.bias = translation->bias_.data();
    options_.shortlist = translation->shortlist_.get();
    options_.attention_layer = translation->attention_layer_;
    options_.attention_head = translation->request_.attention_head;
  }

  ~Worker() {
    for (const Running& sentence : running_) {
      if (sentence.handle >= 0) decoder_.Release(sentence.handle);
    }
  }

  void Refill() {
    int room = translation_.share_ - live_;
    if (live_ > 0 && room * kRefillPart < translation_.share_) return;
    SentenceQueue& queue = *translation_.queue_;
    while (room > 0) {
      const std::vector<int> taken = queue.Take(room);
      if (taken.empty()) return;
      const std::vector<int> routes = queue.Routes(taken);
      const Memory memory =
          Encode(decoder_.model(), decoder_.context(), queue.Tokens(taken), routes);
      const std::vector<int> handles = decoder_.Admit(memory, routes);
      for (size_t i = 0; i < taken.size(); ++i) {
        search_.Add(translation_.MakeSentence(taken[i]));
        running_.push_back({taken[i], handles[i], 0});
      }
      live_ += static_cast<int>(taken.size());
      room -= static_cast<int>(taken.size());
    }
  }

  bool done() const { return search_.rows().empty(); }

  void Step() {
    MakeRows();
    const int count = static_cast<int>(rows_.size());
    decoder_.Step(rows_.data(), count, options_, &result_);
    normalizers_.clear();
    for (const float log_sum : result_.log_sums) normalizers_.push_back(NormalizerOf(log_sum));
    const int vocabulary = decoder_.model().config().vocabulary_size;
    const TopCandidates top{options_.all ? vocabulary : result_.top,
                            options_.all ? nullptr : result_.tokens.data(),
                            options_.all ? result_.all_logits.data() : result_.logits.data(),
                            normalizers_.data(), result_.wanted.data()};
    search_.AdvanceTop(top, {result_.attention.data(), result_.attention_stride});
    for (size_t i = 0; i < stepped_.size(); ++i) {
      const int number = stepped_[i];
      if (!search_.done(number)) continue;
      Running& sentence = running_[number];
      decoder_.Release(sentence.handle);
      sentence.handle = -1;
      translation_.results_[sentence.source] = search_.TakeResults(number);
      --live_;
    }
  }

 private:
  struct Running {
    int source;     // Index in the request.
    int handle;     // Handle of the decoder; -1 after its release.
    int first_row;  // Index of its first row in the last step.
  };

  // Builds rows_ and stepped_ from the rows of the search.
  void MakeRows() {
    const std::vector<Row>& rows = search_.rows();
    rows_.clear();
    stepped_.clear();
    edit_tokens_.clear();
    edit_penalties_.clear();
    int first = 0, parents = 0;  // First row of the sentence in this step and in the last step.
    for (int i = 0; i < static_cast<int>(rows.size()); ++i) {
      const Row& row = rows[i];
      Running& sentence = running_[row.sentence];
      if (i == 0 || rows[i - 1].sentence != row.sentence) {
        first = i;
        parents = sentence.first_row;
        sentence.first_row = i;
        stepped_.push_back(row.sentence);
      }
      StepRow step{};
      step.sentence = sentence.handle;
      step.beam = i - first;
      step.parent = row.position == 0 ? 0 : row.parent - parents;
      step.token = row.token;
      step.request.wanted = search_.wanted(i);
      step.request.allow_all = row.forced >= 0;
      for (const LogitEdit& edit : search_.Edits(i)) {
        edit_tokens_.push_back(edit.token);
        edit_penalties_.push_back(edit.penalty);
        ++step.request.edits.count;
      }
      rows_.push_back(step);
    }
    size_t edits = 0;
    for (StepRow& row : rows_) {
      row.request.edits.tokens = edit_tokens_.data() + edits;
      row.request.edits.penalties = edit_penalties_.data() + edits;
      edits += row.request.edits.count;
    }
  }

  Translation& translation_;
  Decoder& decoder_;
  BeamSearch search_;
  StepOptions options_;
  std::vector<Running> running_;  // Indexed by the search's sentence numbers.
  int live_ = 0;
  std::vector<StepRow> rows_;
  std::vector<int> stepped_;  // Sentences in this step.
  std::vector<int32_t> edit_tokens_;
  std::vector<float> edit_penalties_;
  std::vector<Normalizer> normalizers_;
  StepResult result_;
};

void Translation::Run(Decoder* decoder, const std::atomic<bool>& stop) {
  Worker worker(this, decoder);
  while (!stop) {
    worker.Refill();
    if (worker.done()) return;
    worker.Step();
  }
}

}  // namespace keras_mtl
