// Kernels of Isa::kGeneric; CMakeLists.txt gives this file its own compiler flags.
#include "kernels/vec_generic.h"
// The vectors must come first.
#include "kernels/gemm_int8_generic.h"
#include "kernels/table-inl.h"

namespace keras_mtl {

extern const KernelTable kGenericKernels;
const KernelTable kGenericKernels = MakeTable(Isa::kGeneric);

}  // namespace keras_mtl
