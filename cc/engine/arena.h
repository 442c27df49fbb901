// Memory of one step: given out by moving a pointer, taken back all at once.
#ifndef KERAS_MTL_ENGINE_ARENA_H_
#define KERAS_MTL_ENGINE_ARENA_H_

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

#include "kernels/aligned_buffer.h"

namespace keras_mtl {

// Once it has seen the largest step it allocates nothing any more. Not thread-safe.
class Arena {
 public:
  // `count` elements, 64-byte aligned, with whatever the memory held before. Valid until Reset().
  template <class T>
  T* Allocate(size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    const size_t bytes = (std::max<size_t>(count, 1) * sizeof(T) + 63) / 64 * 64;
    if (blocks_.empty() || used_ + bytes > blocks_.back().size()) {
      // At least as much again as there is, so that a growing step needs few blocks.
      blocks_.emplace_back(std::max(bytes, total_));
      total_ += blocks_.back().size();
      used_ = 0;
    }
    T* result = reinterpret_cast<T*>(blocks_.back().data() + used_);
    used_ += bytes;
    return result;
  }

  // Takes everything back. Several blocks become one that holds as much.
  void Reset() {
    used_ = 0;
    if (blocks_.size() <= 1) return;
    blocks_.clear();
    blocks_.emplace_back(total_);
  }

  // Bytes held from the system.
  size_t capacity() const { return total_; }

 private:
  std::vector<AlignedBuffer<char>> blocks_;
  size_t used_ = 0;   // of the last block
  size_t total_ = 0;  // of all blocks
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_ARENA_H_
