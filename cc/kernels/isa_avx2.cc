// Kernels of Isa::kAvx2; CMakeLists.txt gives this file its own compiler flags.
#include "kernels/vec_avx2.h"
// The vectors must come first.
#include "kernels/gemm_int8_avx2.h"
#include "kernels/table-inl.h"

namespace keras_mtl {

extern const KernelTable kAvx2Kernels;
const KernelTable kAvx2Kernels = MakeTable(Isa::kAvx2);

}  // namespace keras_mtl
