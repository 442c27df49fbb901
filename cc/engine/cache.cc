#include "engine/cache.h"

#include <utility>

namespace keras_mtl {

AlignedBuffer<float> PagePool::Take() {
  if (free_.empty()) {
    ++pages_;
    return AlignedBuffer<float>(floats_);
  }
  AlignedBuffer<float> page = std::move(free_.back());
  free_.pop_back();
  return page;
}

SelfCache::SelfCache(PagePool* pool, int beams, int dim)
    : pool_(pool), beams_(beams), dim_(dim), paths_(beams), next_(beams) {}

SelfCache::~SelfCache() {
  for (AlignedBuffer<float>& page : pages_) pool_->Give(std::move(page));
}

void SelfCache::Advance(const int* beams, const int* parents, int count) {
  if (position_ % kPagePositions == 0) pages_.push_back(pool_->Take());
  for (int i = 0; i < count; ++i) {
    std::vector<uint16_t>& path = next_[beams[i]];
    path.clear();
    if (position_ > 0) {
      const std::vector<uint16_t>& parent = paths_[parents[i]];
      path.assign(parent.begin(), parent.end());
    }
    path.push_back(static_cast<uint16_t>(beams[i]));
  }
  paths_.swap(next_);
  ++position_;
}

void SelfCache::Path(int beam, const float** out) const {
  for (int t = 0; t < position_; ++t) {
    const float* page = pages_[t / kPagePositions].data();
    const int entry = t % kPagePositions * beams_ + paths_[beam][t];
    out[t] = page + static_cast<ptrdiff_t>(entry) * 2 * dim_;
  }
}

float* SelfCache::Entry(int beam) {
  const int t = position_ - 1;
  float* page = pages_[t / kPagePositions].data();
  return page + static_cast<ptrdiff_t>(t % kPagePositions * beams_ + beam) * 2 * dim_;
}

}  // namespace keras_mtl
