// Kernels of Isa::kVnni; CMakeLists.txt gives this file its own compiler flags.
#include "kernels/vec_avx512.h"
// The vectors must come first.
#include "kernels/gemm_int8_vnni.h"
#include "kernels/table-inl.h"

namespace keras_mtl {

extern const KernelTable kVnniKernels;
const KernelTable kVnniKernels = MakeTable(Isa::kVnni);

}  // namespace keras_mtl
