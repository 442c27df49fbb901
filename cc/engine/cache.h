// Keys and values: how they are stored, and which of them a hypothesis descends from.
//
// At each position every live beam of a sentence writes one entry, which is never moved. Beam
// search reorders beams; here that changes only what each beam descends from. Entries from which no
// beam descends any more are used again at once: beams have most of their past in common.
#ifndef KERAS_MTL_ENGINE_CACHE_H_
#define KERAS_MTL_ENGINE_CACHE_H_

#include <cstddef>
#include <vector>

#include "engine/dense.h"
#include "kernels/aligned_buffer.h"
#include "kernels/kernels.h"

namespace keras_mtl {

// How an entry holds the keys and values of one position and layer: as floats, or in int8 with a
// scale for each head's key and each head's value, as quantize_rows makes them.
class EntryLayout {
 public:
  EntryLayout(int heads, int head_dim, ComputeType type);

  int heads() const { return heads_; }
  int head_dim() const { return dim_; }
  ComputeType type() const { return type_; }
  size_t bytes() const { return bytes_; }  // A multiple of 64.

  // Writes row [2, heads, head_dim], keys and then values.
  void Store(const KernelTable& kernels, const float* row, char* entry) const;
  // Attention of `count` queries of one head over entries [length], all of them `offset` bytes on.
  void Attend(const KernelTable& kernels, const AttentionQuery* queries, int count,
              const char* const* entries, int length, ptrdiff_t offset, int head) const;

 private:
  int heads_;
  int dim_;
  ComputeType type_;
  int row_bytes_;  // of one head's key, or value
  size_t bytes_;
  float scale_;  // 1 / sqrt(head_dim)
};

// Entries of one position in all layers, reused. Layer l of the entry at address a is at
// a + l * layer_stride(). Not thread-safe.
class EntryPool {
 public:
  EntryPool(const EntryLayout& layout, int layers);

  const EntryLayout& layout() const { return layout_; }
  ptrdiff_t layer_stride() const;
  char* Take();
  void Give(char* entry) { free_.push_back(entry); }
  // Bytes of all entries, in use or free.
  size_t bytes() const;

 private:
  EntryLayout layout_;
  int layers_;
  std::vector<AlignedBuffer<char>> blocks_;  // each [layers, entries of a block, layout.bytes()]
  std::vector<char*> free_;
};

// The self-attention cache of one sentence.
class SelfCache {
 public:
  SelfCache(EntryPool* pool, int beams);
  ~SelfCache();
  SelfCache(const SelfCache&) = delete;
  SelfCache& operator=(const SelfCache&) = delete;

  // Positions written so far.
  int position() const { return position_; }
  // Whether a beam took part in the last step.
  bool live(int beam) const { return last_[beam] >= 0; }

  // Moves on to the next position, which `beams` [count] are about to write, each continuing from
  // parents[i] of the position before (ignored at position 0).
  void Advance(const int* beams, const int* parents, int count);
  // Writes the addresses of the entries that a beam descends from, oldest first, the last its own:
  // out [position()].
  void Path(int beam, const char** out) const;
  // Where the beam's own entry of the last position is written.
  char* Entry(int beam) { return nodes_[last_[beam]].entry; }

 private:
  struct Node {
    char* entry;
    int parent;  // -1 at position 0
    int users;   // nodes that it is the parent of, and the beam whose last one it is; 0: free
  };

  int NewNode(int parent);
  void Drop(int node);

  EntryPool* pool_;
  int position_ = 0;
  std::vector<Node> nodes_;
  std::vector<int> free_;  // of nodes_
  std::vector<int> last_;  // [beams]: the node of the last position; -1 for none
  std::vector<int> next_;
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_CACHE_H_
