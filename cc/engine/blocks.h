// Building blocks that the encoder and the decoder share.
#ifndef KERAS_MTL_ENGINE_BLOCKS_H_
#define KERAS_MTL_ENGINE_BLOCKS_H_

#include "engine/cache.h"
#include "engine/model.h"

namespace keras_mtl {

// A sub-layer f adds f(norm(x)) to x with pre-norm. With post-norm, x becomes norm(x + f(x)).

// Returns what a sub-layer reads, x [count, hidden_dim] or its norm, as input of its first linear
// layer, allocated in the arena.
Rows SublayerInput(const Context& context, const TransformerConfig& config, const NormWeights& norm,
                   const Dense& layer, const float* x, int count);

// Normalizes x [count, hidden_dim], the sum of a sub-layer and its input, with post-norm.
void FinishSublayer(const Context& context, const TransformerConfig& config,
                    const NormWeights& norm, float* x, int count);

// Applies a feed-forward block to x [count, hidden_dim].
void AddFeedForward(const Context& context, const FeedForwardWeights& weights,
                    const TransformerConfig& config, float* x, int count);

// x [*, hidden_dim] += what the bottlenecks compute from the rows that use them.
void AddAdapters(const Context& context, const LayerAdapters& adapters,
                 const TransformerConfig& config, float* x);

// x [*, hidden_dim] += the vectors of the rows that use them.
void AddVectors(const Context& context, const AdapterVectors& vectors, int dim, float* x);

// One query with all heads: the locations of its keys and values and of its results.
struct AttentionRow {
  const float* query;          // [hidden_dim], head by head
  const char* const* entries;  // [length], keys and values
  int length;
  float* out;      // [hidden_dim]
  float* weights;  // [length] receives the attention weights of `head`, or null
  int sentence;    // rows of one sentence share some or all keys and values
};

// Computes attention of `count` rows. Consecutive rows of one sentence are processed head by head,
// so that most keys and values come from the L1 cache; rows with equal `entries` share the work of
// reading them. Keys and values in `layout` start `offset` bytes after each entry's address.
// `head`: the head whose weights are stored; -1 stores the mean over heads.
void AttendRows(const Context& context, const EntryLayout& layout, const AttentionRow* rows,
                int count, ptrdiff_t offset, int head);

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_BLOCKS_H_
