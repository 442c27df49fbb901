// Kernels of Isa::kAmx; CMakeLists.txt gives this file its own compiler flags.
#include "kernels/vec_avx512.h"
// The vectors come first.
#include "kernels/amx_tiles.h"
// The tile registers come before their use.
#include "kernels/gemm_int8_amx.h"
#include "kernels/table-inl.h"

namespace keras_mtl {

extern const KernelTable kVnniKernels;

namespace {

// Products of fewer rows go to VNNI. Both read each weight once: VNNI up to its tile of 6 rows, in
// about 8 cycles a row and KiB of weights; AMX was measured to read 53 GB/s from L2, a KiB in about
// 55 cycles, at any number of rows up to 16. The two meet at 7. (Estimated, not yet timed.)
constexpr int kAmxLeastRows = 7;

void GemmInt8FewOrMany(const Int8Rows& a, const Int8Weights& w, int first, int last,
                       const Output& out) {
  (a.rows < kAmxLeastRows ? kVnniKernels.gemm_int8 : GemmInt8)(a, w, first, last, out);
}

void ProjectInt8FewOrMany(const Int8Rows& a, const Int8Weights& w, const float* bias, int first,
                          int last, LogitRow* rows, SegmentSum* sums) {
  (a.rows < kAmxLeastRows ? kVnniKernels.project_int8 : ProjectInt8)(a, w, bias, first, last, rows,
                                                                     sums);
}

constexpr KernelTable MakeAmxTable() {
  KernelTable table = MakeTable(Isa::kAmx);
  table.gemm_int8 = GemmInt8FewOrMany;
  table.project_int8 = ProjectInt8FewOrMany;
  return table;
}

}  // namespace

extern const KernelTable kAmxKernels;
const KernelTable kAmxKernels = MakeAmxTable();

}  // namespace keras_mtl
