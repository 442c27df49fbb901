// Aligned memory for kernels.
#ifndef KERAS_MTL_KERNELS_ALIGNED_BUFFER_H_
#define KERAS_MTL_KERNELS_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

#include "kernels/huge_pages.h"

namespace keras_mtl {

// An array of `size` zero-initialized elements of a trivially copyable type, aligned to a cache
// line (64 bytes). Movable. If `pages` is given, it owns the memory and must outlive the buffer.
// Throws std::bad_alloc.
template <class T>
class AlignedBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  static constexpr std::align_val_t kAlignment{64};

  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t size, HugePages* pages = nullptr)
      : data_(static_cast<T*>(pages != nullptr ? pages->Allocate(size * sizeof(T))
                                               : ::operator new(size * sizeof(T), kAlignment)),
              Delete{pages == nullptr}),
        size_(size) {
    std::memset(static_cast<void*>(data_.get()), 0, size * sizeof(T));
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return data_.get()[i]; }
  const T& operator[](size_t i) const { return data_.get()[i]; }

 private:
  struct Delete {
    bool own = true;
    void operator()(T* p) const {
      if (own) ::operator delete(p, kAlignment);
    }
  };

  std::unique_ptr<T, Delete> data_;
  size_t size_ = 0;
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_ALIGNED_BUFFER_H_
