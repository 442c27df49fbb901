#include "python/gil.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace py = pybind11;

namespace keras_mtl {
namespace {

std::atomic<bool> ending{false};
std::thread::id ending_thread;  // Written before `ending`. It may continue with everything.
std::atomic<int> asking{0};     // Threads that wait for the GIL, or have got it through here.

bool Ending() { return ending && std::this_thread::get_id() != ending_thread; }

// A thread that may ask for the GIL, and will have got it when this object goes.
class Asking {
 public:
  Asking() { ++asking; }
  ~Asking() { --asking; }
};

// Called by Python, on the thread that ends the interpreter and with the GIL, when threads can
// still take it.
void AtExit() {
  ending_thread = std::this_thread::get_id();
  ending = true;
  // Threads that asked before get it: none is ended in the middle.
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
  // Threads that were asking are not there in a child of fork().
  pthread_atfork(nullptr, nullptr, [] { asking = 0; });
  py::module_::import("atexit").attr("register")(py::cpp_function(&AtExit));
}

}  // namespace keras_mtl
