#include "engine/model.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/errors.h"

namespace keras_mtl {
namespace {

// Reads the layers of a model by name.
class Loader {
 public:
  Loader(const TransformerConfig& config, const TensorMap& tensors, ComputeType compute,
         const KernelTable& kernels, HugePages* pages)
      : config_(config), tensors_(tensors), compute_(compute), kernels_(kernels), pages_(pages) {}

  NormWeights Norm(const std::string& name) const {
    NormWeights norm;
    norm.gamma = Floats(name + ".gamma");
    if (!config_.rms_norm) norm.beta = Floats(name + ".beta");
    return norm;
  }

  // The norm after the last layer of a stack; empty with post-norm.
  NormWeights FinalNorm(const std::string& stack) const {
    return config_.post_norm ? NormWeights() : Norm(stack + ".final_norm");
  }

  Dense Linear(const std::string& name, int columns, int depth, bool has_bias = true) const {
    Dense dense = Dense::Load(tensors_, name, columns, depth, has_bias, compute_, kernels_, pages_);
    dense.LoadLowRank(tensors_, name, config_.adapter_sets, compute_, kernels_, pages_);
    return dense;
  }

  LayerAdapters Adapters(const std::string& layer) const {
    LayerAdapters found(config_.adapter_sets.size());
    for (size_t set = 0; set < found.size(); ++set) {
      const AdapterSet& adapters = config_.adapter_sets[set];
      const std::string prefix = layer + ".adapter." + std::to_string(set) + ".";
      if (adapters.kind != AdapterKind::kBottleneck ||
          tensors_.count(prefix + "0.down.weight") == 0) {
        continue;
      }
      for (int member = 0; member < adapters.count; ++member) {
        const std::string name = prefix + std::to_string(member);
        found[set].push_back({{Floats(name + ".norm.gamma"), Floats(name + ".norm.beta")},
                              Linear(name + ".down", adapters.size, config_.hidden_dim),
                              Linear(name + ".up", config_.hidden_dim, adapters.size)});
      }
    }
    return found;
  }

  FeedForwardWeights FeedForward(const std::string& layer) const {
    const int d = config_.hidden_dim, inner = config_.intermediate_dim;
    const std::string block = layer + ".feed_forward";
    FeedForwardWeights weights{
        Norm(block + "_norm"),
        Linear(block + (config_.gated ? ".value" : ".intermediate"), inner, d),
        Linear(block + ".output", d, inner),
        config_.gated ? Linear(block + ".gate", inner, d) : Dense()};
    if (config_.gated && weights.gate.input_range() != weights.intermediate.input_range()) {
      throw ModelFileError("tensor '" + block +
                           ".gate.input_range' differs from that of .value, which has the same "
                           "inputs: export the model again");
    }
    return weights;
  }

  AdapterVectors Vectors(const std::string& stack) const {
    AdapterVectors found(config_.adapter_sets.size());
    for (size_t set = 0; set < found.size(); ++set) {
      const AdapterSet& adapters = config_.adapter_sets[set];
      const std::string prefix = stack + ".adapter." + std::to_string(set) + ".";
      if (adapters.kind != AdapterKind::kEmbedding || tensors_.count(prefix + "0.vector") == 0) {
        continue;
      }
      for (int member = 0; member < adapters.count; ++member) {
        found[set].push_back(Floats(prefix + std::to_string(member) + ".vector"));
      }
    }
    return found;
  }

  EncoderLayerWeights EncoderLayer(const std::string& layer) const {
    const int d = config_.hidden_dim;
    return {Norm(layer + ".attention_norm"), Linear(layer + ".attention.qkv", 3 * d, d),
            Linear(layer + ".attention.output", d, d), FeedForward(layer), Adapters(layer)};
  }

  DecoderLayerWeights DecoderLayer(const std::string& layer) const {
    const int d = config_.hidden_dim;
    return {Norm(layer + ".self_attention_norm"),
            Linear(layer + ".self_attention.qkv", 3 * d, d),
            Linear(layer + ".self_attention.output", d, d),
            Norm(layer + ".cross_attention_norm"),
            Linear(layer + ".cross_attention.query", d, d),
            Linear(layer + ".cross_attention.key_value", 2 * d, d),
            Linear(layer + ".cross_attention.output", d, d),
            FeedForward(layer),
            Adapters(layer)};
  }

  DecoderWeights Decoder(const std::string& name) const {
    DecoderWeights decoder;
    decoder.vectors = Vectors(name);
    for (int i = 0; i < config_.decoder_layers; ++i) {
      decoder.layers.push_back(DecoderLayer(name + ".layer." + std::to_string(i)));
    }
    decoder.final_norm = FinalNorm(name);
    if (!config_.projection_is_tied()) {
      decoder.projection =
          Linear(name + ".projection", config_.vocabulary_size, config_.hidden_dim, false);
    }
    return decoder;
  }

 private:
  AlignedBuffer<float> Floats(const std::string& name) const {
    const float* values = FindFloats(tensors_, name, {config_.hidden_dim});
    AlignedBuffer<float> result(config_.hidden_dim);
    std::copy(values, values + config_.hidden_dim, result.data());
    return result;
  }

  const TransformerConfig& config_;
  const TensorMap& tensors_;
  ComputeType compute_;
  const KernelTable& kernels_;
  HugePages* pages_;
};

// Returns the softmax over encoder layers of the scores of transparent attention,
// [encoder_layers + 1, decoder_layers].
AlignedBuffer<float> Mixture(const TransformerConfig& config, const TensorMap& tensors,
                             const KernelTable& kernels) {
  const int layers = config.encoder_layers + 1, memories = config.decoder_layers;
  const float* scores =
      FindFloats(tensors, "encoder.transparent_attention.layer_scores", {layers, memories});
  AlignedBuffer<float> weights(static_cast<size_t>(layers) * memories);
  std::copy(scores, scores + weights.size(), weights.data());
  for (int j = 0; j < memories; ++j) {
    float* column = weights.data() + j;
    float top = column[0], total = 0;
    for (int i = 1; i < layers; ++i) top = std::max(top, column[i * memories]);
    for (int i = 0; i < layers; ++i) {
      float* weight = column + i * memories;
      *weight -= top;
      kernels.exp(weight, 1);
      total += *weight;
    }
    for (int i = 0; i < layers; ++i) column[i * memories] /= total;
  }
  return weights;
}

}  // namespace

Embedding::Embedding(const TensorMap& tensors, const std::string& tokens, int rows,
                     const std::string& positions, const TransformerConfig& config,
                     ComputeType compute, const KernelTable& kernels, const Dense* tied)
    : dim_(config.hidden_dim),
      factor_(std::sqrt(static_cast<float>(config.hidden_dim))),
      compute_(compute),
      tied_(tied) {
  if (config.positions == Positions::kAdded) {
    positions_ = FindFloats(tensors, positions, {config.max_length, dim_});
  } else {
    zeros_.resize(dim_);
  }
  if (tied != nullptr) return;
  const Tensor& table = FindTensor(tensors, tokens + ".weight", {rows, dim_});
  if (table.dtype == DType::kInt8) {
    bytes_ = table.int8();
    scales_ = FindFloats(tensors, tokens + ".scale", {rows});
    return;
  }
  floats_ = FindFloats(tensors, tokens + ".weight", {rows, dim_});
  if (compute == ComputeType::kFloat32) return;
  // Rounds as an int8 model file does, so that both give the same result.
  own_bytes_ = std::make_shared<std::vector<int8_t>>(static_cast<size_t>(rows) * dim_);
  own_scales_ = std::make_shared<std::vector<float>>(rows);
  std::vector<int8_t> row(RoundUp(dim_, kDepthAlign));
  for (int i = 0; i < rows; ++i) {
    kernels.quantize_rows(floats_ + static_cast<size_t>(i) * dim_, 1, dim_, dim_, row.data(),
                          &(*own_scales_)[i]);
    for (int k = 0; k < dim_; ++k) {
      (*own_bytes_)[static_cast<size_t>(i) * dim_ + k] =
          static_cast<int8_t>(static_cast<uint8_t>(row[k]) ^ kernels.row_flip);
    }
  }
  bytes_ = own_bytes_->data();
  scales_ = own_scales_->data();
}

void Embedding::Lookup(int token, int position, float* out) const {
  const float* shift =
      positions_ == nullptr ? zeros_.data() : positions_ + static_cast<size_t>(position) * dim_;
  if (tied_ != nullptr) return tied_->Column(token, factor_, shift, compute_, out);
  const size_t row = static_cast<size_t>(token) * dim_;
  if (bytes_ != nullptr) {
    const float factor = scales_[token] * factor_;
    for (int i = 0; i < dim_; ++i) {
      out[i] = static_cast<float>(bytes_[row + i]) * factor + shift[i];
    }
  } else {
    for (int i = 0; i < dim_; ++i) out[i] = floats_[row + i] * factor_ + shift[i];
  }
}

std::shared_ptr<const Model> Model::Load(const TransformerConfig& config, const TensorMap& tensors,
                                         ComputeType compute, Isa isa,
                                         std::shared_ptr<const void> owner,
                                         const std::function<void()>& packed) {
  if (isa > BestIsa(GetCpuFeatures())) {
    throw ModelFileError(std::string("this processor does not support ") + IsaName(isa));
  }
  // A larger depth could overflow the exact int32 sums: see kMaxInt8Depth.
  std::vector<std::pair<const char*, int>> depths = {{"hidden_dim", config.hidden_dim},
                                                     {"intermediate_dim", config.intermediate_dim}};
  for (const AdapterSet& adapters : config.adapter_sets) {
    depths.push_back({"adapter_sizes", adapters.size});
  }
  for (const auto& [name, depth] : depths) {
    if (compute != ComputeType::kInt8 || depth <= kMaxInt8Depth) continue;
    throw ModelFileError(std::string(name) + "=" + std::to_string(depth) +
                         ": int8 supports at most " + std::to_string(kMaxInt8Depth) +
                         "; use compute_type float32");
  }
  std::shared_ptr<Model> model(new Model(config, compute, isa));
  model->owner_ = std::move(owner);
  const Loader loader(config, tensors, compute, model->kernels_, &model->pages_);
  // Pack the largest tensors first, so that `packed` can release their pages before others are
  // read.
  const Dense* tied = nullptr;
  if (config.projection_is_tied()) {
    const char* table = config.tie_embeddings ? "embedding" : "target_embedding";
    model->tied_projection_ =
        loader.Linear(table, config.vocabulary_size, config.hidden_dim, false);
    tied = &model->tied_projection_;
    if (packed) packed();
  }
  model->source_embedding_ =
      Embedding(tensors, "source_embedding", config.source_ids(), "source_positions", config,
                compute, model->kernels_, config.tie_embeddings ? tied : nullptr);
  model->target_embedding_ = Embedding(tensors, "target_embedding", config.vocabulary_size,
                                       "target_positions", config, compute, model->kernels_, tied);
  if (config.positions == Positions::kRotary) {
    model->rotary_ = FindFloats(tensors, "rotary_positions",
                                {config.max_length, config.hidden_dim / config.num_heads});
  }
  for (int i = 0; i < config.encoder_layers; ++i) {
    model->encoder_.push_back(loader.EncoderLayer("encoder.layer." + std::to_string(i)));
    if (packed) packed();
  }
  model->encoder_vectors_ = loader.Vectors("encoder");
  if (config.transparent) {
    model->mixture_ = Mixture(config, tensors, model->kernels_);
    if (!config.post_norm) model->encoder_norm_ = loader.Norm("encoder.memory_norm");
  } else {
    model->encoder_norm_ = loader.FinalNorm("encoder");
  }
  for (int j = 0; j < config.decoders; ++j) {
    model->decoders_.push_back(loader.Decoder("decoder." + std::to_string(j)));
    if (packed) packed();
  }
  return model;
}

}  // namespace keras_mtl
