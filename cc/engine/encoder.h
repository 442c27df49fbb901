// The encoder. It uses no padding: the tokens of all sentences are rows of one matrix.
#ifndef KERAS_MTL_ENGINE_ENCODER_H_
#define KERAS_MTL_ENGINE_ENCODER_H_

#include <cstdint>
#include <vector>

#include "engine/model.h"

namespace keras_mtl {

// Concatenated token ids of sentences; sentence i is ids [begins[i], begins[i + 1]).
struct TokenBatch {
  std::vector<int32_t> ids;
  std::vector<int> begins = {0};  // [sentences + 1]

  int sentences() const { return static_cast<int>(begins.size()) - 1; }
  int length(int sentence) const { return begins[sentence + 1] - begins[sentence]; }
  void Add(const int32_t* tokens, int count) {
    ids.insert(ids.end(), tokens, tokens + count);
    begins.push_back(static_cast<int>(ids.size()));
  }
};

// The encoder's output for a TokenBatch.
struct Memory {
  // [tokens, hidden_dim]; with transparent attention, [memories, tokens, hidden_dim]
  std::vector<float> rows;
  std::vector<int> begins;  // as in the TokenBatch
};

// Throws InputError if an id is outside the vocabulary or a sentence is longer than max_length.
void CheckSource(const TransformerConfig& config, const TokenBatch& batch);

// Encodes a batch. The rows of a sentence do not depend on other sentences. An empty sentence has
// no rows. `routes`: of each sentence; empty for 0. Resets the arena of `context`, which must have
// the model's kernels and compute type. Throws the InputError of CheckSource().
Memory Encode(const Model& model, const Context& context, const TokenBatch& batch,
              const std::vector<int>& routes = {});

// Returns for each token of sentences [begins[s], begins[s + 1]) the route of its sentence; empty
// if the model has no adapters or `routes` is empty.
std::vector<int> TokenRoutes(const TransformerConfig& config, const std::vector<int>& begins,
                             const std::vector<int>& routes);

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_ENCODER_H_
