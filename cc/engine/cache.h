// The key and value cache: its storage layout and the ancestry of hypotheses.
//
// At each position, every live beam of a sentence writes one entry, which is never moved. When beam
// search reorders beams, only their links to parent entries change. An entry without descendants is
// reused immediately. Little memory is needed because beams share most of their history.
#ifndef KERAS_MTL_ENGINE_CACHE_H_
#define KERAS_MTL_ENGINE_CACHE_H_

#include <cstddef>
#include <vector>

#include "engine/dense.h"
#include "kernels/aligned_buffer.h"
#include "kernels/kernels.h"

namespace keras_mtl {

// The layout of an entry, which holds the keys and values of one position and layer: floats, or
// int8 with a scale per head for the key and for the value, as written by quantize_rows.
class EntryLayout {
 public:
  EntryLayout(int heads, int head_dim, ComputeType type);

  int heads() const { return heads_; }
  int head_dim() const { return dim_; }
  ComputeType type() const { return type_; }
  size_t bytes() const { return bytes_; }  // a multiple of 64

  // Writes row [2, heads, head_dim]: keys, then values.
  void Store(const KernelTable& kernels, const float* row, char* entry) const;
  // Attention of `count` queries of one head over entries [length], each plus `offset` bytes.
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

// A pool of entries, each for one position in all layers. Layer l of the entry at address a is at
// a + l * layer_stride(). Not thread-safe.
class EntryPool {
 public:
  EntryPool(const EntryLayout& layout, int layers);

  const EntryLayout& layout() const { return layout_; }
  ptrdiff_t layer_stride() const;
  char* Take();
  void Give(char* entry) { free_.push_back(entry); }
  // Bytes of all entries, used and free.
  size_t bytes() const;

 private:
  EntryLayout layout_;
  int layers_;
  std::vector<AlignedBuffer<char>> blocks_;  // each [layers, entries per block, layout.bytes()]
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
  // Whether a beam was part of the last step.
  bool live(int beam) const { return last_[beam] >= 0; }

  // Advances to the next position. beams [count] will write it; beams[i] continues from beam
  // parents[i] of the previous position (ignored at position 0).
  void Advance(const int* beams, const int* parents, int count);
  // Writes the addresses of a beam's entries, oldest first and its own last: out [position()].
  void Path(int beam, const char** out) const;
  // The address of the beam's own entry at the last position.
  char* Entry(int beam) { return nodes_[last_[beam]].entry; }

 private:
  struct Node {
    char* entry;
    int parent;  // -1 at position 0
    int users;   // number of children, plus 1 if it is the last node of a beam; 0: free
  };

  int NewNode(int parent);
  void Drop(int node);

  EntryPool* pool_;
  int position_ = 0;
  std::vector<Node> nodes_;
  std::vector<int> free_;  // indices of free nodes
  std::vector<int> last_;  // [beams], node at the last position; -1 for none
  std::vector<int> next_;
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_CACHE_H_
