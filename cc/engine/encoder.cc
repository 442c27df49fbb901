#include "engine/encoder.h"

#include <algorithm>
#include <string>

#include "engine/blocks.h"
#include "engine/errors.h"

namespace keras_mtl {
namespace {

// Turns the queries and keys of qkv [tokens, 3 * hidden_dim] by their positions.
void RotateRows(const Model& model, const Context& context, const TokenBatch& batch, float* qkv) {
  const TransformerConfig& config = model.config();
  const ptrdiff_t stride = 3 * config.hidden_dim;
  ParallelFor(context.pool, batch.sentences(), 1, [&](int, int begin, int end) {
    for (int s = begin; s < end; ++s) {
      for (int i = batch.begins[s]; i < batch.begins[s + 1]; ++i) {
        // Keys follow queries, so they are rotated as further heads.
        context.kernels.rotate(model.rotary(i - batch.begins[s]), 2 * config.num_heads,
                               config.hidden_dim / config.num_heads, qkv + i * stride);
      }
    }
  });
}

// Adds x [size], the output of `layers` encoder layers, to the memories of all decoder layers.
void AddToMemories(const Model& model, int layers, const float* x, size_t size,
                   std::vector<float>* memories) {
  for (int j = 0; j < model.config().decoder_layers; ++j) {
    const float weight = model.mixture(layers)[j];
    float* sum = memories->data() + j * size;
    for (size_t i = 0; i < size; ++i) sum[i] += weight * x[i];
  }
}

}  // namespace

void CheckSource(const TransformerConfig& config, const TokenBatch& batch) {
  for (int s = 0; s < batch.sentences(); ++s) {
    if (batch.length(s) > config.max_length) {
      throw InputError("source " + std::to_string(s) + " has " + std::to_string(batch.length(s)) +
                       " tokens, more than the model's max_length, " +
                       std::to_string(config.max_length));
    }
    for (int i = batch.begins[s]; i < batch.begins[s + 1]; ++i) {
      if (batch.ids[i] < 0 || batch.ids[i] >= config.source_ids()) {
        throw InputError("source " + std::to_string(s) + " contains id " +
                         std::to_string(batch.ids[i]) + "; ids must be in [0, " +
                         std::to_string(config.source_ids()) + ")");
      }
    }
  }
}

std::vector<int> TokenRoutes(const TransformerConfig& config, const std::vector<int>& begins,
                             const std::vector<int>& routes) {
  std::vector<int> found;
  if (config.adapter_sets.empty() || routes.empty()) return found;
  for (size_t s = 0; s + 1 < begins.size(); ++s) {
    found.insert(found.end(), begins[s + 1] - begins[s], routes[s]);
  }
  return found;
}

Memory Encode(const Model& model, const Context& worker, const TokenBatch& batch,
              const std::vector<int>& routes) {
  const TransformerConfig& config = model.config();
  CheckSource(config, batch);
  const int d = config.hidden_dim;
  const int count = static_cast<int>(batch.ids.size());
  const size_t size = static_cast<size_t>(count) * d;
  Memory memory;
  memory.begins = batch.begins;
  const int memories = config.memories();
  memory.rows.resize(memories * size);
  if (count == 0) return memory;

  Context context = worker;
  const AdapterRows adapters(config, TokenRoutes(config, batch.begins, routes));
  if (!config.adapter_sets.empty()) context.adapters = &adapters;
  Arena& arena = *context.arena;
  arena.Reset();
  float* x = arena.Allocate<float>(size);
  float* qkv = arena.Allocate<float>(3 * size);
  float* attended = arena.Allocate<float>(size);
  // Keys and values are used in place, as floats after the queries.
  const EntryLayout layout(config.num_heads, d / config.num_heads, ComputeType::kFloat32);
  const char** entries = arena.Allocate<const char*>(count);
  AttentionRow* rows = arena.Allocate<AttentionRow>(count);
  for (int s = 0; s < batch.sentences(); ++s) {
    for (int i = batch.begins[s]; i < batch.begins[s + 1]; ++i) {
      model.source_embedding().Lookup(batch.ids[i], i - batch.begins[s],
                                      x + static_cast<size_t>(i) * d);
      const float* row = qkv + static_cast<size_t>(i) * 3 * d;
      entries[i] = reinterpret_cast<const char*>(row + d);
      rows[i] = {row,
                 entries + batch.begins[s],
                 batch.length(s),
                 attended + static_cast<size_t>(i) * d,
                 nullptr,
                 s};
    }
  }
  AddVectors(context, model.encoder_vectors(), d, x);
  if (config.transparent) AddToMemories(model, 0, x, size, &memory.rows);
  int layers = 0;
  for (const EncoderLayerWeights& layer : model.encoder()) {
    const Arena::Scope scope(&arena);
    layer.qkv.Apply(context,
                    SublayerInput(context, config, layer.attention_norm, layer.qkv, x, count), qkv);
    if (config.positions == Positions::kRotary) RotateRows(model, context, batch, qkv);
    AttendRows(context, layout, rows, count, 0, -1);
    layer.attention_output.Apply(
        context, MakeRows(context, attended, count, d, layer.attention_output.input_range()), x,
        Activation::kNone, Combine::kAdd);
    FinishSublayer(context, config, layer.attention_norm, x, count);
    AddFeedForward(context, layer.feed_forward, config, x, count);
    AddAdapters(context, layer.adapters, config, x);
    if (config.transparent) AddToMemories(model, ++layers, x, size, &memory.rows);
  }
  if (!config.transparent) std::copy(x, x + size, memory.rows.data());
  if (!config.post_norm) {
    context.kernels.layer_norm(memory.rows.data(), memories * count, d,
                               model.encoder_norm().gamma.data(), model.encoder_norm().beta.data(),
                               config.layer_norm_epsilon, memory.rows.data());
  }
  return memory;
}

}  // namespace keras_mtl
