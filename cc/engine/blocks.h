// Parts that encoder and decoder have in common.
#ifndef KERAS_MTL_ENGINE_BLOCKS_H_
#define KERAS_MTL_ENGINE_BLOCKS_H_

#include "engine/cache.h"
#include "engine/model.h"

namespace keras_mtl {

// The layer norm of x [count, hidden_dim] as input of a linear layer, in the arena.
Rows NormalizedRows(const Context& context, const LayerNormWeights& norm, float epsilon,
                    const float* x, int count, int dim);

// x [count, hidden_dim] += output(activation(intermediate(norm(x)))).
void AddFeedForward(const Context& context, const FeedForwardWeights& weights,
                    const TransformerConfig& config, float* x, int count);

// One query of all heads: where its keys and values are, and where they go.
struct AttentionRow {
  const float* query;          // [hidden_dim], head by head
  const char* const* entries;  // [length], of keys and values
  int length;
  float* out;      // [hidden_dim]
  float* weights;  // [length] receives the attention weights of `head`, or null
  int sentence;    // rows of the same one have some keys and values in common, or all
};

// Attention of `count` rows. Rows of one sentence that follow each other are done head by head, so
// that most keys and values come from the L1 cache; those with the same `entries` share the work of
// reading them. Entries of `layout` are `offset` bytes on.
// `head`: whose weights are stored; -1 stores the mean over heads.
void AttendRows(const Context& context, const EntryLayout& layout, const AttentionRow* rows,
                int count, ptrdiff_t offset, int head);

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_BLOCKS_H_
