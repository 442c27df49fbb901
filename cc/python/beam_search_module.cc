// keras_mtl._core.BeamSearch: beam search over models in Python.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <limits>
#include <utility>

#include "engine/beam_search.h"
#include "engine/errors.h"
#include "engine/random.h"
#include "python/convert.h"
#include "python/gil.h"
#include "python/modules.h"

namespace py = pybind11;

namespace keras_mtl {
namespace {

template <typename T>
using Rows = py::array_t<T, py::array::c_style | py::array::forcecast>;

template <typename T>
py::array_t<T> Column(const std::vector<Row>& rows, T Row::* field) {
  py::array_t<T> column(static_cast<py::ssize_t>(rows.size()));
  for (size_t i = 0; i < rows.size(); ++i) column.mutable_data()[i] = rows[i].*field;
  return column;
}

void CheckShape(const char* name, const py::array& array, size_t rows, int64_t columns) {
  if (array.ndim() == 2 && static_cast<size_t>(array.shape(0)) == rows &&
      (columns < 0 || array.shape(1) == columns)) {
    return;
  }
  std::string shape;
  for (py::ssize_t i = 0; i < array.ndim(); ++i) {
    shape += (i ? ", " : "") + std::to_string(array.shape(i));
  }
  throw InputError(std::string(name) + " has shape [" + shape + "]; expected [" +
                   std::to_string(rows) + ", " +
                   (columns < 0 ? "source length" : std::to_string(columns)) + "]");
}

struct AttentionArray {
  Rows<float> array;
  Attention view;

  AttentionArray(const py::object& object, size_t rows) {
    if (object.is_none()) return;
    array = Rows<float>::ensure(object);
    if (!array) {
      PyErr_Clear();
      throw InputError("attention is not an array of numbers");
    }
    CheckShape("attention", array, rows, -1);
    view.weights = array.data();
    view.width = static_cast<int>(array.shape(1));
  }
};

void Advance(BeamSearch* search, const Rows<float>& outputs, bool log_probabilities,
             const py::object& attention, int vocabulary_size) {
  const size_t rows = search->rows().size();
  CheckShape("outputs", outputs, rows, vocabulary_size);
  const AttentionArray weights(attention, rows);
  const float* data = outputs.data();
  const ReleasedGil released;
  search->Advance(data, log_probabilities, weights.view);
}

void AdvanceTop(BeamSearch* search, const Rows<int32_t>& tokens, const Rows<float>& logits,
                const Rows<float>& log_sums, const py::object& wanted,
                const py::object& attention) {
  const size_t rows = search->rows().size();
  CheckShape("tokens", tokens, rows, tokens.ndim() == 2 ? tokens.shape(1) : 0);
  CheckShape("logits", logits, rows, tokens.shape(1));
  if (log_sums.ndim() != 1 || static_cast<size_t>(log_sums.shape(0)) != rows) {
    throw InputError("log_sums must have shape [" + std::to_string(rows) + "]");
  }
  const AttentionArray weights(attention, rows);
  std::vector<Normalizer> normalizers(rows);
  std::vector<float> logits_wanted;
  if (!wanted.is_none()) {
    logits_wanted = wanted.cast<std::vector<float>>();
    logits_wanted.resize(rows, 0.0f);
  }
  for (size_t i = 0; i < rows; ++i) {
    normalizers[i].highest = log_sums.data()[i];
    normalizers[i].valid = normalizers[i].highest < std::numeric_limits<float>::infinity();
  }
  const TopCandidates top{static_cast<int>(tokens.shape(1)), tokens.data(), logits.data(),
                          normalizers.data(), wanted.is_none() ? nullptr : logits_wanted.data()};
  const ReleasedGil released;
  search->AdvanceTop(top, weights.view);
}

template <typename T>
py::object ValueOf(const T& value) {
  return py::cast(value);
}

py::object ValueOf(LengthPenalty penalty) { return py::str(LengthPenaltyName(penalty)); }

// A search and the data that its binding needs.
struct PythonSearch {
  BeamSearch search;
  int vocabulary_size;
};

}  // namespace

BeamOptions OptionsOf(const py::dict& values) {
  BeamOptions options;
#define KERAS_MTL_BEAM_OPTION(type, name, value) Take(values, #name, &options.name);
#include "engine/beam_options.def"
#undef KERAS_MTL_BEAM_OPTION
  return options;
}

py::list HypothesesOf(const std::vector<Hypothesis>& hypotheses) {
  using py::literals::operator""_a;
  const RunsPython here;
  const py::object type = py::module_::import("keras_mtl.engine.hypothesis").attr("Hypothesis");
  py::list result;
  for (const Hypothesis& hypothesis : hypotheses) {
    const auto count = static_cast<py::ssize_t>(hypothesis.token_scores.size());
    py::object alignment = py::none();
    if (!hypothesis.alignment.empty()) {
      const auto width = static_cast<py::ssize_t>(hypothesis.alignment.size()) / count;
      alignment = ArrayOf(hypothesis.alignment, {count, width});
    }
    result.append(type(
        "ids"_a = hypothesis.ids, "score"_a = hypothesis.score,
        "log_probability"_a = hypothesis.log_probability, "ended"_a = hypothesis.ended,
        "token_scores"_a = ArrayOf(hypothesis.token_scores, {count}), "alignment"_a = alignment));
  }
  return result;
}

void RegisterBeamSearch(py::module_& module) {
  py::class_<PythonSearch>(module, "BeamSearch",
                           "One beam search; see cc/engine/beam_search.h and "
                           "keras_mtl.decoding.native_beam_search.")
      .def(py::init([](const py::dict& options, int vocabulary_size, int32_t start_id,
                       int32_t eos_id, const std::vector<int32_t>& shortlist, bool keep_attention) {
             return PythonSearch{BeamSearch(OptionsOf(options), vocabulary_size, start_id, eos_id,
                                            shortlist, keep_attention),
                                 vocabulary_size};
           }),
           py::arg("options"), py::arg("vocabulary_size"), py::arg("start_id"), py::arg("eos_id"),
           py::arg("shortlist") = std::vector<int32_t>(), py::arg("keep_attention") = false)
      .def(
          "add",
          [](PythonSearch& self, int64_t index, int max_length, std::vector<int32_t> prefix,
             int source_length, std::vector<int32_t> bias) {
            return self.search.Add(
                {index, max_length, std::move(prefix), source_length, std::move(bias)});
          },
          py::arg("index"), py::arg("max_length"), py::arg("prefix") = std::vector<int32_t>(),
          py::arg("source_length") = 0, py::arg("bias") = std::vector<int32_t>())
      .def_property_readonly("rows",
                             [](const PythonSearch& self) {
                               const std::vector<Row>& rows = self.search.rows();
                               py::dict columns;
                               columns["sentence"] = Column<int>(rows, &Row::sentence);
                               columns["parent"] = Column<int>(rows, &Row::parent);
                               columns["position"] = Column<int>(rows, &Row::position);
                               columns["token"] = Column<int32_t>(rows, &Row::token);
                               columns["forced"] = Column<int32_t>(rows, &Row::forced);
                               columns["mask_eos"] = Column<bool>(rows, &Row::mask_eos);
                               return columns;
                             })
      .def("edits",
           [](const PythonSearch& self, int row) {
             if (row < 0 || static_cast<size_t>(row) >= self.search.rows().size()) {
               throw InputError("row " + std::to_string(row) + " does not exist");
             }
             std::vector<std::pair<int32_t, float>> edits;
             for (const LogitEdit& edit : self.search.Edits(row)) {
               edits.emplace_back(edit.token, edit.penalty);
             }
             return edits;
           })
      .def_property_readonly("top_count",
                             [](const PythonSearch& self) { return self.search.top_count(); })
      .def(
          "advance",
          [](PythonSearch& self, const Rows<float>& outputs, bool log_probabilities,
             const py::object& attention) {
            Advance(&self.search, outputs, log_probabilities, attention, self.vocabulary_size);
          },
          py::arg("outputs"), py::arg("log_probabilities"), py::arg("attention") = py::none())
      .def(
          "advance_top",
          [](PythonSearch& self, const Rows<int32_t>& tokens, const Rows<float>& logits,
             const Rows<float>& log_sums, const py::object& wanted, const py::object& attention) {
            AdvanceTop(&self.search, tokens, logits, log_sums, wanted, attention);
          },
          py::arg("tokens"), py::arg("logits"), py::arg("log_sums"), py::arg("wanted") = py::none(),
          py::arg("attention") = py::none())
      .def("results", [](const PythonSearch& self, int sentence) {
        if (sentence < 0 || sentence >= self.search.sentences()) {
          throw InputError("sentence " + std::to_string(sentence) + " does not exist");
        }
        return HypothesesOf(self.search.results(sentence));
      });
  module.def(
      "option_defaults",
      [] {
        const BeamOptions options;
        py::dict defaults;
#define KERAS_MTL_BEAM_OPTION(type, name, value) defaults[#name] = ValueOf(options.name);
#include "engine/beam_options.def"
#undef KERAS_MTL_BEAM_OPTION
        return defaults;
      },
      "Returns the default of each beam-search option by name.");
  module.def(
      "length_penalties",
      [](const py::dict& options, int max_length) {
        if (max_length < 0 || max_length > 1 << 24) {
          throw InputError("max_length=" + std::to_string(max_length) +
                           ": give a whole number from 0 to " + std::to_string(1 << 24));
        }
        const std::vector<float> penalties = LengthPenalties(OptionsOf(options), max_length);
        return py::array_t<float>(static_cast<py::ssize_t>(penalties.size()), penalties.data());
      },
      "Returns the divisor of the log-probability for each length: float32[max_length + 1].");
  module.def(
      "philox",
      [](uint64_t key0, uint64_t key1, uint64_t counter0, uint64_t counter1) {
        return Philox(key0, key1, counter0, counter1);
      },
      "Returns the first word of NumPy's Philox for this key and counter, as sampling uses it.");
}

}  // namespace keras_mtl
