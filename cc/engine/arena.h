// An arena allocator for one step: allocating moves a pointer, and everything is freed at once.
#ifndef KERAS_MTL_ENGINE_ARENA_H_
#define KERAS_MTL_ENGINE_ARENA_H_

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

#include "kernels/aligned_buffer.h"

namespace keras_mtl {

// After the largest step, the arena makes no further system allocations and holds little more
// memory than that step needed. Not thread-safe.
class Arena {
  struct Position {
    size_t block = 0;
    size_t used = 0;  // bytes in use of that block
    size_t live = 0;  // bytes in use of all blocks
  };

 public:
  // Returns `count` uninitialized elements, 64-byte aligned. They are valid until Reset() or until
  // the end of the Scope in which they were allocated.
  template <class T>
  T* Allocate(size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    const size_t bytes = (std::max<size_t>(count, 1) * sizeof(T) + 63) / 64 * 64;
    while (position_.block < blocks_.size() &&
           position_.used + bytes > blocks_[position_.block].size()) {
      ++position_.block;
      position_.used = 0;
    }
    if (position_.block == blocks_.size()) blocks_.emplace_back(std::max(bytes, kMinBlockSize));
    T* result = reinterpret_cast<T*>(blocks_[position_.block].data() + position_.used);
    position_.used += bytes;
    position_.live += bytes;
    peak_ = std::max(peak_, position_.live);
    return result;
  }

  // Frees all allocations. If there are several blocks, replaces them by one of the peak size.
  void Reset() {
    position_ = {};
    if (blocks_.size() <= 1) return;
    blocks_.clear();
    blocks_.emplace_back(peak_ + peak_ / 8);  // Headroom for growing steps.
  }

  // Frees on destruction what was allocated since construction.
  class Scope {
   public:
    explicit Scope(Arena* arena) : arena_(*arena), position_(arena->position_) {}
    ~Scope() { arena_.position_ = position_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    const Position position_;
  };

  // Bytes allocated from the system.
  size_t capacity() const {
    size_t bytes = 0;
    for (const AlignedBuffer<char>& block : blocks_) bytes += block.size();
    return bytes;
  }

 private:
  static constexpr size_t kMinBlockSize = 1 << 18;

  std::vector<AlignedBuffer<char>> blocks_;
  Position position_;
  size_t peak_ = 0;  // most bytes in use at once
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_ARENA_H_
