// Features of the processor that the operating system supports.
#ifndef KERAS_MTL_KERNELS_CPU_FEATURES_H_
#define KERAS_MTL_KERNELS_CPU_FEATURES_H_

namespace keras_mtl {

// A flag is true if the processor has the instructions and the operating system saves their
// registers. amx_int8 also requires that this library was built with AMX kernels and that Linux
// permits the process to use tile registers. All flags are false if the processor is not x86-64.
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

// Instruction sets with kernels, slowest first.
enum class Isa { kGeneric = 0, kAvx2 = 1, kVnni = 2, kAmx = 3 };

// Returns the features of this machine, detected once. Requests permission from Linux to use AMX
// tiles, which holds for the whole process and costs nothing until a tile is used. Thread-safe.
const CpuFeatures& GetCpuFeatures();

// Returns the fastest instruction set that `features` supports.
Isa BestIsa(const CpuFeatures& features);

// "generic", "avx2", "vnni" or "amx".
const char* IsaName(Isa isa);

}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_CPU_FEATURES_H_
