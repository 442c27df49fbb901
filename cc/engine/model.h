// The weights of a Transformer, packed for one instruction set. The model computes the same
// function as keras_mtl.models.Transformer with `sharing` "full" (one decoder) or "encoder"
// (several).
#ifndef KERAS_MTL_ENGINE_MODEL_H_
#define KERAS_MTL_ENGINE_MODEL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/dense.h"
#include "engine/transformer_config.h"
#include "kernels/aligned_buffer.h"
#include "kernels/huge_pages.h"

namespace keras_mtl {

struct NormWeights {
  AlignedBuffer<float> gamma;  // [hidden_dim]
  AlignedBuffer<float> beta;   // [hidden_dim]; empty if it is a root mean square normalization
};

struct FeedForwardWeights {
  NormWeights norm;
  Dense intermediate;  // the values, if the block is gated
  Dense output;
  Dense gate;  // empty if the block is not gated
};

// A bottleneck adapter: x += up(relu(down(norm(x)))).
struct BottleneckWeights {
  NormWeights norm;  // always a layer normalization
  Dense down;
  Dense up;
};

// The bottlenecks after a layer, by set and adapter; a set without bottlenecks here is empty.
using LayerAdapters = std::vector<std::vector<BottleneckWeights>>;

// The vectors that are added to the inputs of a stack, by set and adapter; a set without is empty.
using AdapterVectors = std::vector<std::vector<AlignedBuffer<float>>>;

struct EncoderLayerWeights {
  NormWeights attention_norm;
  Dense qkv;
  Dense attention_output;
  FeedForwardWeights feed_forward;
  LayerAdapters adapters;
};

struct DecoderLayerWeights {
  NormWeights self_attention_norm;
  Dense qkv;
  Dense self_attention_output;
  NormWeights cross_attention_norm;
  Dense query;
  Dense key_value;
  Dense cross_attention_output;
  FeedForwardWeights feed_forward;
  LayerAdapters adapters;
};

struct DecoderWeights {
  AdapterVectors vectors;
  std::vector<DecoderLayerWeights> layers;
  NormWeights final_norm;
  Dense projection;  // empty if it is tied to a table
};

// Token and position embeddings of one side.
class Embedding {
 public:
  Embedding() = default;
  // Uses the tables `tokens`.weight [rows, hidden_dim] and `positions` float32
  // [max_length, hidden_dim], if the model has them. Keeps pointers into the tensors. If `tied` is
  // not null, it is the packed layer with the same weights, and tokens are looked up there. Throws
  // ModelFileError.
  Embedding(const TensorMap& tensors, const std::string& tokens, int rows,
            const std::string& positions, const TransformerConfig& config, ComputeType compute,
            const KernelTable& kernels, const Dense* tied);

  // out [hidden_dim] = sqrt(hidden_dim) * tokens[token] + positions[position], or without the last
  // term. Both indices must be in range.
  void Lookup(int token, int position, float* out) const;

 private:
  int dim_ = 0;
  float factor_ = 1.0f;
  ComputeType compute_ = ComputeType::kFloat32;
  const Dense* tied_ = nullptr;
  const float* floats_ = nullptr;
  const int8_t* bytes_ = nullptr;
  const float* scales_ = nullptr;
  const float* positions_ = nullptr;
  std::vector<float> zeros_;                        // [hidden_dim] if the model adds no positions
  std::shared_ptr<std::vector<int8_t>> own_bytes_;  // used if float32 weights run in int8
  std::shared_ptr<std::vector<float>> own_scales_;
};

// Immutable after loading: any number of encoders and decoders on any threads may share it.
//
// docs/reference/engine_file.md lists the names of the tensors. A matrix `<name>.weight` is
// float32, or int8 with `<name>.scale`, and runs in either compute type.
class Model {
 public:
  // `owner` keeps the memory of the tensors alive as long as the model exists. `packed`, if given,
  // is called after each group of tensors: the tensors read so far will rarely be read again, and
  // their pages can be released. Throws ModelFileError.
  static std::shared_ptr<const Model> Load(const TransformerConfig& config,
                                           const TensorMap& tensors, ComputeType compute, Isa isa,
                                           std::shared_ptr<const void> owner,
                                           const std::function<void()>& packed = {});

  const TransformerConfig& config() const { return config_; }
  const KernelTable& kernels() const { return kernels_; }
  ComputeType compute() const { return compute_; }
  const Embedding& source_embedding() const { return source_embedding_; }
  const Embedding& target_embedding() const { return target_embedding_; }
  const std::vector<EncoderLayerWeights>& encoder() const { return encoder_; }
  const AdapterVectors& encoder_vectors() const { return encoder_vectors_; }
  const NormWeights& encoder_norm() const { return encoder_norm_; }
  // Transparent attention: the weights of the output of `layers` encoder layers in the memories of
  // the decoder layers, [decoder_layers].
  const float* mixture(int layers) const {
    return mixture_.data() + static_cast<ptrdiff_t>(layers) * config_.decoder_layers;
  }
  // Rotary positions: the table of a position, [head_dim]; see KernelTable::rotate.
  const float* rotary(int position) const {
    return rotary_ + static_cast<ptrdiff_t>(position) * (config_.hidden_dim / config_.num_heads);
  }
  const DecoderWeights& decoder(int index) const { return decoders_[index]; }
  const Dense& projection(int decoder) const {
    return config_.projection_is_tied() ? tied_projection_ : decoders_[decoder].projection;
  }

 private:
  Model(const Model&) = delete;  // The embeddings hold a pointer to the projection.
  Model& operator=(const Model&) = delete;

  Model(const TransformerConfig& config, ComputeType compute, Isa isa)
      : config_(config), kernels_(GetKernels(isa)), compute_(compute) {}

  TransformerConfig config_;
  const KernelTable& kernels_;
  ComputeType compute_;
  std::shared_ptr<const void> owner_;
  HugePages pages_;  // memory of the matrices
  Embedding source_embedding_;
  Embedding target_embedding_;
  std::vector<EncoderLayerWeights> encoder_;
  AdapterVectors encoder_vectors_;
  NormWeights encoder_norm_;
  AlignedBuffer<float> mixture_;   // [encoder_layers + 1, decoder_layers] if it is transparent
  const float* rotary_ = nullptr;  // [max_length, head_dim] if positions are rotary
  std::vector<DecoderWeights> decoders_;
  Dense tied_projection_;
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_MODEL_H_
