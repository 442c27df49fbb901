// From hidden states to the best next tokens and their log-probabilities.
#ifndef KERAS_MTL_ENGINE_PROJECTION_H_
#define KERAS_MTL_ENGINE_PROJECTION_H_

#include <cstdint>
#include <vector>

#include "engine/dense.h"

namespace keras_mtl {

// What a row wants of the projection.
struct RowRequest {
  LogitEdits edits;
  int32_t wanted = -1;  // a token whose logit is asked for, whatever its rank
  bool open = false;    // bias and shortlist are not for this row: every token is allowed
};

// Projections onto only some tokens, for a batch that may produce no other.
struct Shortlist {
  std::vector<int32_t> tokens;     // ascending
  std::vector<Dense> projections;  // of each decoder; one where they have the same

  const Dense& projection(int decoder) const {
    return projections[projections.size() == 1 ? 0 : decoder];
  }
};

struct ProjectionOptions {
  int top = 0;  // candidates of each row
  // [RoundUp(V, kPanel)] added to the logits of all rows: 0, or -inf for tokens that may not be
  // produced, among them all behind V. Null allows every token. AllowedBias() makes one.
  const float* bias = nullptr;
  const Shortlist* shortlist = nullptr;  // in place of a bias: what may be produced
  bool all = false;                      // also return every logit
};

// Results of the rows of a step, after edits and forbidden tokens. A logit less the row's log_sum
// is the log-probability; the sum runs over all allowed tokens. A row with a NaN or infinite logit
// has NaN in log_sums.
struct ProjectionResult {
  int top = 0;                    // min(ProjectionOptions::top, V)
  std::vector<int32_t> tokens;    // [rows, top], best first; ties: smaller token first; -1 and
  std::vector<float> logits;      // [rows, top]  -inf where a row has fewer
  std::vector<float> wanted;      // [rows]; -inf where none is asked for
  std::vector<float> log_sums;    // [rows]: log of the sum of exp(logits); -inf if none is allowed
  std::vector<float> all_logits;  // [rows, V] if asked for, else empty

  // Makes room for `rows` rows.
  void Resize(int rows, int vocabulary, const ProjectionOptions& options);
};

// The bias that forbids every token but those with allowed[token] != 0; allowed [tokens].
std::vector<float> AllowedBias(const std::vector<uint8_t>& allowed);

// Projects x, whose `requests` [x.count] say what each row wants, into rows [first, first +
// x.count) of a result that has room for them. `decoder` is whose projection it is.
void Project(const Context& context, const Dense& projection, int decoder, const Rows& x,
             const RowRequest* requests, const ProjectionOptions& options, int first,
             ProjectionResult* result);

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_PROJECTION_H_
