// Matrix products equal plain loops and are the same on all instruction sets; rows are independent.
#include <limits>
#include <utility>

#include "kernels/pack.h"
#include "tests/harness.h"

namespace keras_mtl {
namespace {

using namespace testing;

struct Shape {
  int rows, columns, depth;
};

// Sizes that are not multiples of tiles, ones, tile boundaries, a prime vocabulary, and matrices of
// few columns or little depth, as those of LoRA.
const Shape kShapes[] = {{1, 1, 1},      {1, 64, 64},    {2, 3, 3},     {3, 17, 17},
                         {4, 65, 63},    {5, 63, 65},    {6, 128, 96},  {7, 130, 33},
                         {13, 251, 127}, {16, 192, 256}, {17, 67, 129}, {33, 97, 512},
                         {6, 8, 512},    {5, 16, 20},    {35, 15, 66},  {7, 200, 8}};

// Rows as quantize_rows would leave them: padded and flipped for the instruction set.
std::vector<int8_t> PadRows(const std::vector<int8_t>& rows, int count, int depth, uint8_t flip) {
  const int stride = RoundUp(depth, kDepthAlign);
  std::vector<int8_t> result(static_cast<size_t>(count) * stride, static_cast<int8_t>(flip));
  for (int r = 0; r < count; ++r) {
    for (int k = 0; k < depth; ++k) {
      result[static_cast<size_t>(r) * stride + k] = static_cast<int8_t>(
          static_cast<uint8_t>(rows[static_cast<size_t>(r) * depth + k]) ^ flip);
    }
  }
  return result;
}

TEST(Int8ProductIsExact) {
  Random random(1);
  for (const Shape& s : kShapes) {
    const auto a = Bytes(random, static_cast<size_t>(s.rows) * s.depth, -127);
    const auto w = Bytes(random, static_cast<size_t>(s.columns) * s.depth, -128);
    const std::vector<float> ones(s.columns, 1.0f), row_ones(s.rows, 1.0f);
    for (Isa isa : Isas()) {
      const KernelTable& kernels = GetKernels(isa);
      const PackedInt8 packed(w.data(), ones.data(), nullptr, s.columns, s.depth, kernels);
      const auto rows = PadRows(a, s.rows, s.depth, kernels.row_flip);
      std::vector<float> y(static_cast<size_t>(s.rows) * s.columns, -1.0f);
      kernels.gemm_int8({rows.data(), row_ones.data(), s.rows, RoundUp(s.depth, kDepthAlign)},
                        packed.view(), 0, RoundUp(s.columns, kPanel) / kPanel,
                        {y.data(), s.columns, Activation::kNone, Combine::kStore});
      for (int m = 0; m < s.rows; ++m) {
        for (int n = 0; n < s.columns; ++n) {
          int32_t sum = 0;
          for (int k = 0; k < s.depth; ++k) {
            sum +=
                a[static_cast<size_t>(m) * s.depth + k] * w[static_cast<size_t>(n) * s.depth + k];
          }
          const float got = y[static_cast<size_t>(m) * s.columns + n];
          CHECK(got == static_cast<float>(sum), "%s %dx%dx%d at %d,%d: %g, want %d", IsaName(isa),
                s.rows, s.columns, s.depth, m, n, got, sum);
        }
      }
    }
  }
}

// Extreme values, for which saturating instructions would give other results.
TEST(Int8ProductDoesNotSaturate) {
  const int depth = 4096;
  for (int a_value : {127, -127}) {
    for (int w_value : {127, -128}) {
      const std::vector<int8_t> a(depth, static_cast<int8_t>(a_value));
      const std::vector<int8_t> w(depth, static_cast<int8_t>(w_value));
      const float one = 1.0f;
      for (Isa isa : Isas()) {
        const KernelTable& kernels = GetKernels(isa);
        const PackedInt8 packed(w.data(), &one, nullptr, 1, depth, kernels);
        const auto rows = PadRows(a, 1, depth, kernels.row_flip);
        float y = 0;
        kernels.gemm_int8({rows.data(), &one, 1, depth}, packed.view(), 0, 1,
                          {&y, 1, Activation::kNone, Combine::kStore});
        CHECK(y == static_cast<float>(a_value * w_value * depth), "%s: %g", IsaName(isa), y);
      }
    }
  }
}

// Checks all features of a dense layer on all instruction sets, and a single row against the batch.
template <class Product>
void CheckDense(Product product) {
  Random random(2);
  for (const Shape& s : kShapes) {
    const auto x = Normal(random, static_cast<size_t>(s.rows) * s.depth);
    const auto w = Normal(random, static_cast<size_t>(s.columns) * s.depth, 0.1f);
    const auto bias = Normal(random, s.columns);
    for (Activation activation :
         {Activation::kNone, Activation::kRelu, Activation::kGelu, Activation::kSilu}) {
      for (Combine combine : {Combine::kStore, Combine::kAdd, Combine::kMultiply}) {
        std::vector<float> want;
        for (Isa isa : Isas()) {
          const KernelTable& kernels = GetKernels(isa);
          std::vector<float> y(static_cast<size_t>(s.rows) * s.columns, 0.25f);
          product(kernels, x.data(), w, bias, s.rows, s,
                  Output{y.data(), s.columns, activation, combine});
          if (want.empty()) want = y;
          CHECK(SameBits(y, want), "%s %dx%dx%d activation %d", IsaName(isa), s.rows, s.columns,
                s.depth, static_cast<int>(activation));
          const int row = s.rows / 2;
          std::vector<float> separate(s.columns, 0.25f);
          product(kernels, x.data() + static_cast<size_t>(row) * s.depth, w, bias, 1, s,
                  Output{separate.data(), s.columns, activation, combine});
          CHECK(std::memcmp(separate.data(), y.data() + static_cast<size_t>(row) * s.columns,
                            s.columns * sizeof(float)) == 0,
                "%s row %d separate", IsaName(isa), row);
        }
      }
    }
  }
}

void Int8Dense(const KernelTable& kernels, const float* x, const std::vector<float>& w,
               const std::vector<float>& bias, int rows, const Shape& s, const Output& out) {
  const PackedInt8 packed =
      PackedInt8::Quantize(w.data(), bias.data(), s.columns, s.depth, kernels);
  const int stride = RoundUp(s.depth, kDepthAlign);
  std::vector<int8_t> quantized(static_cast<size_t>(rows) * stride);
  std::vector<float> scales(rows);
  kernels.quantize_rows(x, rows, s.depth, s.depth, quantized.data(), scales.data());
  kernels.gemm_int8({quantized.data(), scales.data(), rows, stride}, packed.view(), 0,
                    RoundUp(s.columns, kPanel) / kPanel, out);
}

void FloatDense(const KernelTable& kernels, const float* x, const std::vector<float>& w,
                const std::vector<float>& bias, int rows, const Shape& s, const Output& out) {
  const PackedFloat packed(w.data(), bias.data(), s.columns, s.depth, kernels);
  kernels.gemm_float({x, rows, s.depth}, packed.view(), 0, RoundUp(s.columns, kPanel) / kPanel,
                     out);
}

// The columns that Select() returns give the same results, in wide and in narrow panels.
TEST(SelectedColumnsAreThoseOfTheMatrix) {
  Random random(4);
  for (const auto& [columns, chosen] : {std::pair{150, 80}, {150, 16}, {150, 3}, {16, 5}}) {
    const Shape s{3, columns, 70};
    const auto x = Normal(random, static_cast<size_t>(s.rows) * s.depth);
    const auto w = Normal(random, static_cast<size_t>(columns) * s.depth);
    const auto bias = Normal(random, columns);
    std::vector<int32_t> which;
    for (int i = 0; i < chosen; ++i) which.push_back((7 * i + 2) % columns);
    for (Isa isa : Isas()) {
      const KernelTable& kernels = GetKernels(isa);
      const PackedInt8 packed =
          PackedInt8::Quantize(w.data(), bias.data(), columns, s.depth, kernels);
      const auto product = [&](const PackedInt8& weights) {
        const int n = weights.view().columns, stride = RoundUp(s.depth, kDepthAlign);
        std::vector<int8_t> rows(static_cast<size_t>(s.rows) * stride);
        std::vector<float> scales(s.rows), y(static_cast<size_t>(s.rows) * n);
        kernels.quantize_rows(x.data(), s.rows, s.depth, s.depth, rows.data(), scales.data());
        kernels.gemm_int8({rows.data(), scales.data(), s.rows, stride}, weights.view(), 0,
                          RoundUp(n, kPanel) / kPanel,
                          {y.data(), n, Activation::kNone, Combine::kStore});
        return y;
      };
      const auto all = product(packed), some = product(packed.Select(which.data(), chosen));
      for (int r = 0; r < s.rows; ++r) {
        for (int i = 0; i < chosen; ++i) {
          CHECK(some[r * chosen + i] == all[r * columns + which[i]], "%s %d of %d: row %d, %d",
                IsaName(isa), chosen, columns, r, i);
        }
      }
    }
  }
}

TEST(Int8DenseIsTheSameEverywhere) { CheckDense(Int8Dense); }
TEST(FloatDenseIsTheSameEverywhere) { CheckDense(FloatDense); }

TEST(FloatProductIsAChainOfFusedMultiplyAdds) {
  Random random(3);
  const Shape s{7, 67, 129};
  const auto x = Normal(random, static_cast<size_t>(s.rows) * s.depth);
  const auto w = Normal(random, static_cast<size_t>(s.columns) * s.depth);
  const std::vector<float> bias(s.columns, 0.0f);
  std::vector<float> y(static_cast<size_t>(s.rows) * s.columns);
  FloatDense(GetKernels(Isas().back()), x.data(), w, bias, s.rows, s,
             Output{y.data(), s.columns, Activation::kNone, Combine::kStore});
  for (int m = 0; m < s.rows; ++m) {
    for (int n = 0; n < s.columns; ++n) {
      float sum = 0.0f;
      for (int k = 0; k < s.depth; ++k) {
        sum = std::fma(x[static_cast<size_t>(m) * s.depth + k],
                       w[static_cast<size_t>(n) * s.depth + k], sum);
      }
      CHECK(y[static_cast<size_t>(m) * s.columns + n] == sum, "at %d,%d", m, n);
    }
  }
}

}  // namespace
}  // namespace keras_mtl

TEST_MAIN()
