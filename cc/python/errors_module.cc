// Translates the engine's errors to Python exceptions.
#include <exception>

#include "engine/errors.h"
#include "python/modules.h"

namespace py = pybind11;

namespace keras_mtl {
namespace {

void Raise(const char* name, const char* text) {
  const py::object type = py::module_::import("keras_mtl.errors").attr(name);
  PyErr_SetString(type.ptr(), text);
}

}  // namespace

void RegisterErrors(py::module_&) {
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const InputError& error) {
      Raise("InputError", error.what());
    } catch (const ModelFileError& error) {
      Raise("ExportError", error.what());
    } catch (const NotANumberError& error) {
      Raise("KerasMtlError", error.what());
    }
  });
}

}  // namespace keras_mtl
