#include "engine/adapters.h"

namespace keras_mtl {

AdapterRows::AdapterRows(const TransformerConfig& config, const std::vector<int>& routes) {
  const int sets = static_cast<int>(config.adapter_sets.size());
  groups_.resize(sets);
  for (int set = 0; set < sets; ++set) {
    std::vector<int> group_of(config.adapter_sets[set].count, -1);
    std::vector<AdapterGroup>& groups = groups_[set];
    for (int row = 0; row < static_cast<int>(routes.size()); ++row) {
      const int adapter = config.AdapterOf(routes[row], set);
      if (adapter < 0) continue;
      int& group = group_of[adapter];
      if (group < 0) {
        group = static_cast<int>(groups.size());
        groups.push_back({adapter, {}});
      }
      groups[group].rows.push_back(row);
    }
  }
}

}  // namespace keras_mtl
