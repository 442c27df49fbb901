// Speed of the matrix products on one thread in Gop/s (two operations per multiply-add), as the
// median of several runs, and the time to quantize a row and to multiply it. Usage: bench_kernels
// [isa...]; default: all of this machine except generic.
#include <time.h>

#include <algorithm>

#include "kernels/pack.h"
#include "tests/harness.h"

namespace keras_mtl {
namespace {

using namespace testing;

// CPU seconds of the thread, which other processes disturb least.
double Now() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Median time of a call in seconds, over at least 5 calls and 0.2 s.
template <class Run>
double MedianTime(Run run) {
  std::vector<double> times;
  for (double total = 0; times.size() < 5 || total < 0.2;) {
    const double begin = Now();
    run();
    times.push_back(Now() - begin);
    total += times.back();
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2];
}

// Prints nanoseconds per row, in a batch of 32, of quantization with a scale by row and with a
// fixed scale, also after normalization, and of the product with a matrix [depth, depth].
void BenchRows(const KernelTable& kernels, int depth) {
  constexpr int kRows = 32, kRepeats = 20;
  Random random(1);
  const auto x = Normal(random, static_cast<size_t>(kRows) * depth);
  const auto w = Normal(random, static_cast<size_t>(depth) * depth);
  const PackedInt8 packed = PackedInt8::Quantize(w.data(), nullptr, depth, depth, kernels);
  const std::vector<float> gamma(depth, 1.0f), beta(depth);
  const int stride = RoundUp(depth, kDepthAlign);
  AlignedBuffer<int8_t> bytes(static_cast<size_t>(kRows) * stride);
  std::vector<float> scales(kRows), scratch(depth), y(static_cast<size_t>(kRows) * depth);
  const auto per_row = [&](auto run) {
    return MedianTime([&] {
             for (int i = 0; i < kRepeats; ++i) run();
           }) /
           (kRepeats * kRows) * 1e9;
  };
  const auto normalized = [&](float range) {
    return per_row([&] {
      kernels.layer_norm_quantize(x.data(), kRows, depth, gamma.data(), beta.data(), 1e-6f, range,
                                  scratch.data(), bytes.data(), scales.data());
    });
  };
  const double own = per_row(
      [&] { kernels.quantize_rows(x.data(), kRows, depth, depth, bytes.data(), scales.data()); });
  const double fixed = per_row([&] {
    kernels.quantize_rows_in(4.0f, x.data(), kRows, depth, depth, bytes.data(), scales.data());
  });
  const double own_normalized = normalized(0.0f), fixed_normalized = normalized(4.0f);
  const double product = per_row([&] {
    kernels.gemm_int8({bytes.data(), scales.data(), kRows, stride}, packed.view(), 0,
                      RoundUp(depth, kPanel) / kPanel,
                      {y.data(), depth, Activation::kNone, Combine::kStore});
  });
  std::printf(
      "%-8s K %5d | ns/row: quantized by row %4.0f, with a fixed scale %4.0f; normalized %4.0f, "
      "%4.0f; product %5.0f\n",
      IsaName(kernels.isa), depth, own, fixed, own_normalized, fixed_normalized, product);
}

void Bench(const KernelTable& kernels, int depth, int columns) {
  Random random(1);
  const auto w = Normal(random, static_cast<size_t>(columns) * depth);
  const PackedInt8 packed_int8 = PackedInt8::Quantize(w.data(), nullptr, columns, depth, kernels);
  const PackedFloat packed_float(w.data(), nullptr, columns, depth, kernels);
  const int panels = RoundUp(columns, kPanel) / kPanel;
  const int segments = RoundUp(panels, kSegmentPanels) / kSegmentPanels;
  const int stride = RoundUp(depth, kDepthAlign);
  const std::vector<float> bias(static_cast<size_t>(panels) * kPanel);
  for (int rows : {1, 4, 32, 128, 256}) {
    const auto x = Normal(random, static_cast<size_t>(rows) * depth);
    std::vector<int8_t> quantized(static_cast<size_t>(rows) * stride);
    std::vector<float> scales(rows), y(static_cast<size_t>(rows) * columns);
    std::vector<SegmentSum> sums(static_cast<size_t>(rows) * segments);
    std::vector<Candidate> candidates(static_cast<size_t>(rows) * 8);
    std::vector<LogitRow> logit_rows(rows);
    kernels.quantize_rows(x.data(), rows, depth, depth, quantized.data(), scales.data());
    const Int8Rows a{quantized.data(), scales.data(), rows, stride};
    const FloatRows b{x.data(), rows, depth};
    const Output out{y.data(), columns, Activation::kNone, Combine::kStore};
    const auto begin_rows = [&] {
      for (int r = 0; r < rows; ++r) {
        LogitRow& row = logit_rows[r];
        row = LogitRow{};
        row.top = 8;
        row.wanted = -1;
        row.candidates = candidates.data() + static_cast<size_t>(r) * 8;
        ProjectBegin(&row);
      }
    };
    const double times[] = {
        MedianTime([&] { kernels.gemm_int8(a, packed_int8.view(), 0, panels, out); }),
        MedianTime([&] {
          begin_rows();
          kernels.project_int8(a, packed_int8.view(), bias.data(), 0, segments, logit_rows.data(),
                               sums.data());
        }),
        MedianTime([&] { kernels.gemm_float(b, packed_float.view(), 0, panels, out); }),
        MedianTime([&] {
          begin_rows();
          kernels.project_float(b, packed_float.view(), bias.data(), 0, segments, logit_rows.data(),
                                sums.data());
        })};
    const double operations = 2.0 * rows * columns * depth;
    std::printf(
        "%-8s M %4d N %6d K %5d | int8 %7.1f Gop/s, projected %7.1f | float32 %6.1f, %6.1f\n",
        IsaName(kernels.isa), rows, columns, depth, operations / times[0] * 1e-9,
        operations / times[1] * 1e-9, operations / times[2] * 1e-9, operations / times[3] * 1e-9);
  }
}

}  // namespace
}  // namespace keras_mtl

int main(int argc, char** argv) {
  for (keras_mtl::Isa isa : keras_mtl::testing::Isas()) {
    bool asked = argc == 1 && isa != keras_mtl::Isa::kGeneric;
    for (int i = 1; i < argc; ++i) asked |= std::strcmp(argv[i], keras_mtl::IsaName(isa)) == 0;
    if (!asked) continue;
    for (const int depth : {192, 512, 2048}) {
      keras_mtl::BenchRows(keras_mtl::GetKernels(isa), depth);
    }
    for (const int columns : {2048, 32000}) {
      keras_mtl::Bench(keras_mtl::GetKernels(isa), 512, columns);
    }
  }
}
