// Conversions between Python and C++ that several parts of keras_mtl._core share.
#ifndef KERAS_MTL_PYTHON_CONVERT_H_
#define KERAS_MTL_PYTHON_CONVERT_H_

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "engine/beam_search.h"
#include "engine/errors.h"

namespace keras_mtl {

// Sets an option from the dictionary's entry of the same name, if there is one.
template <typename T>
void Take(const pybind11::dict& values, const char* name, T* field) {
  if (!values.contains(name)) return;
  try {
    *field = values[name].cast<T>();
  } catch (const pybind11::cast_error&) {
    throw InputError(std::string(name) + "=" + pybind11::str(values[name]).cast<std::string>() +
                     ": the value is out of range or has the wrong type");
  }
}

inline void Take(const pybind11::dict& values, const char* name, LengthPenalty* field) {
  std::string text;
  Take(values, name, &text);
  if (values.contains(name)) *field = ParseLengthPenalty(text);
}

// Reads options by name; missing ones keep their default. Throws InputError.
BeamOptions OptionsOf(const pybind11::dict& values);

// Returns a list of keras_mtl.engine.Hypothesis.
pybind11::list HypothesesOf(const std::vector<Hypothesis>& hypotheses);

template <class T>
pybind11::array_t<T> ArrayOf(const std::vector<T>& values, std::vector<pybind11::ssize_t> shape) {
  return pybind11::array_t<T>(std::move(shape), values.data());
}

}  // namespace keras_mtl

#endif  // KERAS_MTL_PYTHON_CONVERT_H_
