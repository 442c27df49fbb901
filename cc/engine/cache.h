// Keys and values of the tokens that hypotheses have produced, written once and never moved.
//
// At each position every live beam of a sentence writes one entry. Beam search reorders beams; here
// that changes only each beam's path, the list of entries (one a position) that it descends from.
#ifndef KERAS_MTL_ENGINE_CACHE_H_
#define KERAS_MTL_ENGINE_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/aligned_buffer.h"

namespace keras_mtl {

// Positions of a page. A page of Transformer base with 4 beams is 0.4 MB: a sentence of 25 tokens
// wastes an eighth, and pages are seldom asked for.
constexpr int kPagePositions = 4;

// Pages of one size, reused. Not thread-safe.
class PagePool {
 public:
  explicit PagePool(size_t floats_per_page) : floats_(floats_per_page) {}

  AlignedBuffer<float> Take();
  void Give(AlignedBuffer<float> page) { free_.push_back(std::move(page)); }
  // Bytes of all pages, in use or free.
  size_t bytes() const { return pages_ * floats_ * sizeof(float); }

 private:
  size_t floats_;
  size_t pages_ = 0;
  std::vector<AlignedBuffer<float>> free_;
};

// The self-attention cache of one sentence. An entry holds `dim` keys and `dim` values of each
// layer. Layer l of the entry at address a is at a + l * layer_stride().
class SelfCache {
 public:
  SelfCache(PagePool* pool, int beams, int dim);
  ~SelfCache();
  SelfCache(const SelfCache&) = delete;
  SelfCache& operator=(const SelfCache&) = delete;

  static size_t FloatsPerPage(int layers, int beams, int dim) {
    return static_cast<size_t>(layers) * kPagePositions * beams * 2 * dim;
  }

  // Positions written so far.
  int position() const { return position_; }
  ptrdiff_t layer_stride() const {
    return static_cast<ptrdiff_t>(kPagePositions) * beams_ * 2 * dim_;
  }

  // Makes room for position(), which `beams` [count] are about to write, each going on from
  // parents[i] of the position before (ignored at position 0), and moves on to the next position.
  void Advance(const int* beams, const int* parents, int count);
  // Writes the addresses of the entries on a beam's path, oldest first, the last its own:
  // out [position()].
  void Path(int beam, const float** out) const;
  // Where the beam's own entry of the last position is written.
  float* Entry(int beam);

 private:
  PagePool* pool_;
  int beams_;
  int dim_;
  int position_ = 0;
  std::vector<AlignedBuffer<float>> pages_;   // each [layers, kPagePositions, beams, 2, dim]
  std::vector<std::vector<uint16_t>> paths_;  // [beams]: the entry's beam at each position
  std::vector<std::vector<uint16_t>> next_;
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_CACHE_H_
