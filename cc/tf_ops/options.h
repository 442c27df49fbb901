// What the operations share: options of beam search as an attribute, errors as statuses.
#ifndef KERAS_MTL_TF_OPS_OPTIONS_H_
#define KERAS_MTL_TF_OPS_OPTIONS_H_

#include <functional>
#include <string>

#include "engine/beam_options.h"
#include "tensorflow/core/platform/status.h"

namespace keras_mtl {

// Reads options from lines `name=value`: numbers as Python's repr writes them, switches as 0 or 1,
// `suppress` as ids with commas between. What is not named keeps its default. An attribute of type
// float would round to 32 bits, and scores with it.
// Throws InputError naming an unknown option or a value that cannot be read.
BeamOptions ParseOptions(const std::string& text);

// What the environment variable KERAS_MTL_ISA asks for, "auto" where it is not set.
std::string RequestedIsa();

// Runs `body` and returns what it threw as a status: InvalidArgument for errors of the engine
// (their text is for the user), Internal for any other.
absl::Status Guard(const std::function<void()>& body);

}  // namespace keras_mtl

#endif  // KERAS_MTL_TF_OPS_OPTIONS_H_
