// Memory of one step: given out by moving a pointer, taken back all at once.
#ifndef KERAS_MTL_ENGINE_ARENA_H_
#define KERAS_MTL_ENGINE_ARENA_H_

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

#include "kernels/aligned_buffer.h"

namespace keras_mtl {

// Once it has seen the largest step it allocates nothing any more, and holds little more than that
// step took. Not thread-safe.
class Arena {
  struct Position {
    size_t block = 0;
    size_t used = 0;  // of that block
    size_t live = 0;  // of all blocks
  };

 public:
  // `count` elements, 64-byte aligned, with whatever the memory held before. Valid until Reset(),
  // or until the end of the Scope in which it was asked for.
  template <class T>
  T* Allocate(size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    const size_t bytes = (std::max<size_t>(count, 1) * sizeof(T) + 63) / 64 * 64;
    while (at_.block < blocks_.size() && at_.used + bytes > blocks_[at_.block].size()) {
      ++at_.block;
      at_.used = 0;
    }
    if (at_.block == blocks_.size()) blocks_.emplace_back(std::max(bytes, kLeastBlock));
    T* result = reinterpret_cast<T*>(blocks_[at_.block].data() + at_.used);
    at_.used += bytes;
    at_.live += bytes;
    most_ = std::max(most_, at_.live);
    return result;
  }

  // Takes everything back. Several blocks become one that holds as much as was needed at most.
  void Reset() {
    at_ = {};
    if (blocks_.size() <= 1) return;
    blocks_.clear();
    blocks_.emplace_back(most_ + most_ / 8);  // A little more, for steps that grow.
  }

  // Takes back, at its end, what was allocated since its beginning.
  class Scope {
   public:
    explicit Scope(Arena* arena) : arena_(*arena), at_(arena->at_) {}
    ~Scope() { arena_.at_ = at_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    const Position at_;
  };

  // Bytes held from the system.
  size_t capacity() const {
    size_t bytes = 0;
    for (const AlignedBuffer<char>& block : blocks_) bytes += block.size();
    return bytes;
  }

 private:
  static constexpr size_t kLeastBlock = 1 << 18;

  std::vector<AlignedBuffer<char>> blocks_;
  Position at_;
  size_t most_ = 0;  // that was in use at once
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_ARENA_H_
