// keras_mtl._core.testing: kernels and engine for the package's own tests.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "engine/decoder.h"
#include "engine/errors.h"
#include "python/convert.h"
#include "python/gil.h"
#include "python/modules.h"

namespace keras_mtl {
namespace {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

Isa IsaOf(const std::string& name) {
  for (Isa isa : {Isa::kGeneric, Isa::kAvx2, Isa::kVnni, Isa::kAmx}) {
    if (name == IsaName(isa) && isa <= BestIsa(GetCpuFeatures())) return isa;
  }
  throw std::invalid_argument("instruction set '" + name + "' is unknown or not supported here");
}

Activation ActivationOf(const std::string& name) {
  if (name == "none") return Activation::kNone;
  if (name == "relu") return Activation::kRelu;
  if (name == "gelu") return Activation::kGelu;
  if (name == "silu") return Activation::kSilu;
  throw std::invalid_argument("unknown activation '" + name + "'");
}

ComputeType ComputeOf(const std::string& name) {
  if (name == "float32") return ComputeType::kFloat32;
  if (name == "int8") return ComputeType::kInt8;
  throw std::invalid_argument("unknown compute type '" + name + "'");
}

// Quantizes x [rows, columns] by quantize_rows_in if range > 0, else by quantize_rows.
void QuantizeAll(const KernelTable& kernels, const Array<float>& x, float range, int8_t* data,
                 float* scales) {
  const int rows = static_cast<int>(x.shape(0)), columns = static_cast<int>(x.shape(1));
  if (range > 0) {
    kernels.quantize_rows_in(range, x.data(), rows, columns, columns, data, scales);
  } else {
    kernels.quantize_rows(x.data(), rows, columns, columns, data, scales);
  }
}

// Returns (int8 [rows, columns], scales [rows]) of float32 x [rows, columns].
std::pair<py::array_t<int8_t>, py::array_t<float>> Quantize(const std::string& isa,
                                                            const Array<float>& x, float range) {
  const KernelTable& kernels = GetKernels(IsaOf(isa));
  const int rows = static_cast<int>(x.shape(0)), columns = static_cast<int>(x.shape(1));
  const int stride = RoundUp(columns, kDepthAlign);
  std::vector<int8_t> data(static_cast<size_t>(rows) * stride);
  py::array_t<float> scales(rows);
  QuantizeAll(kernels, x, range, data.data(), scales.mutable_data());
  py::array_t<int8_t> result({rows, columns});
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < columns; ++i) {
      const uint8_t byte = static_cast<uint8_t>(data[static_cast<size_t>(r) * stride + i]);
      result.mutable_at(r, i) = static_cast<int8_t>(byte ^ kernels.row_flip);
    }
  }
  return {result, scales};
}

// Returns activation(q(x) weights^T + bias) for x [M, K] quantized as by Quantize, int8 weights
// [N, K] and scales [N].
py::array_t<float> DenseInt8(const std::string& isa, const Array<float>& x,
                             const Array<int8_t>& weights, const Array<float>& scales,
                             const Array<float>& bias, const std::string& activation, float range) {
  const KernelTable& kernels = GetKernels(IsaOf(isa));
  const int rows = static_cast<int>(x.shape(0)), depth = static_cast<int>(x.shape(1));
  const int columns = static_cast<int>(weights.shape(0)), stride = RoundUp(depth, kDepthAlign);
  const PackedInt8 packed(weights.data(), scales.data(), bias.data(), columns, depth, kernels);
  std::vector<int8_t> data(static_cast<size_t>(rows) * stride);
  std::vector<float> row_scales(rows);
  QuantizeAll(kernels, x, range, data.data(), row_scales.data());
  py::array_t<float> y({rows, columns});
  kernels.gemm_int8({data.data(), row_scales.data(), rows, stride}, packed.view(), 0,
                    RoundUp(columns, kPanel) / kPanel,
                    {y.mutable_data(), columns, ActivationOf(activation), Combine::kStore});
  return y;
}

// Returns activation(x weights^T + bias) for x [M, K] and weights [N, K].
py::array_t<float> DenseFloat(const std::string& isa, const Array<float>& x,
                              const Array<float>& weights, const Array<float>& bias,
                              const std::string& activation) {
  const KernelTable& kernels = GetKernels(IsaOf(isa));
  const int rows = static_cast<int>(x.shape(0)), depth = static_cast<int>(x.shape(1));
  const int columns = static_cast<int>(weights.shape(0));
  const PackedFloat packed(weights.data(), bias.data(), columns, depth, kernels);
  py::array_t<float> y({rows, columns});
  kernels.gemm_float({x.data(), rows, depth}, packed.view(), 0, RoundUp(columns, kPanel) / kPanel,
                     {y.mutable_data(), columns, ActivationOf(activation), Combine::kStore});
  return y;
}

TransformerConfig ConfigOf(const py::dict& dict) {
  TransformerConfig config{};
  const auto number = [&](const char* name) { return dict[name].cast<int>(); };
  config.vocabulary_size = number("vocabulary_size");
  config.hidden_dim = number("hidden_dim");
  config.num_heads = number("num_heads");
  config.intermediate_dim = number("intermediate_dim");
  config.encoder_layers = number("encoder_layers");
  config.decoder_layers = number("decoder_layers");
  config.decoders = number("decoders");
  config.max_length = number("max_length");
  config.activation = ActivationOf(dict["activation"].cast<std::string>());
  const auto is = [&](const char* name, const char* value) {
    return dict.contains(name) && dict[name].cast<std::string>() == value;
  };
  config.gated = is("feed_forward", "gated");
  config.rms_norm = is("norm", "rms_norm");
  config.post_norm = is("norm_position", "post");
  config.transparent =
      dict.contains("transparent_attention") && dict["transparent_attention"].cast<bool>();
  if (is("positions", "rotary")) config.positions = Positions::kRotary;
  if (is("positions", "none")) config.positions = Positions::kNone;
  config.layer_norm_epsilon = 1e-6f;
  config.tie_embeddings = dict["tie_embeddings"].cast<bool>();
  config.tie_projection = dict.contains("tie_projection") && dict["tie_projection"].cast<bool>();
  if (dict.contains("source_vocabulary_size")) {
    config.source_vocabulary_size = number("source_vocabulary_size");
  }
  return config;
}

// Makes a model of NumPy arrays, float32 or int8, named as in docs/reference/engine_file.md.
std::shared_ptr<Model> MakeModel(const py::dict& config, const py::dict& arrays,
                                 const std::string& compute, const std::string& isa) {
  TensorMap tensors;
  auto owner = std::make_shared<std::vector<py::array>>();
  for (const auto& [name, value] : arrays) {
    const py::array array = py::cast<py::array>(value);
    Tensor tensor{};
    if (array.dtype().is(py::dtype::of<int8_t>())) {
      tensor.dtype = DType::kInt8;
    } else if (!array.dtype().is(py::dtype::of<float>())) {
      throw std::invalid_argument(name.cast<std::string>() + " is neither float32 nor int8");
    }
    if ((array.flags() & py::array::c_style) == 0) {
      throw std::invalid_argument(name.cast<std::string>() + " is not contiguous");
    }
    tensor.shape.assign(array.shape(), array.shape() + array.ndim());
    tensor.data = array.data();
    owner->push_back(array);
    tensors[name.cast<std::string>()] = std::move(tensor);
  }
  return std::const_pointer_cast<Model>(
      Model::Load(ConfigOf(config), tensors, ComputeOf(compute), IsaOf(isa), owner));
}

TokenBatch BatchOf(const std::vector<std::vector<int32_t>>& sources) {
  TokenBatch batch;
  for (const auto& ids : sources) batch.Add(ids.data(), static_cast<int>(ids.size()));
  return batch;
}

// Runs one step. rows int32 [n, 4]: sentence, beam, parent, token; wanted [n] or None; allowed bool
// [vocabulary] or None. Returns a dict of tokens and log_probabilities [n, top], wanted [n],
// log_sums [n] and, if requested, all [n, vocabulary] and attention [n, source].
py::dict Step(Decoder& decoder, const Array<int32_t>& rows, int top, bool all,
              const std::optional<std::vector<int32_t>>& wanted,
              const std::optional<std::vector<uint8_t>>& allowed, int attention_layer,
              int attention_head) {
  const py::ssize_t count = rows.shape(0);
  std::vector<StepRow> steps(count);
  for (py::ssize_t i = 0; i < count; ++i) {
    steps[i] = {rows.at(i, 0), rows.at(i, 1), rows.at(i, 2), rows.at(i, 3), {}};
    if (wanted) steps[i].request.wanted = wanted->at(i);
  }
  StepOptions options;
  options.top = top;
  options.all = all;
  options.attention_layer = attention_layer;
  options.attention_head = attention_head;
  std::vector<float> bias;
  if (allowed) {
    bias = AllowedBias(*allowed);
    options.bias = bias.data();
  }
  StepResult result;
  {
    const ReleasedGil released;
    decoder.Step(steps.data(), static_cast<int>(count), options, &result);
  }
  py::array_t<int32_t> tokens({count, static_cast<py::ssize_t>(result.top)});
  py::array_t<float> scores({count, static_cast<py::ssize_t>(result.top)});
  const int vocabulary = decoder.model().config().vocabulary_size;
  for (py::ssize_t i = 0; i < count; ++i) {
    for (int n = 0; n < result.top; ++n) {
      tokens.mutable_at(i, n) = result.tokens[i * result.top + n];
      scores.mutable_at(i, n) = result.logits[i * result.top + n] - result.log_sums[i];
    }
    result.wanted[i] -= result.log_sums[i];
    for (int v = 0; all && v < vocabulary; ++v) {
      result.all_logits[i * vocabulary + v] -= result.log_sums[i];
    }
  }
  py::dict out;
  out["tokens"] = tokens;
  out["log_probabilities"] = scores;
  out["wanted"] = ArrayOf(result.wanted, {count});
  out["log_sums"] = ArrayOf(result.log_sums, {count});
  if (all) {
    out["all"] = ArrayOf(result.all_logits, {count, vocabulary});
  }
  if (attention_layer >= 0) {
    out["attention"] = ArrayOf(result.attention, {count, result.attention_stride});
  }
  return out;
}

}  // namespace

void RegisterTesting(py::module_& module) {
  py::module_ testing = module.def_submodule("testing", "Kernels and engine for tests only.");
  testing.def("quantize", &Quantize, py::arg("isa"), py::arg("x"), py::arg("range") = 0.0f);
  testing.def("dense_int8", &DenseInt8, py::arg("isa"), py::arg("x"), py::arg("weights"),
              py::arg("scales"), py::arg("bias"), py::arg("activation"), py::arg("range") = 0.0f);
  testing.def("dense_float", &DenseFloat);
  py::class_<Model, std::shared_ptr<Model>>(testing, "Model")
      .def(py::init(&MakeModel), py::arg("config"), py::arg("arrays"), py::arg("compute"),
           py::arg("isa"));
  py::class_<Decoder>(testing, "Decoder")
      .def(py::init([](std::shared_ptr<Model> model, int beams, int threads) {
             return std::make_unique<Decoder>(std::move(model), beams, threads);
           }),
           py::arg("model"), py::arg("beams") = 1, py::arg("threads") = 1)
      .def("encode",
           [](Decoder& decoder, const std::vector<std::vector<int32_t>>& sources) {
             const Memory memory = Encode(decoder.model(), decoder.context(), BatchOf(sources));
             const int dim = decoder.model().config().hidden_dim;
             return ArrayOf(memory.rows, {static_cast<py::ssize_t>(memory.rows.size()) / dim, dim});
           })
      .def(
          "admit",
          [](Decoder& decoder, const std::vector<std::vector<int32_t>>& sources, int which) {
            return decoder.Admit(Encode(decoder.model(), decoder.context(), BatchOf(sources)),
                                 which);
          },
          py::arg("sources"), py::arg("decoder") = 0)
      .def("release", &Decoder::Release)
      .def("step", &Step, py::arg("rows"), py::arg("top") = 0, py::arg("all") = false,
           py::arg("wanted") = py::none(), py::arg("allowed") = py::none(),
           py::arg("attention_layer") = -1, py::arg("attention_head") = -1);
}

}  // namespace keras_mtl
