#include "engine/blocks.h"

#include <algorithm>
#include <cmath>

namespace keras_mtl {

Rows NormalizedRows(const Context& context, const LayerNormWeights& norm, float epsilon,
                    const float* x, int count, int dim) {
  Rows rows;
  rows.count = count;
  rows.depth = dim;
  const KernelTable& kernels = context.kernels;
  if (context.compute == ComputeType::kFloat32) {
    float* y = context.arena->Allocate<float>(static_cast<size_t>(count) * dim);
    kernels.layer_norm(x, count, dim, norm.gamma.data(), norm.beta.data(), epsilon, y);
    rows.floats = y;
    return rows;
  }
  const int stride = RoundUp(dim, kDepthAlign);
  int8_t* bytes = context.arena->Allocate<int8_t>(static_cast<size_t>(count) * stride);
  float* scales = context.arena->Allocate<float>(count);
  float* scratch = context.arena->Allocate<float>(dim);
  kernels.layer_norm_quantize(x, count, dim, norm.gamma.data(), norm.beta.data(), epsilon, scratch,
                              bytes, scales);
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

void AttendRows(const Context& context, const TransformerConfig& config, const AttentionRow* rows,
                int count, ptrdiff_t offset, int head) {
  const int heads = config.num_heads, dim = config.hidden_dim / config.num_heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  int longest = 1;
  for (int i = 0; i < count; ++i) longest = std::max(longest, rows[i].length);
  const int stride = RoundUp(longest, 16);
  const int threads = context.pool == nullptr ? 1 : context.pool->threads();
  float* all_scores = context.arena->Allocate<float>(static_cast<size_t>(threads) * stride);
  ParallelFor(context.pool, count, [&](int thread, int begin, int end) {
    float* scores = all_scores + static_cast<ptrdiff_t>(thread) * stride;
    for (int first = begin; first < end;) {
      int last = first + 1;
      while (last < end && rows[last].sentence == rows[first].sentence) ++last;
      for (int h = 0; h < heads; ++h) {
        const ptrdiff_t at = offset + static_cast<ptrdiff_t>(h) * dim;
        for (int i = first; i < last; ++i) {
          const AttentionRow& row = rows[i];
          context.kernels.attend(row.query + h * dim, row.keys, at, at + config.hidden_dim,
                                 row.length, dim, scale, scores, row.out + h * dim);
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
