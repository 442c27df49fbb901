#include "engine/blocks.h"

#include <algorithm>

namespace keras_mtl {

Rows NormalizedRows(const Context& context, const LayerNormWeights& norm, float epsilon,
                    const float* x, int count, int dim) {
  Rows rows;
  rows.count = count;
  rows.depth = dim;
  const KernelTable& kernels = context.kernels;
  if (context.compute == ComputeType::kFloat32) {
    float* y = context.arena->Allocate<float>(static_cast<size_t>(count) * dim);
    ParallelFor(context.pool, count, kRowGrain, [&](int, int begin, int end) {
      const ptrdiff_t at = static_cast<ptrdiff_t>(begin) * dim;
      kernels.layer_norm(x + at, end - begin, dim, norm.gamma.data(), norm.beta.data(), epsilon,
                         y + at);
    });
    rows.floats = y;
    return rows;
  }
  const int stride = RoundUp(dim, kDepthAlign);
  int8_t* bytes = context.arena->Allocate<int8_t>(static_cast<size_t>(count) * stride);
  float* scales = context.arena->Allocate<float>(count);
  float* scratch = context.arena->Allocate<float>(static_cast<size_t>(context.threads()) * dim);
  ParallelFor(context.pool, count, kRowGrain, [&](int thread, int begin, int end) {
    const ptrdiff_t first = begin;
    kernels.layer_norm_quantize(
        x + first * dim, end - begin, dim, norm.gamma.data(), norm.beta.data(), epsilon,
        scratch + static_cast<ptrdiff_t>(thread) * dim, bytes + first * stride, scales + first);
  });
  rows.bytes = bytes;
  rows.scales = scales;
  return rows;
}

void AddFeedForward(const Context& context, const FeedForwardWeights& weights,
                    const TransformerConfig& config, float* x, int count) {
  const Rows normal =
      NormalizedRows(context, weights.norm, config.layer_norm_epsilon, x, count, config.hidden_dim);
  float* hidden =
      context.arena->Allocate<float>(static_cast<size_t>(count) * config.intermediate_dim);
  weights.intermediate.Apply(context, normal, hidden, config.activation);
  weights.output.Apply(context, MakeRows(context, hidden, count, config.intermediate_dim), x,
                       Activation::kNone, /*accumulate=*/true);
}

void AttendRows(const Context& context, const EntryLayout& layout, const AttentionRow* rows,
                int count, ptrdiff_t offset, int head) {
  const int heads = layout.heads(), dim = layout.head_dim();
  int longest = 1;
  for (int i = 0; i < count; ++i) longest = std::max(longest, rows[i].length);
  const int stride = RoundUp(longest, 16);
  const Arena::Scope scope(context.arena);
  float* all_scores =
      context.arena->Allocate<float>(static_cast<size_t>(context.threads()) * stride);
  ParallelFor(context.pool, count, 1, [&](int thread, int begin, int end) {
    float* scores = all_scores + static_cast<ptrdiff_t>(thread) * stride;
    for (int first = begin; first < end;) {
      int last = first + 1;
      while (last < end && rows[last].sentence == rows[first].sentence) ++last;
      for (int h = 0; h < heads; ++h) {
        for (int i = first; i < last; ++i) {
          const AttentionRow& row = rows[i];
          layout.Attend(context.kernels, row.query + h * dim, row.entries, row.length, offset, h,
                        scores, row.out + h * dim);
          if (row.weights == nullptr) continue;
          if (h == head) {
            std::copy(scores, scores + row.length, row.weights);
          } else if (head < 0) {
            const float share = 1.0f / static_cast<float>(heads);
            for (int t = 0; t < row.length; ++t) {
              row.weights[t] = (h == 0 ? 0.0f : row.weights[t]) + share * scores[t];
            }
          }
        }
      }
      first = last;
    }
  });
}

}  // namespace keras_mtl
