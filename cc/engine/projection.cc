#include "engine/projection.h"

#include <algorithm>
#include <limits>

namespace keras_mtl {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Projects rows that have the same allowed tokens.
struct Part {
  const Context& context;
  const Dense& projection;
  const int32_t* tokens;  // token of each column; null: column i is token i
  const float* bias;      // null allows all
  const RowRequest* requests;
  const ProjectionOptions& options;
  int vocabulary;
  int first;
  ProjectionResult* result;

  // Row i of x belongs to request index[i].
  void Run(const Rows& x, const int* index) const;

 private:
  int32_t Column(int32_t token) const;
  LogitEdits Columns(const LogitEdits& edits) const;
  void Finish(const LogitRow* rows, int threads, int count, int row, size_t at) const;
};

// Returns the column of a token, or -1.
int32_t Part::Column(int32_t token) const {
  if (tokens == nullptr || token < 0) return token;
  const int32_t* end = tokens + projection.columns();
  const int32_t* place = std::lower_bound(tokens, end, token);
  return place != end && *place == token ? static_cast<int32_t>(place - tokens) : -1;
}

LogitEdits Part::Columns(const LogitEdits& edits) const {
  if (tokens == nullptr || edits.count == 0) return edits;
  int32_t* columns = context.arena->Allocate<int32_t>(edits.count);
  float* penalties = context.arena->Allocate<float>(edits.count);
  LogitEdits result{columns, penalties, 0};
  for (int e = 0; e < edits.count; ++e) {
    const int32_t column = Column(edits.tokens[e]);
    if (column < 0) continue;
    columns[result.count] = column;
    penalties[result.count++] = edits.penalties[e];
  }
  return result;
}

void Part::Run(const Rows& x, const int* index) const {
  const int count = x.count;
  const int columns = projection.columns();
  const int padded = projection.panels() * kPanel;
  const int top = result->top;
  const int segments = RoundUp(projection.panels(), kSegmentPanels) / kSegmentPanels;
  const int threads = context.threads();
  Arena& arena = *context.arena;
  const float* added = bias;
  if (added == nullptr) {
    float* zeros = arena.Allocate<float>(padded);
    std::fill(zeros, zeros + columns, 0.0f);
    std::fill(zeros + columns, zeros + padded, kMinusInfinity);
    added = zeros;
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
    rows[i].wanted = Column(request.wanted);
    rows[i].candidates = candidates + static_cast<ptrdiff_t>(i) * top;
    rows[i].logits =
        logits == nullptr ? nullptr : logits + static_cast<ptrdiff_t>(i % count) * padded;
    rows[i].edits = i < count ? Columns(request.edits) : rows[i % count].edits;
    ProjectBegin(&rows[i]);
  }
  ParallelFor(context.pool, segments, 1, [&](int thread, int begin, int end) {
    projection.Project(context, x, added, begin, end, rows + static_cast<ptrdiff_t>(thread) * count,
                       sums);
  });
  for (int r = 0; r < count; ++r) {
    const size_t at = static_cast<size_t>(first) + index[r];
    result->log_sums[at] = context.kernels.log_sum_exp(sums + r, segments, count);
    Finish(rows, threads, count, r, at);
    if (!options.all) continue;
    const float* row = logits + static_cast<ptrdiff_t>(r) * padded;
    float* all = result->all_logits.data() + at * vocabulary;
    if (tokens == nullptr) {
      std::copy(row, row + vocabulary, all);
    } else {
      std::fill(all, all + vocabulary, kMinusInfinity);
      for (int i = 0; i < columns; ++i) all[tokens[i]] = row[i];
    }
  }
}

// Merges the results of the threads for a row.
void Part::Finish(const LogitRow* rows, int threads, int count, int row, size_t at) const {
  const int top = result->top;
  float wanted = kMinusInfinity;
  std::vector<Candidate> merged;
  for (int t = 0; t < threads; ++t) {
    const LogitRow& part = rows[static_cast<ptrdiff_t>(t) * count + row];
    wanted = std::max(wanted, part.wanted_logit);
    merged.insert(merged.end(), part.candidates, part.candidates + part.count);
  }
  if (threads > 1) {
    std::sort(merged.begin(), merged.end(), [](const Candidate& a, const Candidate& b) {
      return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
    });
  }
  result->wanted[at] = wanted;
  for (int i = 0; i < top; ++i) {
    const bool found = i < static_cast<int>(merged.size());
    const int32_t column = found ? merged[i].token : -1;
    result->tokens[at * top + i] = found && tokens != nullptr ? tokens[column] : column;
    result->logits[at * top + i] = found ? merged[i].logit : kMinusInfinity;
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

void Project(const Context& context, const Dense& projection, int decoder, const Rows& x,
             const RowRequest* requests, const ProjectionOptions& options, int first,
             ProjectionResult* result) {
  const bool restricted = options.bias != nullptr || options.shortlist != nullptr;
  const int vocabulary = projection.columns();
  const Part whole{context, projection, nullptr, nullptr, requests,
                   options, vocabulary, first,   result};
  const Shortlist* shortlist = options.shortlist;
  const Part part{context,
                  shortlist == nullptr ? projection : shortlist->projection(decoder),
                  shortlist == nullptr ? nullptr : shortlist->tokens.data(),
                  options.bias,
                  requests,
                  options,
                  vocabulary,
                  first,
                  result};
  int* order = context.arena->Allocate<int>(x.count);
  int unrestricted = 0;
  for (int r = 0; r < x.count; ++r) {
    if (!restricted || requests[r].allow_all) order[unrestricted++] = r;
  }
  int next = unrestricted;
  for (int r = 0; r < x.count; ++r) {
    if (restricted && !requests[r].allow_all) order[next++] = r;
  }
  if (unrestricted == x.count) return whole.Run(x, order);
  if (unrestricted == 0) return part.Run(x, order);
  const Rows sorted = x.Gather(order, x.count, context.arena);
  whole.Run(sorted.Slice(0, unrestricted), order);
  part.Run(sorted.Slice(unrestricted, x.count - unrestricted), order + unrestricted);
}

}  // namespace keras_mtl
