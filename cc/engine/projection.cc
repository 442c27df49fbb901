#include "engine/projection.h"

#include <algorithm>
#include <limits>

namespace keras_mtl {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

}  // namespace

std::vector<float> AllowedBias(const std::vector<uint8_t>& allowed) {
  std::vector<float> bias(RoundUp(static_cast<int>(allowed.size()), kPanel), kMinusInfinity);
  for (size_t i = 0; i < allowed.size(); ++i) {
    if (allowed[i]) bias[i] = 0.0f;
  }
  return bias;
}

void Project(const Context& context, const Dense& projection, const Rows& x,
             const RowRequest* requests, const ProjectionOptions& options,
             ProjectionResult* result) {
  const int count = x.count;
  const int vocabulary = projection.columns();
  const int padded = projection.panels() * kPanel;
  const int top = std::min(options.top, vocabulary);
  const int segments = RoundUp(projection.panels(), kSegmentPanels) / kSegmentPanels;
  const int threads = context.pool == nullptr ? 1 : context.pool->threads();
  Arena& arena = *context.arena;
  result->top = top;
  result->candidates.resize(static_cast<size_t>(count) * top);
  result->wanted.resize(count);
  result->log_sums.resize(count);
  result->log_probabilities.resize(options.all ? static_cast<size_t>(count) * vocabulary : 0);

  const float* bias = options.bias;
  if (bias == nullptr) {
    float* open = arena.Allocate<float>(padded);
    std::fill(open, open + vocabulary, 0.0f);
    std::fill(open + vocabulary, open + padded, kMinusInfinity);
    bias = open;
  }
  float* logits =
      options.all ? arena.Allocate<float>(static_cast<size_t>(count) * padded) : nullptr;
  SegmentSum* sums = arena.Allocate<SegmentSum>(static_cast<size_t>(segments) * count);
  LogitRow* rows = arena.Allocate<LogitRow>(static_cast<size_t>(threads) * count);
  Candidate* candidates =
      arena.Allocate<Candidate>(static_cast<size_t>(threads) * count * std::max(top, 1));
  for (int i = 0; i < threads * count; ++i) {
    const int r = i % count;
    rows[i].top = top;
    rows[i].wanted = requests[r].wanted;
    rows[i].candidates = candidates + static_cast<ptrdiff_t>(i) * top;
    rows[i].logits = logits == nullptr ? nullptr : logits + static_cast<ptrdiff_t>(r) * padded;
    rows[i].edits = requests[r].edits;
    ProjectBegin(&rows[i]);
  }
  ParallelFor(context.pool, segments, [&](int thread, int first, int last) {
    projection.Project(context, x, bias, first, last, rows + static_cast<ptrdiff_t>(thread) * count,
                       sums);
  });

  std::vector<Candidate> merged;
  for (int r = 0; r < count; ++r) {
    const float log_sum = context.kernels.log_sum_exp(sums + r, segments, count);
    result->log_sums[r] = log_sum;
    float wanted = kMinusInfinity;
    // Threads have ascending parts of the vocabulary: a stable merge keeps the order of ties.
    merged.clear();
    for (int t = 0; t < threads; ++t) {
      const LogitRow& row = rows[static_cast<ptrdiff_t>(t) * count + r];
      wanted = std::max(wanted, row.wanted_logit);
      merged.insert(merged.end(), row.candidates, row.candidates + row.count);
    }
    if (threads > 1) {
      std::stable_sort(merged.begin(), merged.end(),
                       [](const Candidate& a, const Candidate& b) { return a.logit > b.logit; });
    }
    result->wanted[r] = wanted - log_sum;
    TokenScore* out = result->candidates.data() + static_cast<ptrdiff_t>(r) * top;
    const int found = std::min(top, static_cast<int>(merged.size()));
    for (int i = 0; i < found; ++i) out[i] = {merged[i].token, merged[i].logit - log_sum};
    for (int i = found; i < top; ++i) out[i] = {-1, kMinusInfinity};
    if (!options.all) continue;
    const float* row = logits + static_cast<ptrdiff_t>(r) * padded;
    float* all = result->log_probabilities.data() + static_cast<ptrdiff_t>(r) * vocabulary;
    for (int i = 0; i < vocabulary; ++i) all[i] = row[i] - log_sum;
  }
}

}  // namespace keras_mtl
