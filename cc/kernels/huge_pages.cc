#include "kernels/huge_pages.h"

#include <algorithm>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace keras_mtl {

void* HugePages::Allocate(size_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  if (bytes > left_) {
    const size_t size = std::max(kMinBlockSize, (bytes + kPage - 1) / kPage * kPage);
    blocks_.emplace_back(static_cast<char*>(::operator new(size, std::align_val_t{kPage})));
    next_ = blocks_.back().get();
    left_ = size;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    (void)madvise(next_, size, MADV_HUGEPAGE);
#endif
  }
  char* result = next_;
  next_ += bytes;
  left_ -= bytes;
  return result;
}

}  // namespace keras_mtl
