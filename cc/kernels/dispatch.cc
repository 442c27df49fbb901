#include <limits>

#include "kernels/kernels.h"

namespace keras_mtl {

extern const KernelTable kGenericKernels;
#if defined(__x86_64__)
extern const KernelTable kAvx2Kernels;
extern const KernelTable kVnniKernels;
#endif
#if defined(KERAS_MTL_AMX)
extern const KernelTable kAmxKernels;
#endif

const KernelTable& GetKernels(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::kAmx:
#if defined(KERAS_MTL_AMX)
      return kAmxKernels;
#endif
    case Isa::kVnni:
      return kVnniKernels;
    case Isa::kAvx2:
      return kAvx2Kernels;
    case Isa::kGeneric:
      break;
  }
#else
  (void)isa;
#endif
  return kGenericKernels;
}

void ProjectBegin(LogitRow* row) {
  row->threshold = -std::numeric_limits<float>::infinity();
  row->wanted_logit = -std::numeric_limits<float>::infinity();
  row->next_edit = 0;
  row->count = 0;
}

double Log(double x) {
  if (!(x > 0)) {
    return x == 0 ? -std::numeric_limits<double>::infinity()
                  : std::numeric_limits<double>::quiet_NaN();
  }
  if (x > std::numeric_limits<double>::max()) return x;
  // x = m 2^e with m in [sqrt(1/2), sqrt(2)), log m = 2 atanh(s) with s = (m - 1) / (m + 1).
  int e = 0;
  while (x >= 1.4142135623730951) {
    x *= 0.5;
    ++e;
  }
  while (x < 0.7071067811865476) {
    x *= 2.0;
    --e;
  }
  const double s = (x - 1.0) / (x + 1.0);
  const double square = s * s;  // at most 0.0295: the term s^23 is below 1e-17
  double series = 0.0;
  for (int power = 21; power >= 1; power -= 2) series = series * square + 1.0 / power;
  return e * 0.6931471805599453 + 2.0 * s * series;
}

}  // namespace keras_mtl
