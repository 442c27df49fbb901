// Memory for weights in huge pages.
#ifndef KERAS_MTL_KERNELS_HUGE_PAGES_H_
#define KERAS_MTL_KERNELS_HUGE_PAGES_H_

#include <cstddef>
#include <memory>
#include <new>
#include <vector>

namespace keras_mtl {

// Allocates from large blocks for which Linux is asked to use pages of 2 MiB. A decoding step reads
// all weights; with pages of 4 KiB, that requires thousands of address translations. If the system
// does not provide huge pages, everything works but is slower. Not thread-safe.
class HugePages {
 public:
  // Returns `bytes` uninitialized bytes, aligned to 64 and valid as long as this object exists.
  // Throws std::bad_alloc.
  void* Allocate(size_t bytes);

 private:
  static constexpr size_t kPage = size_t{2} << 20;
  // The unused part of a block costs address space but no memory.
  static constexpr size_t kMinBlockSize = 16 * kPage;

  struct Delete {
    void operator()(char* p) const { ::operator delete(p, std::align_val_t{kPage}); }
  };

  std::vector<std::unique_ptr<char, Delete>> blocks_;
  size_t left_ = 0;  // bytes left in the last block
  char* next_ = nullptr;
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_HUGE_PAGES_H_
