#include "engine/cache.h"

#include <algorithm>
#include <cmath>

namespace keras_mtl {
namespace {

// Entries per block. A block of Transformer base has 0.4 MB in int8: little memory is held unused,
// and allocations are rare.
constexpr int kBlockEntries = 64;

}  // namespace

EntryLayout::EntryLayout(int heads, int head_dim, ComputeType type)
    : heads_(heads),
      dim_(head_dim),
      type_(type),
      row_bytes_(type == ComputeType::kInt8 ? RoundUp(head_dim, kDepthAlign)
                                            : head_dim * static_cast<int>(sizeof(float))),
      scale_(1.0f / std::sqrt(static_cast<float>(head_dim))) {
  const int scales = type == ComputeType::kInt8 ? static_cast<int>(sizeof(float)) : 0;
  bytes_ = RoundUp(2 * heads * (row_bytes_ + scales), 64);
}

void EntryLayout::Store(const KernelTable& kernels, const float* row, char* entry) const {
  if (type_ == ComputeType::kFloat32) {
    std::copy(row, row + 2 * heads_ * dim_, reinterpret_cast<float*>(entry));
    return;
  }
  kernels.quantize_rows(row, 2 * heads_, dim_, dim_, reinterpret_cast<int8_t*>(entry),
                        reinterpret_cast<float*>(entry + 2 * heads_ * row_bytes_));
}

void EntryLayout::Attend(const KernelTable& kernels, const AttentionQuery* queries, int count,
                         const char* const* entries, int length, ptrdiff_t offset, int head) const {
  constexpr ptrdiff_t kScale = sizeof(float);
  KeyValues cache;
  cache.entries = entries;
  cache.length = length;
  cache.key = offset + static_cast<ptrdiff_t>(head) * row_bytes_;
  cache.value = cache.key + static_cast<ptrdiff_t>(heads_) * row_bytes_;
  cache.key_scale = offset + static_cast<ptrdiff_t>(2) * heads_ * row_bytes_ + head * kScale;
  cache.value_scale = cache.key_scale + heads_ * kScale;
  const auto attend = type_ == ComputeType::kInt8 ? kernels.attend_int8 : kernels.attend_float;
  attend(queries, count, cache, dim_, scale_);
}

EntryPool::EntryPool(const EntryLayout& layout, int layers) : layout_(layout), layers_(layers) {}

ptrdiff_t EntryPool::layer_stride() const {
  return static_cast<ptrdiff_t>(kBlockEntries * layout_.bytes());
}

char* EntryPool::Take() {
  if (free_.empty()) {
    blocks_.emplace_back(layers_ * kBlockEntries * layout_.bytes());
    for (int i = kBlockEntries - 1; i >= 0; --i) {
      free_.push_back(blocks_.back().data() + i * layout_.bytes());
    }
  }
  char* entry = free_.back();
  free_.pop_back();
  return entry;
}

size_t EntryPool::bytes() const {
  return blocks_.size() * layers_ * kBlockEntries * layout_.bytes();
}

SelfCache::SelfCache(EntryPool* pool, int beams) : pool_(pool), last_(beams, -1) {}

SelfCache::~SelfCache() {
  for (const Node& node : nodes_) {
    if (node.users > 0) pool_->Give(node.entry);
  }
}

int SelfCache::NewNode(int parent) {
  if (parent >= 0) ++nodes_[parent].users;
  if (free_.empty()) {
    nodes_.push_back({nullptr, parent, 1});
    return static_cast<int>(nodes_.size()) - 1;
  }
  const int node = free_.back();
  free_.pop_back();
  nodes_[node] = {nullptr, parent, 1};
  return node;
}

void SelfCache::Drop(int node) {
  while (node >= 0 && --nodes_[node].users == 0) {
    pool_->Give(nodes_[node].entry);
    free_.push_back(node);
    node = nodes_[node].parent;
  }
}

void SelfCache::Advance(const int* beams, const int* parents, int count) {
  next_.assign(last_.size(), -1);
  for (int i = 0; i < count; ++i) {
    next_[beams[i]] = NewNode(position_ == 0 ? -1 : last_[parents[i]]);
  }
  for (const int node : last_) Drop(node);
  last_.swap(next_);
  for (int i = 0; i < count; ++i) nodes_[last_[beams[i]]].entry = pool_->Take();
  ++position_;
}

void SelfCache::Path(int beam, const char** out) const {
  int node = last_[beam];
  for (int t = position_ - 1; t >= 0; --t) {
    out[t] = nodes_[node].entry;
    node = nodes_[node].parent;
  }
}

}  // namespace keras_mtl
