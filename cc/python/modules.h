// The parts of keras_mtl._core; module.cc puts them together.
#ifndef KERAS_MTL_PYTHON_MODULES_H_
#define KERAS_MTL_PYTHON_MODULES_H_

#include <pybind11/pybind11.h>

namespace keras_mtl {

// Errors of the engine become those of keras_mtl.errors.
void RegisterErrors(pybind11::module_& module);
void RegisterModelFile(pybind11::module_& module);
void RegisterBeamSearch(pybind11::module_& module);
void RegisterEngine(pybind11::module_& module);
// Kernels and engine as the package's own tests drive them: the submodule `testing`, not public.
void RegisterTesting(pybind11::module_& module);

}  // namespace keras_mtl

#endif  // KERAS_MTL_PYTHON_MODULES_H_
