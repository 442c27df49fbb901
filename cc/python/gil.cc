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
std::atomic<int> asking{0};     // Threads that wait for the GIL or acquired it through this file.

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
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  PyThreadState* const state = PyEval_SaveThread();
  while (asking > 0 && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  PyEval_RestoreThread(state);
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
