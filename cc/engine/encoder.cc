#include "engine/encoder.h"

#include <string>

#include "engine/blocks.h"
#include "engine/errors.h"

namespace keras_mtl {

void CheckSource(const TransformerConfig& config, const TokenBatch& batch) {
  for (int s = 0; s < batch.sentences(); ++s) {
    if (batch.length(s) > config.max_length) {
      throw InputError("source " + std::to_string(s) + " has " + std::to_string(batch.length(s)) +
                       " tokens, more than the model's max_length " +
                       std::to_string(config.max_length));
    }
    for (int i = batch.begins[s]; i < batch.begins[s + 1]; ++i) {
      if (batch.ids[i] < 0 || batch.ids[i] >= config.vocabulary_size) {
        throw InputError("source " + std::to_string(s) + " holds the id " +
                         std::to_string(batch.ids[i]) + "; ids must be in [0, " +
                         std::to_string(config.vocabulary_size) + ")");
      }
    }
  }
}

Memory Encode(const Model& model, const Context& context, const TokenBatch& batch) {
  const TransformerConfig& config = model.config();
  CheckSource(config, batch);
  const int d = config.hidden_dim;
  const int count = static_cast<int>(batch.ids.size());
  const size_t size = static_cast<size_t>(count) * d;
  Memory memory;
  memory.begins = batch.begins;
  memory.rows.resize(size);
  if (count == 0) return memory;

  std::vector<float> x(size);
  std::vector<float> qkv(3 * size);
  std::vector<float> attended(size);
  std::vector<const float*> keys(count);  // of layer-independent addresses: one buffer for all
  std::vector<AttentionRow> rows(count);
  for (int s = 0; s < batch.sentences(); ++s) {
    for (int i = batch.begins[s]; i < batch.begins[s + 1]; ++i) {
      model.source_embedding().Lookup(batch.ids[i], i - batch.begins[s],
                                      x.data() + static_cast<size_t>(i) * d);
      const float* row = qkv.data() + static_cast<size_t>(i) * 3 * d;
      keys[i] = row + d;
      rows[i] = {row, keys.data() + batch.begins[s], batch.length(s),
                 attended.data() + static_cast<size_t>(i) * d, nullptr, s};
    }
  }
  for (const EncoderLayerWeights& layer : model.encoder()) {
    context.arena->Reset();
    layer.qkv.Apply(context,
                    NormalizedRows(context, layer.attention_norm, config.layer_norm_epsilon,
                                   x.data(), count, d),
                    qkv.data());
    AttendRows(context, config, rows.data(), count, 0, -1);
    layer.attention_output.Apply(context, MakeRows(context, attended.data(), count, d), x.data(),
                                 Activation::kNone, /*accumulate=*/true);
    AddFeedForward(context, layer.feed_forward, config, x.data(), count);
  }
  context.kernels.layer_norm(x.data(), count, d, model.encoder_norm().gamma.data(),
                             model.encoder_norm().beta.data(), config.layer_norm_epsilon,
                             memory.rows.data());
  return memory;
}

}  // namespace keras_mtl
