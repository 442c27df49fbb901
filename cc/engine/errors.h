// Errors of the engine. Their text is for the user: it names what was given and what to do.
#ifndef KERAS_MTL_ENGINE_ERRORS_H_
#define KERAS_MTL_ENGINE_ERRORS_H_

#include <stdexcept>

namespace keras_mtl {

// An option, an id or an array that a caller gave is out of range. Python: errors.InputError.
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

// A caller's own function asked to end the call. Python raises what its signal handler raised.
struct InterruptedError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_ERRORS_H_
