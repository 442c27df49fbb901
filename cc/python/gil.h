// Python's global lock (GIL), around work that does not need it.
//
// A daemon thread may be at work when the interpreter ends. Up to Python 3.13 a thread that asks
// for the GIL from then on is ended by pthread_exit, which unwinds its stack; the first destructor
// on the way that does not throw makes of it std::terminate, and the program's end an abort. So
// from the interpreter's end on no thread of ours asks: it stops its work and sleeps until the
// process is gone, as Python 3.14 does itself.
#ifndef KERAS_MTL_PYTHON_GIL_H_
#define KERAS_MTL_PYTHON_GIL_H_

#include <pybind11/pybind11.h>

namespace keras_mtl {

// Releases the GIL for the scope. Also a guard for pybind11::call_guard.
class ReleasedGil {
 public:
  ReleasedGil() : state_(PyEval_SaveThread()) {}
  // Sleeps for ever where the interpreter is ending.
  ~ReleasedGil();
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

 private:
  PyThreadState* const state_;
};

// Runs handlers of signals, on the main thread; throws what they raise. Called without the GIL.
// Returns whether the interpreter is ending, and the caller with it.
bool CheckSignals();

// Lets Python tell when it ends.
void RegisterGil();

}  // namespace keras_mtl

#endif  // KERAS_MTL_PYTHON_GIL_H_
