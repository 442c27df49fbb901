// Compares the fused projection with sorting all logits, on all instruction sets, with splits and
// edits.
#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/pack.h"
#include "tests/harness.h"

namespace keras_mtl {
namespace {

using namespace testing;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Result {
  std::vector<int32_t> tokens;  // [rows, top]
  std::vector<float> logits;    // [rows, top]
  std::vector<float> all;       // [rows, padded columns]
  std::vector<float> wanted;    // [rows]
  std::vector<float> log_sums;  // [rows]
};

struct Problem {
  int rows, columns, depth, top;
  std::vector<float> x, w, bias;  // bias padded with -inf
  std::vector<std::vector<int32_t>> edit_tokens;
  std::vector<std::vector<float>> edit_penalties;
  std::vector<int> wanted;
};

Problem MakeProblem(Random& random, int rows, int columns, int depth, int top) {
  Problem p{rows, columns, depth, top, {}, {}, {}, {}, {}, {}};
  p.x = Normal(random, static_cast<size_t>(rows) * depth);
  p.w = Normal(random, static_cast<size_t>(columns) * depth);
  p.bias.assign(RoundUp(columns, kPanel), -kInfinity);
  std::fill_n(p.bias.begin(), columns, 0.0f);
  p.bias[columns / 2] = -kInfinity;  // a forbidden token
  for (int r = 0; r < rows; ++r) {
    std::vector<int32_t> tokens;
    std::vector<float> penalties;
    for (int token = r % 3; token < columns; token += 1 + columns / 5) {
      tokens.push_back(token);
      penalties.push_back(token % 2 == 0 ? 0.0f : 1.5f);
    }
    p.edit_tokens.push_back(tokens);
    p.edit_penalties.push_back(penalties);
    p.wanted.push_back((r * 7) % columns);
  }
  return p;
}

// `splits`: the number of runs among which segments are distributed, as among threads.
Result Run(const Problem& p, const KernelTable& kernels, bool int8, int splits) {
  const int padded = RoundUp(p.columns, kPanel);
  const int segments = RoundUp(padded / kPanel, kSegmentPanels) / kSegmentPanels;
  Result result;
  result.all.assign(static_cast<size_t>(p.rows) * padded, 0.0f);
  std::vector<SegmentSum> sums(static_cast<size_t>(segments) * p.rows);
  std::vector<std::vector<Candidate>> found(p.rows);
  result.wanted.assign(p.rows, -kInfinity);
  const int stride = RoundUp(p.depth, kDepthAlign);
  std::vector<int8_t> quantized(static_cast<size_t>(p.rows) * stride);
  std::vector<float> scales(p.rows);
  kernels.quantize_rows(p.x.data(), p.rows, p.depth, p.depth, quantized.data(), scales.data());
  const PackedInt8 packed_int8 =
      PackedInt8::Quantize(p.w.data(), nullptr, p.columns, p.depth, kernels);
  const PackedFloat packed_float(p.w.data(), nullptr, p.columns, p.depth, kernels);
  for (int split = 0; split < splits; ++split) {
    std::vector<LogitRow> rows(p.rows);
    std::vector<Candidate> candidates(static_cast<size_t>(p.rows) * p.top);
    for (int r = 0; r < p.rows; ++r) {
      LogitRow& row = rows[r];
      row.top = p.top;
      row.wanted = p.wanted[r];
      row.candidates = candidates.data() + static_cast<size_t>(r) * p.top;
      row.logits = result.all.data() + static_cast<size_t>(r) * padded;
      row.edits.tokens = p.edit_tokens[r].data();
      row.edits.penalties = p.edit_penalties[r].data();
      row.edits.count = static_cast<int>(p.edit_tokens[r].size());
      ProjectBegin(&row);
    }
    const int first = segments * split / splits, last = segments * (split + 1) / splits;
    if (int8) {
      kernels.project_int8({quantized.data(), scales.data(), p.rows, stride}, packed_int8.view(),
                           p.bias.data(), first, last, rows.data(), sums.data());
    } else {
      kernels.project_float({p.x.data(), p.rows, p.depth}, packed_float.view(), p.bias.data(),
                            first, last, rows.data(), sums.data());
    }
    for (int r = 0; r < p.rows; ++r) {
      found[r].insert(found[r].end(), rows[r].candidates, rows[r].candidates + rows[r].count);
      result.wanted[r] = std::max(result.wanted[r], rows[r].wanted_logit);
    }
  }
  for (int r = 0; r < p.rows; ++r) {
    std::stable_sort(found[r].begin(), found[r].end(),
                     [](const Candidate& a, const Candidate& b) { return a.logit > b.logit; });
    found[r].resize(std::min<size_t>(found[r].size(), p.top));
    for (const Candidate& c : found[r]) {
      result.tokens.push_back(c.token);
      result.logits.push_back(c.logit);
    }
    result.log_sums.push_back(kernels.log_sum_exp(sums.data() + r, segments, p.rows));
  }
  return result;
}

void CheckAgainstSort(const Problem& p, const Result& result) {
  const int padded = RoundUp(p.columns, kPanel);
  size_t next = 0;
  for (int r = 0; r < p.rows; ++r) {
    const float* logits = result.all.data() + static_cast<size_t>(r) * padded;
    for (size_t e = 0; e < p.edit_tokens[r].size(); ++e) {
      if (p.edit_penalties[r][e] == 0.0f) CHECK(logits[p.edit_tokens[r][e]] == -kInfinity);
    }
    CHECK(logits[p.columns / 2] == -kInfinity);
    CHECK(result.wanted[r] == logits[p.wanted[r]]);
    std::vector<int> order(p.columns);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return logits[a] > logits[b]; });
    double total = 0;
    for (int i = 0; i < p.columns; ++i) {
      total += std::exp(static_cast<double>(logits[i]) - logits[order[0]]);
    }
    const double log_sum = logits[order[0]] + std::log(total);
    if (logits[order[0]] > -kInfinity) {
      CHECK(std::fabs(result.log_sums[r] - log_sum) <= 2e-6 * std::max(1.0, std::fabs(log_sum)),
            "%g, want %g", result.log_sums[r], log_sum);
    } else {
      CHECK(result.log_sums[r] == -kInfinity);
    }
    for (int i = 0; i < std::min(p.top, p.columns) && logits[order[i]] > -kInfinity; ++i, ++next) {
      CHECK(result.tokens[next] == order[i] && result.logits[next] == logits[order[i]],
            "row %d rank %d: token %d, want %d", r, i, result.tokens[next], order[i]);
    }
  }
  CHECK(next == result.tokens.size());
}

TEST(ProjectionEqualsSorting) {
  Random random(1);
  const int shapes[][4] = {{1, 1, 1, 1},     {3, 2, 5, 4},      {5, 61, 17, 8},
                           {7, 127, 64, 2},  {2, 2053, 33, 8},  {13, 4099, 40, 8},
                           {1, 6151, 20, 0}, {4, 5000, 16, 200}};
  for (const auto& s : shapes) {
    const Problem p = MakeProblem(random, s[0], s[1], s[2], s[3]);
    for (bool int8 : {false, true}) {
      Result first;
      for (Isa isa : Isas()) {
        const Result result = Run(p, GetKernels(isa), int8, 1);
        CheckAgainstSort(p, result);
        if (first.all.empty()) first = result;
        for (int splits : {1, 2}) {
          const Result other = Run(p, GetKernels(isa), int8, splits);
          CHECK(SameBits(other.tokens, first.tokens) && SameBits(other.logits, first.logits) &&
                    SameBits(other.log_sums, first.log_sums) && SameBits(other.all, first.all),
                "%s, %d columns, %d splits", IsaName(isa), p.columns, splits);
        }
      }
    }
  }
}

// Equal logits keep the order of tokens, even if there are more of them than `top`.
TEST(TiesGoToTheSmallerToken) {
  Problem p = [] {
    Random random(2);
    return MakeProblem(random, 1, 300, 4, 6);
  }();
  p.edit_tokens[0].clear();
  p.edit_penalties[0].clear();
  std::fill(p.w.begin(), p.w.end(), 0.0f);
  for (Isa isa : Isas()) {
    const Result result = Run(p, GetKernels(isa), false, 1);
    for (int i = 0; i < 6; ++i) CHECK(result.tokens[i] == i, "rank %d: %d", i, result.tokens[i]);
  }
}

TEST(NotANumberReachesTheLogSumExp) {
  Random random(3);
  Problem p = MakeProblem(random, 2, 300, 20, 4);
  p.x[3] = std::numeric_limits<float>::quiet_NaN();
  for (Isa isa : Isas()) {
    for (bool int8 : {false, true}) {
      const Result result = Run(p, GetKernels(isa), int8, 1);
      CHECK(std::isnan(result.log_sums[0]) && !std::isnan(result.log_sums[1]), "%s", IsaName(isa));
    }
  }
}

}  // namespace
}  // namespace keras_mtl

TEST_MAIN()
