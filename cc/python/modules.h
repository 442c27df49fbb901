// The parts of keras_mtl._core, which module.cc combines.
#ifndef KERAS_MTL_PYTHON_MODULES_H_
#define KERAS_MTL_PYTHON_MODULES_H_

#include <pybind11/pybind11.h>

namespace keras_mtl {

// Translates errors of the engine to those of keras_mtl.errors.
void RegisterErrors(pybind11::module_& module);
void RegisterModelFile(pybind11::module_& module);
void RegisterBeamSearch(pybind11::module_& module);
void RegisterEngine(pybind11::module_& module);
// The private submodule `testing`: kernels and engine for the package's own tests.
void RegisterTesting(pybind11::module_& module);

}  // namespace keras_mtl

#endif  // KERAS_MTL_PYTHON_MODULES_H_
