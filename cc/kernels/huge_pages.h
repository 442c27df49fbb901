// Memory for weights.
#ifndef KERAS_MTL_KERNELS_HUGE_PAGES_H_
#define KERAS_MTL_KERNELS_HUGE_PAGES_H_

#include <cstddef>
#include <memory>
#include <new>
#include <vector>

namespace keras_mtl {

// Gives out pieces of large blocks, which Linux is asked to hold in pages of 2 MiB: a decoding step
// reads all weights, and with pages of 4 KiB the processor looks up thousands of addresses on the
// way. Where the system has no such pages, or refuses, all is the same but slower. Not thread-safe.
class HugePages {
 public:
  // `bytes` aligned to 64, with anything in them, valid as long as this object. Throws
  // std::bad_alloc.
  void* Take(size_t bytes);

 private:
  static constexpr size_t kPage = size_t{2} << 20;
  // What is not used of a block costs addresses and no memory.
  static constexpr size_t kLeastBlock = 16 * kPage;

  struct Delete {
    void operator()(char* p) const { ::operator delete(p, std::align_val_t{kPage}); }
  };

  std::vector<std::unique_ptr<char, Delete>> blocks_;
  size_t left_ = 0;  // of the last block
  char* next_ = nullptr;
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_HUGE_PAGES_H_
