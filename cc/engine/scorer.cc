#include "engine/scorer.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "engine/errors.h"
#include "engine/translator.h"

namespace keras_mtl {
namespace {

// The admitted sentences of a batch. The destructor releases them, even after an exception.
struct Admitted {
  Decoder& decoder;
  std::vector<int> handles;

  ~Admitted() {
    for (const int handle : handles) decoder.Release(handle);
  }
};

}  // namespace

Scoring::Scoring(const Model& model, const ScoreRequest& request, int workers) : request_(request) {
  const TransformerConfig& config = model.config();
  const int count = request.source.sentences();
  CheckSource(config, request.source);
  CheckDecoders(config, request.decoders, count);
  if (request.target.sentences() != count) {
    throw InputError("there are " + std::to_string(count) + " sources and " +
                     std::to_string(request.target.sentences()) +
                     " targets: give one target per source");
  }
  if (request.max_batch_size < 1) {
    throw InputError("max_batch_size=" + std::to_string(request.max_batch_size) +
                     ": give a whole number of at least 1");
  }
  results_.resize(count);
  std::vector<int> sentences;
  for (int i = 0; i < count; ++i) {
    const std::string name = "target " + std::to_string(i);
    const int length = request.target.length(i);
    if (length > config.max_length) {
      throw InputError(name + " has " + std::to_string(length) +
                       " tokens, more than the model's max_length, " +
                       std::to_string(config.max_length));
    }
    for (int t = request.target.begins[i]; t < request.target.begins[i + 1]; ++t) {
      const int32_t id = request.target.ids[t];
      if (id < 0 || id >= config.vocabulary_size) {
        throw InputError(name + " contains id " + std::to_string(id) + "; ids must be in [0, " +
                         std::to_string(config.vocabulary_size) + ")");
      }
    }
    results_[i].resize(length);
    if (length == 0) continue;
    if (request.source.length(i) == 0) {
      throw InputError("source " + std::to_string(i) +
                       " is empty, but its target is not: give a source with at least one id");
    }
    sentences.push_back(i);
  }
  const int total = static_cast<int>(sentences.size());
  share_ = std::min(request.max_batch_size, std::max(1, (total + workers - 1) / workers));
  queue_ = std::make_unique<SentenceQueue>(config, request.source, request.decoders,
                                           std::move(sentences));
}

void Scoring::Run(Decoder* decoder, const std::atomic<bool>& stop) {
  while (!stop) {
    const std::vector<int> sentences = queue_->Take(share_);
    if (sentences.empty()) return;
    ScoreBatch(decoder, sentences, stop);
  }
}

void Scoring::ScoreBatch(Decoder* decoder, const std::vector<int>& sentences,
                         const std::atomic<bool>& stop) {
  const std::vector<int> routes = queue_->Routes(sentences);
  const Memory memory =
      Encode(decoder->model(), decoder->context(), queue_->Tokens(sentences), routes);
  const Admitted admitted{*decoder, decoder->Admit(memory, routes)};
  const TokenBatch& target = request_.target;
  StepResult result;
  std::vector<StepRow> rows;
  std::vector<int> live;
  for (int t = 0; !stop; ++t) {
    rows.clear();
    live.clear();
    for (size_t i = 0; i < sentences.size(); ++i) {
      const int sentence = sentences[i];
      if (t >= target.length(sentence)) continue;
      const int32_t* ids = target.ids.data() + target.begins[sentence];
      StepRow row{};
      row.sentence = admitted.handles[i];
      row.token = t == 0 ? decoder->model().config().bos_id : ids[t - 1];
      row.request.wanted = ids[t];
      rows.push_back(row);
      live.push_back(sentence);
    }
    if (rows.empty()) return;
    decoder->Step(rows.data(), static_cast<int>(rows.size()), {}, &result);
    for (size_t i = 0; i < live.size(); ++i) {
      if (!std::isfinite(result.log_sums[i])) {
        throw NotANumberError("sentence " + std::to_string(live[i]) +
                              ": the model's output is not a number at target token " +
                              std::to_string(t) +
                              ". Training diverged or the weights are damaged: use an earlier "
                              "checkpoint.");
      }
      results_[live[i]][t] = std::min(result.wanted[i] - result.log_sums[i], 0.0f);
    }
  }
}

}  // namespace keras_mtl
