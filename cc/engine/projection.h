// From hidden states to the best next tokens and their log-probabilities.
#ifndef KERAS_MTL_ENGINE_PROJECTION_H_
#define KERAS_MTL_ENGINE_PROJECTION_H_

#include <cstdint>
#include <vector>

#include "engine/dense.h"

namespace keras_mtl {

struct TokenScore {
  int32_t token;          // -1 where a row has fewer tokens than asked for
  float log_probability;  // natural logarithm, after edits and forbidden tokens
};

// What a row wants of the projection.
struct RowRequest {
  LogitEdits edits;
  int32_t wanted = -1;  // a token whose log-probability is asked for, whatever its rank
};

struct ProjectionOptions {
  int top = 0;  // candidates of each row
  // [RoundUp(V, kPanel)] added to the logits of all rows: 0, or -inf for tokens that may not be
  // produced, among them all behind V. Null allows every token. AllowedBias() makes one.
  const float* bias = nullptr;
  bool all = false;  // also return every log-probability
};

// Results of the rows of a step. Log-probabilities are exact: the softmax runs over all allowed
// tokens. A row with a NaN or infinite logit has NaN in log_sums and in its scores.
struct ProjectionResult {
  int top = 0;                           // min(ProjectionOptions::top, V)
  std::vector<TokenScore> candidates;    // [rows, top], best first; ties: smaller token first
  std::vector<float> wanted;             // [rows]; -inf where none is asked for
  std::vector<float> log_sums;           // [rows]: log of the sum of exp(logits)
  std::vector<float> log_probabilities;  // [rows, V] if asked for, else empty
};

// The bias that forbids every token but those with allowed[token] != 0; allowed [tokens].
std::vector<float> AllowedBias(const std::vector<uint8_t>& allowed);

// Projects x, whose `requests` [x.count] say what each row wants.
void Project(const Context& context, const Dense& projection, const Rows& x,
             const RowRequest* requests, const ProjectionOptions& options,
             ProjectionResult* result);

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_PROJECTION_H_
