// What the processor can do, and whether the operating system lets us use it.
#ifndef KERAS_MTL_KERNELS_CPU_FEATURES_H_
#define KERAS_MTL_KERNELS_CPU_FEATURES_H_

namespace keras_mtl {

// A flag is true only when both the processor has the instructions and the operating system saves
// their registers; for AMX also only when this library has its kernels and Linux granted the
// process the tile registers. All are false on a processor that is not x86-64.
struct CpuFeatures {
  bool sse4_1 = false;
  bool avx2 = false;
  bool fma = false;
  bool avx512f = false;
  bool avx512bw = false;
  bool avx512vl = false;
  bool avx512_vnni = false;
  bool avx512_bf16 = false;
  bool amx_int8 = false;
};

// Instruction sets that kernels are written for, slowest first.
enum class Isa { kGeneric = 0, kAvx2 = 1, kVnni = 2, kAmx = 3 };

// The features of this machine, asked once. Asks Linux for permission to use AMX tiles, which holds
// for the whole process and costs nothing until a tile is touched. Thread-safe.
const CpuFeatures& GetCpuFeatures();

// The fastest instruction set that `features` allows.
Isa BestIsa(const CpuFeatures& features);

// "generic", "avx2", "vnni" or "amx".
const char* IsaName(Isa isa);

}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_CPU_FEATURES_H_
