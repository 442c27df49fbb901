// keras_mtl._core.Engine: the binding on which keras_mtl.engine.Engine is built.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <utility>

#include "engine/engine.h"
#include "engine/errors.h"
#include "python/convert.h"
#include "python/gil.h"
#include "python/modules.h"

namespace py = pybind11;

namespace keras_mtl {
namespace {

using Ids = py::array_t<int32_t, py::array::c_style | py::array::forcecast>;

// Makes a batch of concatenated sentences; begins [sentences + 1] must rise from 0 to ids.size().
TokenBatch BatchOf(const char* name, const Ids& ids, const std::vector<int>& begins) {
  TokenBatch batch;
  batch.ids.assign(ids.data(), ids.data() + ids.size());
  batch.begins = begins;
  bool valid = !begins.empty() && begins.front() == 0 && begins.back() == ids.size();
  for (size_t i = 1; i < begins.size(); ++i) valid = valid && begins[i - 1] <= begins[i];
  if (!valid) {
    throw InputError(std::string(name) + ": begins must rise from 0 to the number of ids");
  }
  return batch;
}

py::list Translate(Engine& engine, const Ids& ids, const std::vector<int>& begins,
                   const py::dict& options, std::vector<int> decoders,
                   std::vector<std::vector<int32_t>> prefixes,
                   std::vector<std::vector<int32_t>> biases, std::vector<int64_t> indices,
                   std::vector<int32_t> shortlist, bool alignments, int attention_layer,
                   int attention_head, int max_batch_size) {
  TranslateRequest request;
  request.source = BatchOf("source", ids, begins);
  request.decoders = std::move(decoders);
  request.prefixes = std::move(prefixes);
  request.biases = std::move(biases);
  request.indices = std::move(indices);
  request.shortlist = std::move(shortlist);
  request.options = OptionsOf(options);
  request.alignments = alignments;
  request.attention_layer = attention_layer;
  request.attention_head = attention_head;
  request.max_batch_size = max_batch_size;
  std::vector<std::vector<Hypothesis>> found;
  {
    const ReleasedGil released;
    found = engine.Translate(request, &CheckSignals);
  }
  py::list result;
  for (const std::vector<Hypothesis>& hypotheses : found) result.append(HypothesesOf(hypotheses));
  return result;
}

py::list Score(Engine& engine, const Ids& ids, const std::vector<int>& begins,
               const Ids& target_ids, const std::vector<int>& target_begins,
               std::vector<int> decoders, int max_batch_size) {
  ScoreRequest request;
  request.source = BatchOf("source", ids, begins);
  request.target = BatchOf("target", target_ids, target_begins);
  request.decoders = std::move(decoders);
  request.max_batch_size = max_batch_size;
  std::vector<std::vector<float>> scores;
  {
    const ReleasedGil released;
    scores = engine.Score(request, &CheckSignals);
  }
  py::list result;
  for (const std::vector<float>& values : scores) {
    result.append(ArrayOf(values, {static_cast<py::ssize_t>(values.size())}));
  }
  return result;
}

py::array_t<float> EncodeSource(Engine& engine, const Ids& ids, const std::vector<int>& begins,
                                const std::vector<int>& decoders) {
  const TokenBatch source = BatchOf("source", ids, begins);
  Memory memory;
  {
    const ReleasedGil released;
    memory = engine.Encode(source, decoders, &CheckSignals);
  }
  std::vector<py::ssize_t> shape = {static_cast<py::ssize_t>(source.ids.size()),
                                    engine.config().hidden_dim};
  if (engine.config().transparent) shape.insert(shape.begin(), engine.config().memories());
  return ArrayOf(memory.rows, shape);
}

}  // namespace

void RegisterEngine(py::module_& module) {
  py::class_<Engine, std::shared_ptr<Engine>>(module, "Engine", "See keras_mtl.engine.Engine.")
      .def(py::init([](const std::string& path, const std::string& compute_type,
                       const std::string& isa, int workers, int threads, bool verify) {
             EngineOptions options;
             options.compute_type = compute_type;
             options.isa = isa;
             options.workers = workers;
             options.threads = threads;
             options.verify = verify;
             const ReleasedGil released;
             return Engine::Open(path, options);
           }),
           py::arg("path"), py::arg("compute_type"), py::arg("isa"), py::arg("workers"),
           py::arg("threads"), py::arg("verify"))
      .def("translate", &Translate)
      .def("score", &Score)
      .def("encode", &EncodeSource)
      .def_property_readonly(
          "file",
          [](const Engine& self) { return std::const_pointer_cast<ModelFile>(self.file()); })
      .def_property_readonly("isa",
                             [](const Engine& self) { return IsaName(self.model().kernels().isa); })
      .def_property_readonly("compute_type", [](const Engine& self) {
        return self.model().compute() == ComputeType::kInt8 ? "int8" : "float32";
      });
}

}  // namespace keras_mtl
