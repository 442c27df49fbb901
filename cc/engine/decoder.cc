#include "engine/decoder.h"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/errors.h"

namespace keras_mtl {
namespace {

[[noreturn]] void Fail(const std::string& message) { throw InputError(message); }

}  // namespace

Decoder::Sentence::Sentence(EntryPool* pool, int route, int decoder, int length, int beams)
    : pool(pool), route(route), decoder(decoder), cross(length), cache(pool, beams) {
  for (char*& entry : cross) entry = pool->Take();
}

Decoder::Sentence::~Sentence() {
  for (char* entry : cross) pool->Give(entry);
}

Decoder::Decoder(std::shared_ptr<const Model> model, int beams, int threads)
    : model_(std::move(model)),
      beams_(beams),
      pool_(threads),
      entries_(
          EntryLayout(model_->config().num_heads,
                      model_->config().hidden_dim / model_->config().num_heads, model_->compute()),
          model_->config().decoder_layers) {
  if (beams < 1 || beams > 0xFFFF) {
    Fail("beams=" + std::to_string(beams) + ": give a whole number from 1 to 65535");
  }
}

Context Decoder::context() {
  return {model_->kernels(), model_->compute(), &arena_, pool_.threads() > 1 ? &pool_ : nullptr};
}

std::vector<int> Decoder::Admit(const Memory& memory, int route) {
  return Admit(memory, std::vector<int>(memory.begins.size() - 1, route));
}

std::vector<int> Decoder::Admit(const Memory& memory, const std::vector<int>& routes) {
  const TransformerConfig& config = model_->config();
  const int d = config.hidden_dim;
  const int tokens = memory.begins.back();
  for (const int route : routes) {
    if (route < 0 || route >= config.routes()) {
      Fail("decoder=" + std::to_string(route) + ": the model's decoders are 0 to " +
           std::to_string(config.routes() - 1));
    }
  }
  const int decoder = routes.empty() ? 0 : config.DecoderOf(routes[0]);
  for (size_t s = 0; s + 1 < memory.begins.size(); ++s) {
    if (memory.begins[s] == memory.begins[s + 1]) {
      Fail("source " + std::to_string(s) + " is empty: give at least one id");
    }
  }
  std::vector<int> handles;
  std::vector<char*> entries;  // [tokens]
  size_t handle = 0;
  for (size_t s = 0; s + 1 < memory.begins.size(); ++s) {
    while (handle < sentences_.size() && sentences_[handle] != nullptr) ++handle;
    if (handle == sentences_.size()) sentences_.emplace_back();
    const int length = memory.begins[s + 1] - memory.begins[s];
    sentences_[handle] = std::make_unique<Sentence>(&entries_, routes[s], decoder, length, beams_);
    const std::vector<char*>& cross = sentences_[handle]->cross;
    entries.insert(entries.end(), cross.begin(), cross.end());
    handles.push_back(static_cast<int>(handle));
  }
  arena_.Reset();
  Context work = context();
  const AdapterRows adapters(config, TokenRoutes(config, memory.begins, routes));
  if (!config.adapter_sets.empty()) work.adapters = &adapters;
  float* key_values = arena_.Allocate<float>(static_cast<size_t>(tokens) * 2 * d);
  Rows rows;
  float range = 0;
  for (int layer = 0; layer < config.decoder_layers; ++layer) {
    const Dense& key_value = model_->decoder(decoder).layers[layer].key_value;
    // Usually all layers read the same rows.
    if (layer == 0 || config.transparent || key_value.input_range() != range) {
      const size_t first = config.transparent ? static_cast<size_t>(layer) * tokens * d : 0;
      range = key_value.input_range();
      rows = MakeRows(work, memory.rows.data() + first, tokens, d, range);
    }
    key_value.Apply(work, rows, key_values);
    Store(work, key_values, 2 * d, tokens, entries.data(), layer);
  }
  return handles;
}

void Decoder::Store(const Context& context, const float* rows, int stride, int count,
                    char* const* entries, int layer) const {
  const ptrdiff_t offset = layer * entries_.layer_stride();
  ParallelFor(context.pool, count, kRowGrain, [&](int, int begin, int end) {
    for (int i = begin; i < end; ++i) {
      entries_.layout().Store(context.kernels, rows + static_cast<ptrdiff_t>(i) * stride,
                              entries[i] + offset);
    }
  });
}

void Decoder::Release(int sentence) {
  if (sentence < 0 || sentence >= static_cast<int>(sentences_.size())) {
    Fail("sentence " + std::to_string(sentence) + " has not been admitted");
  }
  sentences_[sentence].reset();
}

void Decoder::Check(const StepRow* rows, int count) const {
  const TransformerConfig& config = model_->config();
  std::vector<char> seen(sentences_.size(), 0), beams;
  for (int i = 0; i < count; ++i) {
    const StepRow& row = rows[i];
    const std::string where = "row " + std::to_string(i) + ": ";
    if (row.sentence < 0 || row.sentence >= static_cast<int>(sentences_.size()) ||
        sentences_[row.sentence] == nullptr) {
      Fail(where + "sentence " + std::to_string(row.sentence) + " has not been admitted");
    }
    const Sentence& sentence = *sentences_[row.sentence];
    if (i == 0 || rows[i - 1].sentence != row.sentence) {
      if (seen[row.sentence]) Fail(where + "the rows of a sentence must be consecutive");
      seen[row.sentence] = 1;
      beams.assign(beams_, 0);
    }
    if (row.beam < 0 || row.beam >= beams_ || beams[row.beam]) {
      Fail(where + "beam " + std::to_string(row.beam) + " is already used or outside [0, " +
           std::to_string(beams_) + ")");
    }
    beams[row.beam] = 1;
    const int position = sentence.cache.position();
    if (position >= config.max_length) {
      Fail(where + "position " + std::to_string(position) + " exceeds the model's max_length, " +
           std::to_string(config.max_length));
    }
    if (position > 0 &&
        (row.parent < 0 || row.parent >= beams_ || !sentence.cache.live(row.parent))) {
      Fail(where + "parent " + std::to_string(row.parent) + " was not part of the last step");
    }
    const auto in_vocabulary = [&](int32_t id) { return id >= 0 && id < config.vocabulary_size; };
    if (!in_vocabulary(row.token) ||
        !(row.request.wanted == -1 || in_vocabulary(row.request.wanted))) {
      Fail(where + "a token is outside [0, " + std::to_string(config.vocabulary_size) + ")");
    }
    for (int e = 0; e < row.request.edits.count; ++e) {
      const int32_t* tokens = row.request.edits.tokens;
      if (!in_vocabulary(tokens[e]) || (e > 0 && tokens[e - 1] >= tokens[e])) {
        Fail(where + "the tokens of edits must be ascending and in [0, " +
             std::to_string(config.vocabulary_size) + ")");
      }
    }
  }
}

void Decoder::Step(const StepRow* rows, int count, const StepOptions& options, StepResult* result) {
  const TransformerConfig& config = model_->config();
  Check(rows, count);
  if (options.attention_layer >= config.decoder_layers ||
      options.attention_head >= config.num_heads) {
    Fail("attention_layer=" + std::to_string(options.attention_layer) +
         ", attention_head=" + std::to_string(options.attention_head) + ": the decoder has only " +
         std::to_string(config.decoder_layers) + " layers and " + std::to_string(config.num_heads) +
         " heads");
  }
  const int d = config.hidden_dim;
  arena_.Reset();
  Context work = context();

  for (int first = 0; first < count;) {
    Sentence& sentence = *sentences_[rows[first].sentence];
    std::vector<int> beams, parents;
    int last = first;
    for (; last < count && rows[last].sentence == rows[first].sentence; ++last) {
      beams.push_back(rows[last].beam);
      parents.push_back(rows[last].parent);
    }
    sentence.cache.Advance(beams.data(), parents.data(), last - first);
    first = last;
  }

  int stride = 0;
  if (options.attention_layer >= 0) {
    for (int i = 0; i < count; ++i) {
      stride = std::max(stride, static_cast<int>(sentences_[rows[i].sentence]->cross.size()));
    }
  }
  result->attention_stride = stride;
  result->attention.assign(static_cast<size_t>(count) * stride, 0.0f);

  // Process consecutive rows with the same decoder in one run. Usually there is a single run.
  result->Resize(count, config.vocabulary_size, options);
  std::vector<RowRequest> requests(count);
  for (int i = 0; i < count; ++i) requests[i] = rows[i].request;
  for (int first = 0; first < count;) {
    const int decoder = sentences_[rows[first].sentence]->decoder;
    int last = first + 1;
    while (last < count && sentences_[rows[last].sentence]->decoder == decoder) ++last;
    const int n = last - first;
    const DecoderWeights& weights = model_->decoder(decoder);
    std::vector<int> routes;
    if (!config.adapter_sets.empty()) {
      for (int i = first; i < last; ++i) routes.push_back(sentences_[rows[i].sentence]->route);
    }
    const AdapterRows adapters(config, routes);
    work.adapters = config.adapter_sets.empty() ? nullptr : &adapters;
    float* x = arena_.Allocate<float>(static_cast<size_t>(n) * d);
    RunLayers(work, rows + first, n, weights, options,
              result->attention.data() + static_cast<ptrdiff_t>(first) * stride, stride, x);
    const Dense& projection = model_->projection(decoder);
    const Rows hidden = SublayerInput(work, config, weights.final_norm, projection, x, n);
    Project(work, projection, decoder, hidden, requests.data() + first, options, first, result);
    work.adapters = nullptr;
    first = last;
  }
}

void Decoder::RunLayers(const Context& context, const StepRow* rows, int count,
                        const DecoderWeights& weights, const StepOptions& options, float* attention,
                        int attention_stride, float* x) {
  const TransformerConfig& config = model_->config();
  const int d = config.hidden_dim;
  const size_t size = static_cast<size_t>(count) * d;
  float* qkv = arena_.Allocate<float>(3 * size);
  float* query = arena_.Allocate<float>(size);
  float* attended = arena_.Allocate<float>(size);
  AttentionRow* self_rows = arena_.Allocate<AttentionRow>(count);
  AttentionRow* cross_rows = arena_.Allocate<AttentionRow>(count);
  char** entries = arena_.Allocate<char*>(count);
  for (int i = 0; i < count; ++i) {
    Sentence& sentence = *sentences_[rows[i].sentence];
    const int length = sentence.cache.position();
    const ptrdiff_t at = static_cast<ptrdiff_t>(i) * d;
    const char** path = arena_.Allocate<const char*>(length);
    sentence.cache.Path(rows[i].beam, path);
    entries[i] = sentence.cache.Entry(rows[i].beam);
    model_->target_embedding().Lookup(rows[i].token, length - 1, x + at);
    self_rows[i] = {qkv + 3 * at, path, length, attended + at, nullptr, rows[i].sentence};
    cross_rows[i] = {
        query + at, sentence.cross.data(), static_cast<int>(sentence.cross.size()), attended + at,
        nullptr,    rows[i].sentence};
  }
  AddVectors(context, weights.vectors, d, x);
  const EntryLayout& layout = entries_.layout();
  for (int l = 0; l < config.decoder_layers; ++l) {
    const Arena::Scope scope(&arena_);
    const DecoderLayerWeights& layer = weights.layers[l];
    const ptrdiff_t offset = l * entries_.layer_stride();
    layer.qkv.Apply(context,
                    SublayerInput(context, config, layer.self_attention_norm, layer.qkv, x, count),
                    qkv);
    if (config.positions == Positions::kRotary) {
      for (int i = 0; i < count; ++i) {
        // Keys follow queries, so they are rotated as further heads.
        context.kernels.rotate(model_->rotary(self_rows[i].length - 1), 2 * config.num_heads,
                               d / config.num_heads, qkv + static_cast<ptrdiff_t>(i) * 3 * d);
      }
    }
    Store(context, qkv + d, 3 * d, count, entries, l);
    AttendRows(context, layout, self_rows, count, offset, -1);
    const Dense& self_output = layer.self_attention_output;
    self_output.Apply(context, MakeRows(context, attended, count, d, self_output.input_range()), x,
                      Activation::kNone, Combine::kAdd);
    FinishSublayer(context, config, layer.self_attention_norm, x, count);

    layer.query.Apply(
        context, SublayerInput(context, config, layer.cross_attention_norm, layer.query, x, count),
        query);
    for (int i = 0; i < count; ++i) {
      cross_rows[i].weights = l == options.attention_layer
                                  ? attention + static_cast<ptrdiff_t>(i) * attention_stride
                                  : nullptr;
    }
    AttendRows(context, layout, cross_rows, count, offset, options.attention_head);
    const Dense& cross_output = layer.cross_attention_output;
    cross_output.Apply(context, MakeRows(context, attended, count, d, cross_output.input_range()),
                       x, Activation::kNone, Combine::kAdd);
    FinishSublayer(context, config, layer.cross_attention_norm, x, count);
    AddFeedForward(context, layer.feed_forward, config, x, count);
    AddAdapters(context, layer.adapters, config, x);
  }
}

size_t Decoder::memory_bytes() const { return arena_.capacity() + entries_.bytes(); }

}  // namespace keras_mtl
