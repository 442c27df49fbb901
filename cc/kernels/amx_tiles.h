// The processor's tile registers: one function per instruction.
#ifndef KERAS_MTL_KERNELS_AMX_TILES_H_
#define KERAS_MTL_KERNELS_AMX_TILES_H_

#include <cstddef>

namespace keras_mtl {

namespace {

// Uses assembler because GCC's intrinsics accept only literal register numbers and do not tell the
// compiler that a load reads memory or that ldtilecfg reads all 64 bytes.
struct AmxTiles {
  // `config`: the 64 bytes of a TileConfig.
  static void Configure(const void* config) {
    __asm__ volatile("ldtilecfg %0" : : "m"(*static_cast<const char(*)[64]>(config)));
  }
  static void Release() { __asm__ volatile("tilerelease"); }

  // Loads the rows of the tile from `base`; they are `stride` bytes apart.
  template <int kTile>
  static void Load(const void* base, ptrdiff_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2"
                     :
                     : "r"(base), "r"(stride), "i"(kTile)
                     : "memory");
  }
  template <int kTile>
  static void Store(void* base, ptrdiff_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)"
                     :
                     : "r"(base), "r"(stride), "i"(kTile)
                     : "memory");
  }
  // sums += rows x weights, for unsigned rows and signed weights; exact in int32.
  template <int kSums, int kRows, int kWeights>
  static void Dot() {
    __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0"
                     :
                     : "i"(kSums), "i"(kRows), "i"(kWeights));
  }
};

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_AMX_TILES_H_
