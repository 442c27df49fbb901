#include "python/gil.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace py = pybind11;

namespace keras_mtl {
namespace {

std::atomic<bool> ending{false};
std::thread::id ending_thread;  // Set before `ending`. Only this thread may still take the GIL.
// Threads that wait for the GIL, acquired it through this file, or run Python below our frames.
std::atomic<int> asking{0};

bool Ending() { return ending && std::this_thread::get_id() != ending_thread; }

// Counts this thread in `asking` for the lifetime of the object.
class Asking {
 public:
  Asking() { ++asking; }
  ~Asking() { --asking; }
};

// Python calls this on the thread that ends the interpreter, with the GIL held, while other threads
// can still acquire it.
void AtExit() {
  ending_thread = std::this_thread::get_id();
  ending = true;
  // Let threads that already wait for the GIL acquire it, so that Python ends none of them midway.
  // A thread that acquired it may count itself again before this one holds it.
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (asking > 0 && std::chrono::steady_clock::now() < until) {
    PyThreadState* const state = PyEval_SaveThread();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    PyEval_RestoreThread(state);
  }
}

}  // namespace

ReleasedGil::~ReleasedGil() {
  {
    const Asking here;
    if (!Ending()) {
      PyEval_RestoreThread(state_);
      return;
    }
  }
  while (true) std::this_thread::sleep_for(std::chrono::hours(1));
}

RunsPython::RunsPython() { ++asking; }

RunsPython::~RunsPython() { --asking; }

bool CheckSignals() {
  const Asking here;
  if (Ending()) return true;
  py::gil_scoped_acquire acquire;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  return false;
}

void RegisterGil() {
  // A child process made by fork() has none of the threads that were counted.
  pthread_atfork(nullptr, nullptr, [] { asking = 0; });
  py::module_::import("atexit").attr("register")(py::cpp_function(&AtExit));
}

}  // namespace keras_mtl
