// keras_mtl._core.ModelFile: reads model files.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "engine/model_file.h"
#include "engine/transformer_config.h"
#include "python/gil.h"
#include "python/modules.h"

namespace py = pybind11;

namespace keras_mtl {
namespace {

py::dtype NumpyDtype(DType dtype) { return py::dtype(DTypeName(dtype)); }

// Returns a read-only view, which keeps the file open.
py::array Array(const std::shared_ptr<const ModelFile>& file, const std::string& name) {
  const Tensor& tensor = file->tensor(name);
  py::array array(NumpyDtype(tensor.dtype), tensor.shape, tensor.data,
                  py::cast(std::const_pointer_cast<ModelFile>(file)));
  array.attr("setflags")(py::arg("write") = false);
  return array;
}

}  // namespace

void RegisterModelFile(py::module_& module) {
  // pybind11 does not support holders of const objects. No method below changes the file.
  py::class_<ModelFile, std::shared_ptr<ModelFile>>(
      module, "ModelFile", "An opened model file; see docs/reference/engine_file.md.")
      .def(py::init([](const std::string& path, bool verify) {
             const ReleasedGil released;
             return std::const_pointer_cast<ModelFile>(ModelFile::Open(path, verify));
           }),
           py::arg("path"), py::arg("verify") = false,
           "Opens a file. `verify` also compares the checksum of every tensor.")
      .def("verify", &ModelFile::Verify, py::call_guard<ReleasedGil>(),
           "Compares the checksum of every tensor.")
      .def(
          "check_transformer", [](const ModelFile& file) { TransformerConfig::Read(file); },
          "Checks that hyperparameters and tensors form a valid Transformer.")
      .def(
          "tensor",
          [](const std::shared_ptr<ModelFile>& file, const std::string& name) {
            return Array(file, name);
          },
          py::arg("name"), "Returns a tensor as a read-only array that shares the file's memory.")
      .def_property_readonly("tensor_names",
                             [](const ModelFile& file) {
                               std::vector<std::string> names;
                               for (const auto& entry : file.tensors())
                                 names.push_back(entry.first);
                               return names;
                             })
      .def_property_readonly("hyperparameters", &ModelFile::hyperparameters)
      .def_property_readonly("path", &ModelFile::path)
      .def_property_readonly("format_version", &ModelFile::format_version)
      .def_property_readonly("size", &ModelFile::size);
}

}  // namespace keras_mtl
