// Quantization, normalization, activations and attention are correct and the same on all
// instruction sets.
#include <algorithm>
#include <limits>

#include "tests/harness.h"

namespace keras_mtl {
namespace {

using namespace testing;

const int kSizes[] = {1, 2, 15, 16, 17, 31, 63, 64, 65, 127, 512, 1000};

TEST(QuantizeRows) {
  Random random(1);
  for (int columns : kSizes) {
    const int rows = 3, stride = RoundUp(columns, kDepthAlign);
    auto x = Normal(random, static_cast<size_t>(rows) * columns);
    std::fill_n(x.begin() + columns, columns, 0.0f);  // a row of zeros
    for (Isa isa : Isas()) {
      const KernelTable& kernels = GetKernels(isa);
      std::vector<int8_t> data(static_cast<size_t>(rows) * stride, 1);
      std::vector<float> scales(rows);
      kernels.quantize_rows(x.data(), rows, columns, columns, data.data(), scales.data());
      CHECK(scales[1] == 1.0f, "%s", IsaName(isa));
      for (int r = 0; r < rows; ++r) {
        float absmax = 0.0f;
        for (int i = 0; i < columns; ++i) {
          absmax = std::max(absmax, std::fabs(x[static_cast<size_t>(r) * columns + i]));
        }
        if (r != 1) CHECK(scales[r] == absmax / 127.0f, "%s", IsaName(isa));
        for (int i = 0; i < stride; ++i) {
          const float value = i < columns ? x[static_cast<size_t>(r) * columns + i] : 0.0f;
          const float want = r == 1 ? 0.0f : std::nearbyint(value * (127.0f / absmax));
          const int got = static_cast<int8_t>(
              static_cast<uint8_t>(data[static_cast<size_t>(r) * stride + i]) ^ kernels.row_flip);
          CHECK(got == static_cast<int>(want), "%s %d columns, row %d, %d: %d, want %g",
                IsaName(isa), columns, r, i, got, want);
        }
      }
    }
  }
}

// A row whose absmax is the range has the integers of quantize_rows; larger values become 127.
TEST(QuantizeRowsInARange) {
  Random random(6);
  for (int columns : kSizes) {
    const int stride = RoundUp(columns, kDepthAlign);
    const auto x = Normal(random, columns);
    float absmax = 0.0f;
    for (const float value : x) absmax = std::max(absmax, std::fabs(value));
    for (Isa isa : Isas()) {
      const KernelTable& kernels = GetKernels(isa);
      std::vector<int8_t> want(stride, 1), got(stride, 2);
      float want_scale = 0.0f, scale = 0.0f;
      kernels.quantize_rows(x.data(), 1, columns, columns, want.data(), &want_scale);
      kernels.quantize_rows_in(absmax, x.data(), 1, columns, columns, got.data(), &scale);
      CHECK(SameBits(got, want) && scale == want_scale, "%s %d columns", IsaName(isa), columns);
      const float range = absmax / 3.0f;
      kernels.quantize_rows_in(range, x.data(), 1, columns, columns, got.data(), &scale);
      CHECK(scale == range / 127.0f, "%s", IsaName(isa));
      for (int i = 0; i < columns; ++i) {
        const float value = std::nearbyint(x[i] * (127.0f / range));
        const int clipped = static_cast<int>(std::min(127.0f, std::max(-127.0f, value)));
        const int found = static_cast<int8_t>(static_cast<uint8_t>(got[i]) ^ kernels.row_flip);
        CHECK(found == clipped, "%s %d: %d, want %d", IsaName(isa), i, found, clipped);
      }
    }
  }
}

TEST(QuantizeMarksWhatIsNotFinite) {
  for (float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                    std::numeric_limits<float>::quiet_NaN()}) {
    for (Isa isa : Isas()) {
      std::vector<float> x(20, 1.0f);
      x[18] = bad;
      std::vector<int8_t> data(kDepthAlign);
      float scale = 0.0f;
      GetKernels(isa).quantize_rows(x.data(), 1, 20, 20, data.data(), &scale);
      CHECK(std::isnan(scale), "%s: %g gives %g", IsaName(isa), bad, scale);
      scale = 0.0f;
      GetKernels(isa).quantize_rows_in(2.0f, x.data(), 1, 20, 20, data.data(), &scale);
      CHECK(std::isnan(scale) && static_cast<uint8_t>(data[0]) == GetKernels(isa).row_flip,
            "%s: %g gives %g", IsaName(isa), bad, scale);
    }
  }
}

// `centered`: layer normalization, else root mean square normalization, which has no beta.
void CheckNorm(bool centered) {
  Random random(2);
  for (int columns : kSizes) {
    const int rows = 2, stride = RoundUp(columns, kDepthAlign);
    const auto x = Normal(random, static_cast<size_t>(rows) * columns, 3.0f);
    const auto gamma = Normal(random, columns);
    const auto shift = Normal(random, columns);
    const float* beta = centered ? shift.data() : nullptr;
    std::vector<float> first;
    for (Isa isa : Isas()) {
      const KernelTable& kernels = GetKernels(isa);
      std::vector<float> y(x.size());
      kernels.layer_norm(x.data(), rows, columns, gamma.data(), beta, 1e-6f, y.data());
      if (first.empty()) first = y;
      CHECK(SameBits(y, first), "%s %d columns", IsaName(isa), columns);
      for (int r = 0; r < rows; ++r) {
        double mean = 0, variance = 0;
        const float* row = x.data() + static_cast<size_t>(r) * columns;
        for (int i = 0; i < columns && centered; ++i) {
          mean += row[i] / static_cast<double>(columns);
        }
        for (int i = 0; i < columns; ++i) {
          variance += (row[i] - mean) * (row[i] - mean) / columns;
        }
        for (int i = 0; i < columns; ++i) {
          const double want =
              (row[i] - mean) / std::sqrt(variance + 1e-6) * gamma[i] + (centered ? beta[i] : 0.0);
          const double error = std::fabs(y[static_cast<size_t>(r) * columns + i] - want);
          // With one column, the result is a normalized rounding error, which epsilon keeps small.
          CHECK(error <= 2e-5, "%s %d columns: %g", IsaName(isa), columns, error);
        }
      }

      // The fused kernel equals the sequence of both kernels.
      std::vector<int8_t> want(static_cast<size_t>(rows) * stride), got(want.size());
      std::vector<float> want_scales(rows), scales(rows), scratch(columns);
      kernels.quantize_rows(y.data(), rows, columns, columns, want.data(), want_scales.data());
      kernels.layer_norm_quantize(x.data(), rows, columns, gamma.data(), beta, 1e-6f, 0.0f,
                                  scratch.data(), got.data(), scales.data());
      CHECK(SameBits(got, want) && SameBits(scales, want_scales), "%s", IsaName(isa));
      kernels.quantize_rows_in(0.7f, y.data(), rows, columns, columns, want.data(),
                               want_scales.data());
      kernels.layer_norm_quantize(x.data(), rows, columns, gamma.data(), beta, 1e-6f, 0.7f,
                                  scratch.data(), got.data(), scales.data());
      CHECK(SameBits(got, want) && SameBits(scales, want_scales), "%s", IsaName(isa));
    }
  }
}

TEST(LayerNorm) { CheckNorm(true); }

TEST(RootMeanSquareNorm) { CheckNorm(false); }

// Pairs of channels are turned by their angle, and nothing else changes.
TEST(Rotation) {
  Random random(5);
  for (int dim : {2, 6, 32, 36, 64, 130}) {
    const int heads = 3, half = dim / 2;
    std::vector<float> table(dim);
    for (int i = 0; i < half; ++i) {
      table[i] = static_cast<float>(std::cos(i + 0.5));
      table[half + i] = static_cast<float>(std::sin(i + 0.5));
    }
    const auto x = Normal(random, static_cast<size_t>(heads) * dim + 1);
    std::vector<float> first;
    for (Isa isa : Isas()) {
      std::vector<float> y = x;
      GetKernels(isa).rotate(table.data(), heads, dim, y.data());
      if (first.empty()) first = y;
      CHECK(SameBits(y, first), "%s, %d channels", IsaName(isa), dim);
    }
    CHECK(first.back() == x.back(), "%d channels: wrote after the end", dim);
    for (int h = 0; h < heads; ++h) {
      for (int i = 0; i < half; ++i) {
        const size_t one = static_cast<size_t>(h) * dim + i, two = one + half;
        const double a = x[one], b = x[two], cosine = table[i], sine = table[half + i];
        CHECK(std::fabs(first[one] - (a * cosine - b * sine)) < 1e-6 &&
                  std::fabs(first[two] - (a * sine + b * cosine)) < 1e-6,
              "%d channels: head %d, channel %d", dim, h, i);
      }
    }
  }
}

TEST(ActivationsAndExp) {
  std::vector<float> x;
  for (int i = -20000; i <= 20000; ++i) x.push_back(static_cast<float>(i) * 0.005f);
  struct Case {
    Activation activation;
    double (*want)(double);
    double tolerance;  // absolute, per max(1, |x|)
  };
  const Case cases[] = {
      {Activation::kRelu, [](double v) { return v > 0 ? v : 0.0; }, 0.0},
      {Activation::kGelu, [](double v) { return 0.5 * v * (1 + std::erf(v * std::sqrt(0.5))); },
       4e-7},
      {Activation::kSilu, [](double v) { return v / (1 + std::exp(-v)); }, 3e-7},
  };
  for (const Case& c : cases) {
    std::vector<float> first;
    for (Isa isa : Isas()) {
      std::vector<float> y = x;
      GetKernels(isa).activate(c.activation, y.data(), static_cast<int>(y.size()));
      if (first.empty()) first = y;
      CHECK(SameBits(y, first), "%s", IsaName(isa));
    }
    for (size_t i = 0; i < x.size(); ++i) {
      const double error = std::fabs(first[i] - c.want(x[i]));
      CHECK(error <= c.tolerance * std::max(1.0, std::fabs(static_cast<double>(x[i]))),
            "activation %d of %g: error %g", static_cast<int>(c.activation), x[i], error);
    }
  }
  std::vector<float> first;
  for (Isa isa : Isas()) {
    std::vector<float> y = x;
    GetKernels(isa).exp(y.data(), static_cast<int>(y.size()));
    if (first.empty()) first = y;
    CHECK(SameBits(y, first), "%s", IsaName(isa));
  }
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = x[i] < -87.3365f ? 0.0 : std::exp(std::min<double>(x[i], 88.0));
    CHECK(std::fabs(first[i] - want) <= 2e-7 * want, "exp(%g) = %g", x[i], first[i]);
  }
}

TEST(ExpOfExtremes) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (Isa isa : Isas()) {
    float x[] = {-infinity, 0.0f, std::numeric_limits<float>::quiet_NaN(),
                 std::numeric_limits<float>::lowest()};
    GetKernels(isa).exp(x, 4);
    CHECK(x[0] == 0.0f && x[1] == 1.0f && std::isnan(x[2]) && x[3] == 0.0f, "%s", IsaName(isa));
  }
}

// Checks attention over entries [2, dim], floats or int8, stored in reverse order: close to a
// computation in float64, and the same on all instruction sets and with any other queries.
void CheckAttend(bool int8, int dim, int length) {
  Random random(3);
  constexpr int kMaxQueries = 6;
  const auto all_queries = Normal(random, static_cast<size_t>(kMaxQueries) * dim);
  const float* query = all_queries.data() + static_cast<ptrdiff_t>(kMaxQueries - 1) * dim;
  auto cache = Normal(random, static_cast<size_t>(length) * 2 * dim);
  const int stride = RoundUp(dim, kDepthAlign);
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  std::vector<float> first;
  for (Isa isa : Isas()) {
    const KernelTable& kernels = GetKernels(isa);
    std::vector<int8_t> bytes(static_cast<size_t>(length) * 2 * (stride + sizeof(float)));
    std::vector<const char*> entries(length);
    std::vector<float> values = cache;  // becomes the dequantized values if int8
    for (int t = 0; t < length; ++t) {
      const size_t at = static_cast<size_t>(length - 1 - t);
      float* row = values.data() + 2 * at * dim;
      entries[t] = reinterpret_cast<const char*>(row);
      if (!int8) continue;
      int8_t* entry = bytes.data() + 2 * at * (stride + sizeof(float));
      float* scales = reinterpret_cast<float*>(entry + 2 * stride);
      kernels.quantize_rows(row, 2, dim, dim, entry, scales);
      for (int i = 0; i < 2 * dim; ++i) {
        const uint8_t byte = static_cast<uint8_t>(entry[i / dim * stride + i % dim]);
        row[i] = static_cast<int8_t>(byte ^ kernels.row_flip) * scales[i / dim];
      }
      entries[t] = reinterpret_cast<const char*>(entry);
    }
    KeyValues at{entries.data(), length, 0, static_cast<ptrdiff_t>(dim * sizeof(float)), 0, 0};
    if (int8) {
      at = {entries.data(), length,     0,
            stride,         2 * stride, 2 * stride + static_cast<ptrdiff_t>(sizeof(float))};
    }
    std::vector<float> scores, out;
    const auto attend = int8 ? kernels.attend_int8 : kernels.attend_float;
    for (int count = 1; count <= kMaxQueries; ++count) {
      // Arrays of exact sizes, for AddressSanitizer.
      std::vector<std::vector<float>> count_scores(count), outs(count);
      std::vector<AttentionQuery> queries(count);
      for (int q = 0; q < count; ++q) {
        count_scores[q].resize(RoundUp(length, 16));
        outs[q].assign(dim, 9.0f);
        const ptrdiff_t from = static_cast<ptrdiff_t>(kMaxQueries - count + q) * dim;
        queries[q] = {all_queries.data() + from, count_scores[q].data(), outs[q].data()};
      }
      attend(queries.data(), count, at, dim, scale);
      scores = count_scores.back();
      out = outs.back();
      if (first.empty()) first = out;
      CHECK(SameBits(out, first), "%s int8 %d dim %d length %d, %d queries", IsaName(isa), int8,
            dim, length, count);
    }
    std::vector<double> weights(length);
    double total = 0;
    const auto value = [&](int t, int i) {
      return static_cast<double>(values[static_cast<size_t>(length - 1 - t) * 2 * dim + i]);
    };
    for (int t = 0; t < length; ++t) {
      double score = 0;
      for (int i = 0; i < dim; ++i) score += query[i] * value(t, i);
      total += weights[t] = std::exp(score * scale);
    }
    for (int t = 0; t < length; ++t) {
      CHECK(std::fabs(scores[t] - weights[t] / total) < 1e-6, "%s", IsaName(isa));
    }
    for (int i = 0; i < dim; ++i) {
      double want = 0;
      for (int t = 0; t < length; ++t) want += weights[t] / total * value(t, dim + i);
      CHECK(std::fabs(out[i] - want) < 2e-6, "%s int8 %d dim %d length %d: %g, want %g",
            IsaName(isa), int8, dim, length, out[i], want);
    }
  }
}

TEST(Attend) {
  for (int dim : {1, 3, 16, 20, 32, 64, 80, 128}) {
    for (int length : {1, 2, 15, 16, 17, 40}) {
      CheckAttend(false, dim, length);
      CheckAttend(true, dim, length);
    }
  }
}

TEST(LogIsThatOfTheLibrary) {
  for (double x : {1e-30, 0.3, 0.5, 0.70710678, 1.0, 1.41421356, 2.0, 3.7, 1e5, 3e38}) {
    CHECK(std::fabs(Log(x) - std::log(x)) <= 4e-16 * std::max(1.0, std::fabs(std::log(x))),
          "log(%g) = %.17g", x, Log(x));
  }
  CHECK(Log(0.0) == -std::numeric_limits<double>::infinity());
  CHECK(std::isnan(Log(-1.0)) && std::isnan(Log(std::numeric_limits<double>::quiet_NaN())));
}

}  // namespace
}  // namespace keras_mtl

TEST_MAIN()
