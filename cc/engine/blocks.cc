#include "engine/blocks.h"

#include <algorithm>

namespace keras_mtl {
namespace {

// Maximum of rows whose attention is computed in one call.
constexpr int kMaxQueries = 4;
// Added to the variance in the layer normalization of a bottleneck, as in
// keras_mtl.layers.adapters.
constexpr float kAdapterEpsilon = 1e-6f;

// row.weights = share * scores, or += if `add`; no-op if row.weights is null.
void AddWeights(const float* scores, float share, bool add, const AttentionRow* row) {
  if (row->weights == nullptr) return;
  for (int t = 0; t < row->length; ++t) {
    row->weights[t] = (add ? row->weights[t] : 0.0f) + share * scores[t];
  }
}

// Returns the norm of x [count, dim] as input of a linear layer; `range`: see Dense::input_range.
Rows NormalizedRows(const Context& context, const NormWeights& norm, float epsilon, const float* x,
                    int count, int dim, float range) {
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
        x + first * dim, end - begin, dim, norm.gamma.data(), norm.beta.data(), epsilon, range,
        scratch + static_cast<ptrdiff_t>(thread) * dim, bytes + first * stride, scales + first);
  });
  rows.bytes = bytes;
  rows.scales = scales;
  return rows;
}

}  // namespace

Rows SublayerInput(const Context& context, const TransformerConfig& config, const NormWeights& norm,
                   const Dense& layer, const float* x, int count) {
  const int d = config.hidden_dim;
  const float range = layer.input_range();
  return config.post_norm
             ? MakeRows(context, x, count, d, range)
             : NormalizedRows(context, norm, config.layer_norm_epsilon, x, count, d, range);
}

void FinishSublayer(const Context& context, const TransformerConfig& config,
                    const NormWeights& norm, float* x, int count) {
  if (!config.post_norm) return;
  const int d = config.hidden_dim;
  ParallelFor(context.pool, count, kRowGrain, [&](int, int begin, int end) {
    float* rows = x + static_cast<ptrdiff_t>(begin) * d;
    context.kernels.layer_norm(rows, end - begin, d, norm.gamma.data(), norm.beta.data(),
                               config.layer_norm_epsilon, rows);
  });
}

void AddFeedForward(const Context& context, const FeedForwardWeights& weights,
                    const TransformerConfig& config, float* x, int count) {
  const Rows input = SublayerInput(context, config, weights.norm, weights.intermediate, x, count);
  float* hidden =
      context.arena->Allocate<float>(static_cast<size_t>(count) * config.intermediate_dim);
  if (config.gated) {
    weights.intermediate.Apply(context, input, hidden);
    weights.gate.Apply(context, input, hidden, config.activation, Combine::kMultiply);
  } else {
    weights.intermediate.Apply(context, input, hidden, config.activation);
  }
  const Rows inner =
      MakeRows(context, hidden, count, config.intermediate_dim, weights.output.input_range());
  weights.output.Apply(context, inner, x, Activation::kNone, Combine::kAdd);
  FinishSublayer(context, config, weights.norm, x, count);
}

void AddAdapters(const Context& context, const LayerAdapters& adapters,
                 const TransformerConfig& config, float* x) {
  if (context.adapters == nullptr) return;
  const int d = config.hidden_dim;
  for (size_t set = 0; set < adapters.size(); ++set) {
    if (adapters[set].empty()) continue;
    for (const AdapterGroup& group : context.adapters->groups(static_cast<int>(set))) {
      const Arena::Scope scope(context.arena);
      const BottleneckWeights& weights = adapters[set][group.adapter];
      const int n = group.count(), inner = weights.down.columns();
      float* first = x + static_cast<ptrdiff_t>(group.first()) * d;
      const float* rows = group.adjacent() ? first : GatherRows(context, x, d, group.rows);
      const Rows normal = NormalizedRows(context, weights.norm, kAdapterEpsilon, rows, n, d, 0);
      float* hidden = context.arena->Allocate<float>(static_cast<size_t>(n) * inner);
      weights.down.Apply(context, normal, hidden, Activation::kRelu);
      const Rows narrow = MakeRows(context, hidden, n, inner);
      if (group.adjacent()) {
        weights.up.Apply(context, narrow, first, Activation::kNone, Combine::kAdd);
        continue;
      }
      float* y = context.arena->Allocate<float>(static_cast<size_t>(n) * d);
      weights.up.Apply(context, narrow, y);
      AddToRows(y, d, group.rows, x);
    }
  }
}

void AddVectors(const Context& context, const AdapterVectors& vectors, int dim, float* x) {
  if (context.adapters == nullptr) return;
  for (size_t set = 0; set < vectors.size(); ++set) {
    if (vectors[set].empty()) continue;
    for (const AdapterGroup& group : context.adapters->groups(static_cast<int>(set))) {
      const float* vector = vectors[set][group.adapter].data();
      for (const int row : group.rows) {
        for (int k = 0; k < dim; ++k) x[static_cast<ptrdiff_t>(row) * dim + k] += vector[k];
      }
    }
  }
}

void AttendRows(const Context& context, const EntryLayout& layout, const AttentionRow* rows,
                int count, ptrdiff_t offset, int head) {
  const int heads = layout.heads(), dim = layout.head_dim();
  int longest = 1;
  for (int i = 0; i < count; ++i) longest = std::max(longest, rows[i].length);
  const int stride = RoundUp(longest, 16);
  const Arena::Scope scope(context.arena);
  float* all_scores =
      context.arena->Allocate<float>(static_cast<size_t>(context.threads()) * kMaxQueries * stride);
  ParallelFor(context.pool, count, 1, [&](int thread, int begin, int end) {
    float* scores = all_scores + static_cast<ptrdiff_t>(thread) * kMaxQueries * stride;
    for (int first = begin; first < end;) {
      int last = first + 1;
      while (last < end && rows[last].sentence == rows[first].sentence) ++last;
      for (int h = 0; h < heads; ++h) {
        for (int i = first; i < last;) {
          AttentionQuery queries[kMaxQueries];
          int n = 0;
          for (; n < kMaxQueries && i + n < last && rows[i + n].entries == rows[i].entries; ++n) {
            const AttentionRow& row = rows[i + n];
            queries[n] = {row.query + h * dim, scores + n * stride, row.out + h * dim};
          }
          layout.Attend(context.kernels, queries, n, rows[i].entries, rows[i].length, offset, h);
          if (head < 0 || h == head) {
            const float share = head < 0 ? 1.0f / static_cast<float>(heads) : 1.0f;
            for (int q = 0; q < n; ++q) {
              AddWeights(queries[q].scores, share, head < 0 && h > 0, &rows[i + q]);
            }
          }
          i += n;
        }
      }
      first = last;
    }
  });
}

}  // namespace keras_mtl
