// From hidden states to the best next tokens and their log-probabilities.
#ifndef KERAS_MTL_ENGINE_PROJECTION_H_
#define KERAS_MTL_ENGINE_PROJECTION_H_

#include <cstdint>
#include <vector>

#include "engine/dense.h"

namespace keras_mtl {

// The request of one row to the projection.
struct RowRequest {
  LogitEdits edits;
  int32_t wanted = -1;     // a token whose logit is returned regardless of its rank; -1: none
  bool allow_all = false;  // ignore bias and shortlist: every token is allowed
};

// Projections onto a subset of the tokens, for a batch that may produce no others.
struct Shortlist {
  std::vector<int32_t> tokens;     // ascending
  std::vector<Dense> projections;  // one per decoder, or one that all decoders share

  const Dense& projection(int decoder) const {
    return projections[projections.size() == 1 ? 0 : decoder];
  }
};

struct ProjectionOptions {
  int top = 0;  // candidates per row
  // [RoundUp(V, kPanel)], added to the logits of all rows: 0, or -inf for forbidden tokens and for
  // the padding after V. Null allows every token. AllowedBias() makes one.
  const float* bias = nullptr;
  const Shortlist* shortlist = nullptr;  // instead of a bias: the allowed tokens
  bool all = false;                      // whether to return every logit, too
};

// Results of the rows of a step, after edits and bias. The log-probability is the logit minus the
// row's log_sum; the sum includes all allowed tokens. If a logit of a row is NaN or +inf, its
// log_sum is NaN.
struct ProjectionResult {
  int top = 0;                    // min(ProjectionOptions::top, V)
  std::vector<int32_t> tokens;    // [rows, top], best first; ties: smaller token first; padded: -1
  std::vector<float> logits;      // [rows, top], padded with -inf
  std::vector<float> wanted;      // [rows]; -inf if none is requested
  std::vector<float> log_sums;    // [rows], log of the sum of exp(logits); -inf if none is allowed
  std::vector<float> all_logits;  // [rows, V] if requested, else empty

  // Resizes the arrays for `rows` rows.
  void Resize(int rows, int vocabulary, const ProjectionOptions& options);
};

// Returns the bias that forbids every token with allowed[token] == 0; allowed [V].
std::vector<float> AllowedBias(const std::vector<uint8_t>& allowed);

// Projects x, with requests [x.count], into rows [first, first + x.count) of `result`, which must
// have been resized for them. `projection` is that of decoder `decoder`.
void Project(const Context& context, const Dense& projection, int decoder, const Rows& x,
             const RowRequest* requests, const ProjectionOptions& options, int first,
             ProjectionResult* result);

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_PROJECTION_H_
