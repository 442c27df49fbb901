// Adapters: weights that only some rows of a batch use. Rows are grouped by adapter, so that each
// group needs one pass over the weights of its adapter. The result of a row does not depend on the
// other rows.
#ifndef KERAS_MTL_ENGINE_ADAPTERS_H_
#define KERAS_MTL_ENGINE_ADAPTERS_H_

#include <vector>

#include "engine/transformer_config.h"

namespace keras_mtl {

// The rows of a batch that use one adapter, ascending.
struct AdapterGroup {
  int adapter;
  std::vector<int> rows;

  int count() const { return static_cast<int>(rows.size()); }
  int first() const { return rows.front(); }
  // Whether there are no other rows between them, so that they can be read in place.
  bool adjacent() const { return rows.back() - rows.front() + 1 == count(); }
};

// Which adapters the rows of a batch use.
class AdapterRows {
 public:
  AdapterRows() = default;
  // `routes` [rows]: of the sentence of each row; see TransformerConfig.
  AdapterRows(const TransformerConfig& config, const std::vector<int>& routes);

  // The groups of a set; without rows that use no adapter.
  const std::vector<AdapterGroup>& groups(int set) const { return groups_[set]; }

 private:
  std::vector<std::vector<AdapterGroup>> groups_;  // by set
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_ADAPTERS_H_
