// A minimal test framework. A test is TEST(Name) { ... } with CHECKs; a binary runs all of its
// tests and exits with 1 if any test fails.
#ifndef KERAS_MTL_TESTS_HARNESS_H_
#define KERAS_MTL_TESTS_HARNESS_H_

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/kernels.h"

namespace keras_mtl::testing {

struct Test {
  const char* name;
  void (*run)();
};

inline std::vector<Test>& Tests() {
  static std::vector<Test> tests;
  return tests;
}

inline int& Failures() {
  static int failures = 0;
  return failures;
}

inline bool Register(const char* name, void (*run)()) {
  Tests().push_back({name, run});
  return true;
}

inline int RunAll() {
  for (const Test& test : Tests()) {
    const int before = Failures();
    test.run();
    std::printf("%s %s\n", Failures() == before ? "ok    " : "FAILED", test.name);
  }
  return Failures() == 0 ? 0 : 1;
}

// Returns the instruction sets of this machine, the generic one first.
inline std::vector<Isa> Isas() {
  std::vector<Isa> isas;
  const int best = static_cast<int>(BestIsa(GetCpuFeatures()));
  for (int isa = 0; isa <= best; ++isa) isas.push_back(static_cast<Isa>(isa));
  return isas;
}

using Random = std::mt19937;

inline std::vector<float> Normal(Random& random, size_t size, float deviation = 1.0f) {
  std::normal_distribution<float> distribution(0.0f, deviation);
  std::vector<float> result(size);
  for (float& x : result) x = distribution(random);
  return result;
}

inline std::vector<int8_t> Bytes(Random& random, size_t size, int lowest) {
  std::uniform_int_distribution<int> distribution(lowest, 127);
  std::vector<int8_t> result(size);
  for (int8_t& x : result) x = static_cast<int8_t>(distribution(random));
  return result;
}

template <class T>
bool SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace keras_mtl::testing

#define TEST(name)                                       \
  static void name();                                    \
  [[maybe_unused]] static const bool name##_registered = \
      keras_mtl::testing::Register(#name, name);         \
  static void name()

// Counts a failure and prints the first 20 of a run, with the optional printf arguments.
#define CHECK(condition, ...)                                     \
  do {                                                            \
    if (!(condition) && ++keras_mtl::testing::Failures() <= 20) { \
      std::printf("%s:%d: %s;", __FILE__, __LINE__, #condition);  \
      std::printf(" " __VA_ARGS__);                               \
      std::printf("\n");                                          \
    }                                                             \
  } while (false)

#define TEST_MAIN() \
  int main() { return keras_mtl::testing::RunAll(); }

#endif  // KERAS_MTL_TESTS_HARNESS_H_
