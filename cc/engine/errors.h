// Errors of the engine. Their messages are for users: they name the given value and the remedy.
#ifndef KERAS_MTL_ENGINE_ERRORS_H_
#define KERAS_MTL_ENGINE_ERRORS_H_

#include <stdexcept>

namespace keras_mtl {

// An option, id or array of the caller is out of range. Python: errors.InputError.
struct InputError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// A model file is missing, damaged or not what it claims to be. Python: errors.ExportError.
struct ModelFileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A model's output is not a number. Python: errors.KerasMtlError.
struct NotANumberError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The caller's function requested the end of the call. Python raises its signal handler's error.
struct InterruptedError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_ERRORS_H_
