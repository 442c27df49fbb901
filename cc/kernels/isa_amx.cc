// Kernels of Isa::kAmx; CMakeLists.txt gives this file its own compiler flags.
#include "kernels/vec_avx512.h"
// The vectors must come first,
#include "kernels/amx_tiles.h"
// then the tile registers.
#include "kernels/gemm_int8_amx.h"
#include "kernels/table-inl.h"

namespace keras_mtl {

extern const KernelTable kVnniKernels;

namespace {

// Products of fewer rows use VNNI. Per KiB of weights, VNNI needs about 8 cycles per row (for up to
// 6 rows), and AMX about 55 cycles for any number of rows up to 16 (measured: 53 GB/s from L2). The
// break-even point is 7 rows. (An estimate that has not been measured.)
constexpr int kAmxMinRows = 7;

void GemmInt8FewOrMany(const Int8Rows& a, const Int8Weights& w, int first, int last,
                       const Output& out) {
  (a.rows < kAmxMinRows ? kVnniKernels.gemm_int8 : GemmInt8)(a, w, first, last, out);
}

void ProjectInt8FewOrMany(const Int8Rows& a, const Int8Weights& w, const float* bias, int first,
                          int last, LogitRow* rows, SegmentSum* sums) {
  (a.rows < kAmxMinRows ? kVnniKernels.project_int8 : ProjectInt8)(a, w, bias, first, last, rows,
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
