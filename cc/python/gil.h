// Releases Python's global interpreter lock (GIL) around work that does not need it.
//
// A daemon thread may still be running when the interpreter ends. Up to Python 3.13, a thread that
// then asks for the GIL is ended by pthread_exit, which unwinds its stack. The first noexcept
// destructor on the way calls std::terminate, and the process aborts. So after the interpreter has
// begun to end, our threads do not ask for the GIL: they stop their work and sleep until the
// process ends, as Python 3.14 does itself.
#ifndef KERAS_MTL_PYTHON_GIL_H_
#define KERAS_MTL_PYTHON_GIL_H_

#include <pybind11/pybind11.h>

namespace keras_mtl {

// Releases the GIL during its lifetime. Can be used with pybind11::call_guard.
class ReleasedGil {
 public:
  ReleasedGil() : state_(PyEval_SaveThread()) {}
  // Reacquires the GIL, or sleeps forever if the interpreter is ending.
  ~ReleasedGil();
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

 private:
  PyThreadState* const state_;
};

// Counts this thread as one that runs Python code below our own frames, such as the constructor of
// a Python class. Python may give the GIL to other threads meanwhile, so the end of the interpreter
// waits for such threads. Create it with the GIL held.
class RunsPython {
 public:
  RunsPython();
  ~RunsPython();
  RunsPython(const RunsPython&) = delete;
  RunsPython& operator=(const RunsPython&) = delete;
};

// Runs pending Python signal handlers if called on the main thread, and throws what they raise.
// Call it without the GIL. Returns true if the interpreter is ending; the caller must then stop.
bool CheckSignals();

// Registers the handlers that detect the end of the interpreter and fork().
void RegisterGil();

}  // namespace keras_mtl

#endif  // KERAS_MTL_PYTHON_GIL_H_
