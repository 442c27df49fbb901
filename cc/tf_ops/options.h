// Helpers that the operations share: beam-search options as an attribute, errors as statuses.
#ifndef KERAS_MTL_TF_OPS_OPTIONS_H_
#define KERAS_MTL_TF_OPS_OPTIONS_H_

#include <functional>
#include <string>

#include "engine/beam_options.h"
#include "tensorflow/core/platform/status.h"

namespace keras_mtl {

// Reads options from lines `name=value`: numbers as written by Python's repr, booleans as 0 or 1,
// `suppress` as comma-separated ids. Missing options keep their default. Options are not attributes
// of type float because those have 32 bits, which would change scores.
// Throws InputError naming an unknown option or an invalid value.
BeamOptions ParseOptions(const std::string& text);

// Returns the value of the environment variable KERAS_MTL_ISA, or "auto" if it is not set.
std::string RequestedIsa();

// Runs `body` and converts an exception to a status: InvalidArgument for errors of the engine (with
// their message for users), Cancelled, ResourceExhausted, or Internal for any other exception.
absl::Status Guard(const std::function<void()>& body);

}  // namespace keras_mtl

#endif  // KERAS_MTL_TF_OPS_OPTIONS_H_
