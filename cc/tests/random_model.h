// A Transformer with random weights, as named tensors.
#ifndef KERAS_MTL_TESTS_RANDOM_MODEL_H_
#define KERAS_MTL_TESTS_RANDOM_MODEL_H_

#include <list>
#include <memory>
#include <string>

#include "engine/model.h"
#include "tests/harness.h"

namespace keras_mtl::testing {

class RandomModel {
 public:
  RandomModel(const TransformerConfig& config, unsigned seed) : config_(config), random_(seed) {
    const int v = config.vocabulary_size, d = config.hidden_dim;
    if (config.tie_embeddings) {
      Add("embedding.weight", {v, d}, d);
    } else {
      Add("source_embedding.weight", {config.source_ids(), d}, d);
      Add("target_embedding.weight", {v, d}, d);
    }
    if (config.positions == Positions::kAdded) {
      Add("source_positions", {config.max_length, d}, d);
      Add("target_positions", {config.max_length, d}, d);
    } else if (config.positions == Positions::kRotary) {
      Add("rotary_positions", {config.max_length, d / config.num_heads}, 1);
    }
    for (int i = 0; i < config.encoder_layers; ++i) {
      const std::string layer = "encoder.layer." + std::to_string(i);
      Norm(layer + ".attention_norm");
      Linear(layer + ".attention.qkv", 3 * d, d);
      Linear(layer + ".attention.output", d, d);
      FeedForward(layer);
    }
    if (config.transparent) {
      Add("encoder.transparent_attention.layer_scores",
          {config.encoder_layers + 1, config.decoder_layers}, 1);
    }
    if (!config.post_norm) {
      Norm(config.transparent ? "encoder.memory_norm" : "encoder.final_norm");
    }
    for (int j = 0; j < config.decoders; ++j) {
      const std::string decoder = "decoder." + std::to_string(j);
      for (int i = 0; i < config.decoder_layers; ++i) {
        const std::string layer = decoder + ".layer." + std::to_string(i);
        Norm(layer + ".self_attention_norm");
        Linear(layer + ".self_attention.qkv", 3 * d, d);
        Linear(layer + ".self_attention.output", d, d);
        Norm(layer + ".cross_attention_norm");
        Linear(layer + ".cross_attention.query", d, d);
        Linear(layer + ".cross_attention.key_value", 2 * d, d);
        Linear(layer + ".cross_attention.output", d, d);
        FeedForward(layer);
      }
      if (!config.post_norm) Norm(decoder + ".final_norm");
      if (!config.projection_is_tied()) Add(decoder + ".projection.weight", {v, d}, d);
    }
  }

  TensorMap& tensors() { return tensors_; }
  // `this` must outlive the model.
  std::shared_ptr<const Model> Load(ComputeType compute, Isa isa) const {
    return Model::Load(config_, tensors_, compute, isa, nullptr);
  }

 private:
  void Add(const std::string& name, std::vector<int64_t> shape, int fan_in) {
    size_t size = 1;
    for (int64_t dimension : shape) size *= static_cast<size_t>(dimension);
    data_.push_back(Normal(random_, size, 1.0f / std::sqrt(static_cast<float>(fan_in))));
    tensors_[name] = {DType::kFloat32, std::move(shape), data_.back().data(), size * sizeof(float),
                      0};
  }
  void Norm(const std::string& name) {
    Add(name + ".gamma", {config_.hidden_dim}, 1);
    if (!config_.rms_norm) Add(name + ".beta", {config_.hidden_dim}, 4);
  }
  void Linear(const std::string& name, int columns, int depth) {
    Add(name + ".weight", {columns, depth}, depth);
    Add(name + ".bias", {columns}, 4);
  }
  void FeedForward(const std::string& layer) {
    Norm(layer + ".feed_forward_norm");
    const std::string block = layer + ".feed_forward.";
    const int d = config_.hidden_dim, inner = config_.intermediate_dim;
    if (config_.gated) Linear(block + "gate", inner, d);
    Linear(block + (config_.gated ? "value" : "intermediate"), inner, d);
    Linear(block + "output", d, inner);
  }

  TransformerConfig config_;
  Random random_;
  std::list<std::vector<float>> data_;
  TensorMap tensors_;
};

}  // namespace keras_mtl::testing

#endif  // KERAS_MTL_TESTS_RANDOM_MODEL_H_
