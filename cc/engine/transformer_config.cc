#include "engine/transformer_config.h"

#include "engine/errors.h"

namespace keras_mtl {
namespace {

// Bounds of hyperparameters. They exceed those of any model that fits a machine, but products of
// two fit 64 bits, and a malicious count is rejected before it costs time.
constexpr int64_t kMaxDimension = 1 << 24;
constexpr int64_t kMaxLayers = 1 << 12;

class Checker {
 public:
  Checker(const ModelFile& file, const TransformerConfig& config) : file_(file), c_(config) {}

  void CheckAll() {
    const int64_t d = c_.hidden_dim, ff = c_.intermediate_dim, v = c_.vocabulary_size;
    if (c_.tie_embeddings) {
      Matrix("embedding", v, d);
    } else {
      Matrix("source_embedding", c_.source_ids(), d);
      Matrix("target_embedding", v, d);
    }
    if (c_.positions == Positions::kAdded) {
      file_.tensor("source_positions", DType::kFloat32, {c_.max_length, d});
      file_.tensor("target_positions", DType::kFloat32, {c_.max_length, d});
    } else if (c_.positions == Positions::kRotary) {
      file_.tensor("rotary_positions", DType::kFloat32, {c_.max_length, d / c_.num_heads});
    }
    for (int i = 0; i < c_.encoder_layers; ++i) {
      const std::string layer = "encoder.layer." + std::to_string(i) + ".";
      Norm(layer + "attention_norm");
      Dense(layer + "attention.qkv", 3 * d, d);
      Dense(layer + "attention.output", d, d);
      FeedForward(layer, d, ff);
    }
    CheckAdapters("encoder.", c_.encoder_layers);
    if (c_.transparent) {
      file_.tensor("encoder.transparent_attention.layer_scores", DType::kFloat32,
                   {c_.encoder_layers + 1, c_.decoder_layers});
      if (!c_.post_norm) Norm("encoder.memory_norm");
    } else {
      FinalNorm("encoder");
    }
    for (int j = 0; j < c_.decoders; ++j) {
      const std::string decoder = "decoder." + std::to_string(j) + ".";
      for (int i = 0; i < c_.decoder_layers; ++i) {
        const std::string layer = decoder + "layer." + std::to_string(i) + ".";
        Norm(layer + "self_attention_norm");
        Dense(layer + "self_attention.qkv", 3 * d, d);
        Dense(layer + "self_attention.output", d, d);
        Norm(layer + "cross_attention_norm");
        Dense(layer + "cross_attention.query", d, d);
        Dense(layer + "cross_attention.key_value", 2 * d, d);
        Dense(layer + "cross_attention.output", d, d);
        FeedForward(layer, d, ff);
      }
      CheckAdapters(decoder, c_.decoder_layers);
      FinalNorm("decoder." + std::to_string(j));
      if (!c_.projection_is_tied()) Matrix(decoder + "projection", v, d);
    }
  }

 private:
  void Norm(const std::string& name) {
    file_.tensor(name + ".gamma", DType::kFloat32, {c_.hidden_dim});
    if (!c_.rms_norm) file_.tensor(name + ".beta", DType::kFloat32, {c_.hidden_dim});
  }

  void FinalNorm(const std::string& stack) {
    if (!c_.post_norm) Norm(stack + ".final_norm");
  }

  void Matrix(const std::string& name, int64_t rows, int64_t columns) {
    file_.tensor(name + ".weight", c_.int8 ? DType::kInt8 : DType::kFloat32, {rows, columns});
    if (c_.int8) file_.tensor(name + ".scale", DType::kFloat32, {rows});
    if (Has(name + ".input_range")) file_.tensor(name + ".input_range", DType::kFloat32, {1});
  }

  // A matrix with a bias, and the LoRA matrices of all adapters of a set, or of none.
  void Dense(const std::string& name, int64_t rows, int64_t columns) {
    Matrix(name, rows, columns);
    file_.tensor(name + ".bias", DType::kFloat32, {rows});
    for (size_t set = 0; set < c_.adapter_sets.size(); ++set) {
      const AdapterSet& adapters = c_.adapter_sets[set];
      const std::string prefix = name + ".lora." + std::to_string(set) + ".";
      if (adapters.kind != AdapterKind::kLowRank || !Has(prefix + "0.down.weight")) continue;
      for (int member = 0; member < adapters.count; ++member) {
        Matrix(prefix + std::to_string(member) + ".down", adapters.size, columns);
        Matrix(prefix + std::to_string(member) + ".up", rows, adapters.size);
      }
    }
  }

  bool Has(const std::string& name) const { return file_.tensors().count(name) > 0; }

  // A set of bottlenecks is in all layers of a stack, or in none; embeddings are in a stack or not.
  void CheckAdapters(const std::string& stack, int layers) {
    const int64_t d = c_.hidden_dim;
    for (size_t set = 0; set < c_.adapter_sets.size(); ++set) {
      const AdapterSet& adapters = c_.adapter_sets[set];
      const std::string suffix = ".adapter." + std::to_string(set) + ".";
      if (adapters.kind == AdapterKind::kEmbedding) {
        const std::string prefix = stack + suffix.substr(1);
        for (int member = 0; Has(prefix + "0.vector") && member < adapters.count; ++member) {
          file_.tensor(prefix + std::to_string(member) + ".vector", DType::kFloat32, {d});
        }
        continue;
      }
      if (adapters.kind != AdapterKind::kBottleneck ||
          !Has(stack + "layer.0" + suffix + "0.down.weight")) {
        continue;
      }
      for (int i = 0; i < layers; ++i) {
        for (int member = 0; member < adapters.count; ++member) {
          const std::string name =
              stack + "layer." + std::to_string(i) + suffix + std::to_string(member);
          file_.tensor(name + ".norm.gamma", DType::kFloat32, {d});
          file_.tensor(name + ".norm.beta", DType::kFloat32, {d});
          Matrix(name + ".down", adapters.size, d);
          file_.tensor(name + ".down.bias", DType::kFloat32, {adapters.size});
          Matrix(name + ".up", d, adapters.size);
          file_.tensor(name + ".up.bias", DType::kFloat32, {d});
        }
      }
    }
  }

  void FeedForward(const std::string& layer, int64_t d, int64_t ff) {
    Norm(layer + "feed_forward_norm");
    if (c_.gated) {
      Dense(layer + "feed_forward.gate", ff, d);
      Dense(layer + "feed_forward.value", ff, d);
    } else {
      Dense(layer + "feed_forward.intermediate", ff, d);
    }
    Dense(layer + "feed_forward.output", d, ff);
  }

  const ModelFile& file_;
  const TransformerConfig& c_;
};

[[noreturn]] void Fail(const ModelFile& file, const std::string& name, const std::string& problem) {
  throw ModelFileError(file.path() + ": hyperparameter " + name + ": " + problem +
                       ". Export the model again with this version of keras_mtl.");
}

// Returns which of `known` the text hyperparameter `name` is; the first one if it is missing, as in
// files of older versions.
int Choice(const ModelFile& file, const std::string& name, const std::vector<std::string>& known) {
  if (!file.has_hyperparameter(name)) return 0;
  const std::string& value = file.text(name);
  std::string list;
  for (size_t i = 0; i < known.size(); ++i) {
    if (value == known[i]) return static_cast<int>(i);
    list += (i == 0 ? "" : ", ") + known[i];
  }
  Fail(file, name, "'" + value + "' is not one of " + list);
}

// Reads the sets of adapters, if there are some.
void ReadAdapters(const ModelFile& file, TransformerConfig* config) {
  if (file.hyperparameters().count("adapter_kinds") == 0) return;
  const auto& kinds = file.texts("adapter_kinds");
  const auto& sizes = file.integers("adapter_sizes");
  const auto& counts = file.integers("adapter_counts");
  if (sizes.size() != kinds.size() || counts.size() != kinds.size()) {
    Fail(file, "adapter_kinds", "the lists adapter_* differ in length");
  }
  int64_t routes = config->decoders;
  for (size_t i = 0; i < kinds.size(); ++i) {
    AdapterKind kind = AdapterKind::kBottleneck;
    if (kinds[i] == "lora") {
      kind = AdapterKind::kLowRank;
    } else if (kinds[i] == "embedding") {
      kind = AdapterKind::kEmbedding;
    } else if (kinds[i] != "bottleneck") {
      Fail(file, "adapter_kinds", "'" + kinds[i] + "' is not one of bottleneck, lora, embedding");
    }
    if (sizes[i] < 1 || sizes[i] > kMaxDimension) {
      Fail(file, "adapter_sizes",
           std::to_string(sizes[i]) + " is not in [1, " + std::to_string(kMaxDimension) + "]");
    }
    if (counts[i] < 1 || counts[i] > kMaxLayers) {
      Fail(file, "adapter_counts",
           std::to_string(counts[i]) + " is not in [1, " + std::to_string(kMaxLayers) + "]");
    }
    routes *= counts[i] + 1;
    if (routes > INT32_MAX) Fail(file, "adapter_counts", "there are too many combinations");
    config->adapter_sets.push_back({kind, static_cast<int>(sizes[i]), static_cast<int>(counts[i])});
  }
}

// Checks that a tensor has bytes.
void CheckText(const ModelFile& file, const std::string& name) {
  const Tensor& text = file.tensor(name);
  file.tensor(name, DType::kUint8, {static_cast<int64_t>(text.bytes)});
}

}  // namespace

int TransformerConfig::routes() const {
  int routes = decoders;
  for (const AdapterSet& adapters : adapter_sets) routes *= adapters.count + 1;
  return routes;
}

int TransformerConfig::DecoderOf(int route) const {
  for (const AdapterSet& adapters : adapter_sets) route /= adapters.count + 1;
  return route;
}

int TransformerConfig::AdapterOf(int route, int set) const {
  for (int i = static_cast<int>(adapter_sets.size()) - 1; i > set; --i) {
    route /= adapter_sets[i].count + 1;
  }
  return route % (adapter_sets[set].count + 1) - 1;
}

TransformerConfig TransformerConfig::Read(const ModelFile& file) {
  TransformerConfig c;
  if (file.text("architecture") == "adapters") {
    throw ModelFileError(file.path() +
                         ": this file has only adapters. Add them to the engine file of their base "
                         "with `keras-mtl add-adapters`.");
  }
  if (file.text("architecture") != "transformer") {
    Fail(file, "architecture", "'" + file.text("architecture") + "' is not 'transformer'");
  }
  const auto integer = [&file](const char* name, int64_t low, int64_t high) {
    return static_cast<int>(file.integer(name, low, high));
  };
  c.vocabulary_size = integer("vocabulary_size", 2, kMaxDimension);
  c.hidden_dim = integer("hidden_dim", 1, kMaxDimension);
  c.num_heads = integer("num_heads", 1, kMaxDimension);
  c.intermediate_dim = integer("intermediate_dim", 1, kMaxDimension);
  c.encoder_layers = integer("encoder_layers", 0, kMaxLayers);
  c.decoder_layers = integer("decoder_layers", 0, kMaxLayers);
  c.max_length = integer("max_length", 1, kMaxDimension);
  c.tie_embeddings = integer("tie_embeddings", 0, 1) == 1;
  c.tie_projection =
      file.has_hyperparameter("tie_projection") && integer("tie_projection", 0, 1) == 1;
  if (file.has_hyperparameter("source_vocabulary_size")) {
    c.source_vocabulary_size = integer("source_vocabulary_size", 2, kMaxDimension);
    if (c.tie_embeddings) {
      Fail(file, "tie_embeddings", "1, but sources have a vocabulary of their own");
    }
    CheckText(file, "source_vocabulary");
  }
  if (c.hidden_dim % c.num_heads != 0) {
    Fail(file, "num_heads",
         std::to_string(c.num_heads) + " does not divide hidden_dim, " +
             std::to_string(c.hidden_dim));
  }
  const std::string& weights = file.text("weight_type");
  if (weights != "float32" && weights != "int8") {
    Fail(file, "weight_type", "'" + weights + "' is neither 'float32' nor 'int8'");
  }
  c.int8 = weights == "int8";
  file.text("activation");  // It must not be missing.
  constexpr Activation kActivations[] = {Activation::kRelu, Activation::kGelu, Activation::kSilu};
  c.activation = kActivations[Choice(file, "activation", {"relu", "gelu", "silu"})];
  c.gated = Choice(file, "feed_forward", {"standard", "gated"}) == 1;
  c.rms_norm = Choice(file, "norm", {"layer_norm", "rms_norm"}) == 1;
  c.post_norm = Choice(file, "norm_position", {"pre", "post"}) == 1;
  constexpr Positions kPositions[] = {Positions::kAdded, Positions::kAdded, Positions::kRotary,
                                      Positions::kNone};
  c.positions = kPositions[Choice(file, "positions", {"sinusoidal", "learned", "rotary", "none"})];
  if (c.positions == Positions::kRotary && c.hidden_dim / c.num_heads % 2 != 0) {
    Fail(file, "positions", "rotary positions need heads of even width");
  }
  c.transparent = file.has_hyperparameter("transparent_attention") &&
                  integer("transparent_attention", 0, 1) == 1;
  if (c.transparent && c.decoder_layers == 0) {
    Fail(file, "transparent_attention", "there are no decoder layers");
  }
  c.layer_norm_epsilon = static_cast<float>(file.real("layer_norm_epsilon"));
  if (!(c.layer_norm_epsilon > 0 && c.layer_norm_epsilon < 1)) {
    Fail(file, "layer_norm_epsilon",
         std::to_string(c.layer_norm_epsilon) + " is not between 0 and 1");
  }
  const size_t decoders = file.texts("decoders").size();
  if (decoders < 1 || decoders > static_cast<size_t>(kMaxLayers)) {
    Fail(
        file, "decoders",
        "there are " + std::to_string(decoders) + " names, not 1 to " + std::to_string(kMaxLayers));
  }
  c.decoders = static_cast<int>(decoders);
  ReadAdapters(file, &c);
  const int last = c.vocabulary_size - 1;
  c.pad_id = integer("pad_id", 0, last);
  c.bos_id = integer("bos_id", 0, last);
  c.eos_id = integer("eos_id", 0, last);
  c.unk_id = integer("unk_id", 0, last);
  for (const int64_t id : file.integers("not_text")) {
    if (id < 0 || id > last || id == c.eos_id) {
      Fail(file, "not_text",
           "id " + std::to_string(id) + " is not in the vocabulary or is the end of sentence");
    }
    c.non_text_ids.push_back(static_cast<int32_t>(id));
  }
  const auto& names = file.texts("task_names");
  const auto& sources = file.texts("task_sources");
  const auto& targets = file.texts("task_targets");
  const auto& tags = file.integers("task_tags");
  const auto& task_decoders = file.integers("task_decoders");
  if (names.empty() || sources.size() != names.size() || targets.size() != names.size() ||
      tags.size() != names.size() || task_decoders.size() != names.size()) {
    Fail(file, "task_names", "the lists task_* are empty or differ in length");
  }
  for (size_t i = 0; i < names.size(); ++i) {
    if (tags[i] < 0 || tags[i] >= c.source_ids()) {
      Fail(file, "task_tags", "id " + std::to_string(tags[i]) + " is not in the vocabulary");
    }
    if (task_decoders[i] < 0 || task_decoders[i] >= c.routes()) {
      Fail(file, "task_decoders", "route " + std::to_string(task_decoders[i]) + " does not exist");
    }
    c.tasks.push_back({names[i], sources[i], targets[i], static_cast<int32_t>(tags[i]),
                       static_cast<int>(task_decoders[i])});
  }
  CheckText(file, "vocabulary");
  Checker(file, c).CheckAll();
  return c;
}

}  // namespace keras_mtl
