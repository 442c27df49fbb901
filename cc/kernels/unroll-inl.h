// Loops that are unrolled at compile time, before optimization.
#ifndef KERAS_MTL_KERNELS_UNROLL_INL_H_
#define KERAS_MTL_KERNELS_UNROLL_INL_H_

#define KERAS_MTL_ALWAYS_INLINE __attribute__((always_inline))

namespace keras_mtl {
namespace {

template <int kValue>
struct Index {
  constexpr operator int() const { return kValue; }  // NOLINT: implicit on purpose
};

// Calls f(Index<0>), ..., f(Index<kCount - 1>). An array of vectors that is indexed by these
// constants stays in registers. With loop indices, GCC 12 keeps it on the stack and writes to it in
// every iteration, which costs int8 products two thirds of their speed.
template <int kCount, class Function>
KERAS_MTL_ALWAYS_INLINE inline void Unroll(Function f) {
  if constexpr (kCount > 0) {
    Unroll<kCount - 1>(f);
    f(Index<kCount - 1>());
  }
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_UNROLL_INL_H_
