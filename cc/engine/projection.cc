#include "engine/projection.h"

#include <algorithm>
#include <limits>

namespace keras_mtl {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Rows of one projection that share a bias.
struct Part {
  const Context& context;
  const Dense& projection;
  const RowRequest* requests;
  const ProjectionOptions& options;
  int first;
  ProjectionResult* result;

  // Row i of x is row index[i] of the requests. A null bias allows every token.
  void Run(const Rows& x, const int* index, const float* bias) const;
};

void Part::Run(const Rows& x, const int* index, const float* bias) const {
  const int count = x.count;
  const int vocabulary = projection.columns();
  const int padded = projection.panels() * kPanel;
  const int top = result->top;
  const int segments = RoundUp(projection.panels(), kSegmentPanels) / kSegmentPanels;
  const int threads = context.pool == nullptr ? 1 : context.pool->threads();
  Arena& arena = *context.arena;
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
    const RowRequest& request = requests[index[i % count]];
    rows[i].top = top;
    rows[i].wanted = request.wanted;
    rows[i].candidates = candidates + static_cast<ptrdiff_t>(i) * top;
    rows[i].logits =
        logits == nullptr ? nullptr : logits + static_cast<ptrdiff_t>(i % count) * padded;
    rows[i].edits = request.edits;
    ProjectBegin(&rows[i]);
  }
  ParallelFor(context.pool, segments, [&](int thread, int begin, int end) {
    projection.Project(context, x, bias, begin, end, rows + static_cast<ptrdiff_t>(thread) * count,
                       sums);
  });

  std::vector<Candidate> merged;
  for (int r = 0; r < count; ++r) {
    const size_t at = static_cast<size_t>(first) + index[r];
    result->log_sums[at] = context.kernels.log_sum_exp(sums + r, segments, count);
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
    result->wanted[at] = wanted;
    for (int i = 0; i < top; ++i) {
      const bool found = i < static_cast<int>(merged.size());
      result->tokens[at * top + i] = found ? merged[i].token : -1;
      result->logits[at * top + i] = found ? merged[i].logit : kMinusInfinity;
    }
    if (!options.all) continue;
    const float* row = logits + static_cast<ptrdiff_t>(r) * padded;
    std::copy(row, row + vocabulary, result->all_logits.data() + at * vocabulary);
  }
}

}  // namespace

std::vector<float> AllowedBias(const std::vector<uint8_t>& allowed) {
  std::vector<float> bias(RoundUp(static_cast<int>(allowed.size()), kPanel), kMinusInfinity);
  for (size_t i = 0; i < allowed.size(); ++i) {
    if (allowed[i]) bias[i] = 0.0f;
  }
  return bias;
}

void ProjectionResult::Resize(int rows, int vocabulary, const ProjectionOptions& options) {
  top = std::min(options.top, vocabulary);
  tokens.resize(static_cast<size_t>(rows) * top);
  logits.resize(static_cast<size_t>(rows) * top);
  wanted.resize(rows);
  log_sums.resize(rows);
  all_logits.resize(options.all ? static_cast<size_t>(rows) * vocabulary : 0);
}

void Project(const Context& context, const Dense& projection, const Rows& x,
             const RowRequest* requests, const ProjectionOptions& options, int first,
             ProjectionResult* result) {
  Arena& arena = *context.arena;
  int* order = arena.Allocate<int>(x.count);
  int* end = order;
  if (options.bias != nullptr) {
    for (int r = 0; r < x.count; ++r) {
      if (requests[r].open) *end++ = r;
    }
  }
  const int open = static_cast<int>(end - order);
  for (int r = 0; r < x.count; ++r) {
    if (options.bias == nullptr || !requests[r].open) *end++ = r;
  }
  const Part part{context, projection, requests, options, first, result};
  if (open == 0 || open == x.count) {
    part.Run(x, order, open == 0 ? options.bias : nullptr);
    return;
  }
  const Rows sorted = x.Gather(order, x.count, &arena);
  part.Run(sorted.Slice(0, open), order, nullptr);
  part.Run(sorted.Slice(open, x.count - open), order + open, options.bias);
}

}  // namespace keras_mtl
