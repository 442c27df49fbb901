// The output projection, fused with its reduction to the maximum, the sum of exponentials and the
// best tokens of each row. Logits stay in registers and are written to memory only on request.
#ifndef KERAS_MTL_KERNELS_PROJECT_INL_H_
#define KERAS_MTL_KERNELS_PROJECT_INL_H_

#include "kernels/gemm-inl.h"

namespace keras_mtl {
namespace {

// Inserts a candidate whose logit exceeds `row.threshold`. Tokens arrive in ascending order, so it
// is inserted after candidates with an equal logit.
inline void Insert(LogitRow& row, int token, float logit) {
  int i = row.count < row.top ? row.count++ : row.top - 1;
  for (; i > 0 && row.candidates[i - 1].logit < logit; --i) {
    row.candidates[i] = row.candidates[i - 1];
  }
  row.candidates[i].token = token;
  row.candidates[i].logit = logit;
  if (row.count == row.top) row.threshold = row.candidates[row.top - 1].logit;
}

// Applies edits and reads the logit of `wanted` in the columns of one tile.
inline void EditTile(LogitRow& row, int column, TileRow& tile) {
  const bool wanted = row.wanted >= column && row.wanted < column + kPanel;
  const bool edited =
      row.next_edit < row.edits.count && row.edits.tokens[row.next_edit] < column + kPanel;
  if (!wanted && !edited) return;
  alignas(64) float logits[kPanel];
  for (int v = 0; v < kPanelVectors; ++v) Store(logits + 16 * v, tile.v[v]);
  for (; row.next_edit < row.edits.count; ++row.next_edit) {
    const int token = row.edits.tokens[row.next_edit];
    if (token >= column + kPanel) break;
    if (token < column) continue;  // it belongs to a panel of another thread
    const float penalty = row.edits.penalties[row.next_edit];
    float& logit = logits[token - column];
    if (penalty == 0.0f) {
      logit = -__builtin_inff();
    } else {
      logit = logit > 0.0f ? logit / penalty : logit * penalty;
    }
  }
  if (wanted) row.wanted_logit = logits[row.wanted - column];
  for (int v = 0; v < kPanelVectors; ++v) tile.v[v] = Load(logits + 16 * v);
}

inline void ReduceTile(LogitRow& row, int panel, TileRow tile) {
  const int column = panel * kPanel;
  EditTile(row, column, tile);
  if (row.logits != nullptr) {
    for (int v = 0; v < kPanelVectors; ++v) Store(row.logits + column + 16 * v, tile.v[v]);
  }
  const F32 top = Max(Max(tile.v[0], tile.v[1]), Max(tile.v[2], tile.v[3]));
  F32 sums = Load(row.sums);
  if (MaskGreater(top, Set(row.maximum)) != 0) {
    const float maximum = ReduceMax(top);
    sums = Mul(sums, Exp(Set(row.maximum - maximum)));
    row.maximum = maximum;
  }
  const F32 maximum = Set(row.maximum);
  for (int v = 0; v < kPanelVectors; ++v) sums = Add(sums, Exp(Sub(tile.v[v], maximum)));
  Store(row.sums, sums);
  if (row.top == 0 || MaskGreater(top, Set(row.threshold)) == 0) return;
  for (int v = 0; v < kPanelVectors; ++v) {
    uint32_t mask = MaskGreater(tile.v[v], Set(row.threshold));
    if (mask == 0) continue;
    alignas(64) float logits[16];
    Store(logits, tile.v[v]);
    for (; mask != 0; mask &= mask - 1) {
      const int lane = __builtin_ctz(mask);
      if (logits[lane] > row.threshold) Insert(row, column + 16 * v + lane, logits[lane]);
    }
  }
}

// Calls product(first panel, last panel) for each segment and then reduces the sums of its rows.
template <class Product>
inline void ForEachSegment(int row_count, int columns, int first, int last, LogitRow* rows,
                           SegmentSum* sums, Product product) {
  const int panels = RoundUp(columns, kPanel) / kPanel;
  for (int segment = first; segment < last; ++segment) {
    for (int r = 0; r < row_count; ++r) {
      rows[r].maximum = kLowest;
      Store(rows[r].sums, Zero());
    }
    const int begin = segment * kSegmentPanels;
    const int end = begin + kSegmentPanels < panels ? begin + kSegmentPanels : panels;
    product(begin, end);
    for (int r = 0; r < row_count; ++r) {
      sums[static_cast<ptrdiff_t>(segment) * row_count + r] = {rows[r].maximum,
                                                               ReduceAdd(Load(rows[r].sums))};
    }
  }
}

void ProjectInt8(const Int8Rows& a, const Int8Weights& w, const float* bias, int first, int last,
                 LogitRow* rows, SegmentSum* sums) {
  Int8Begin(a.rows);
  ForEachSegment(a.rows, w.columns, first, last, rows, sums, [&](int begin, int end) {
    ForEachInt8Tile(a, w, bias, begin, end, [&](int row, int panel, const TileRow& tile) {
      ReduceTile(rows[row], panel, tile);
    });
  });
  Int8End();
}

void ProjectFloat(const FloatRows& a, const FloatWeights& w, const float* bias, int first, int last,
                  LogitRow* rows, SegmentSum* sums) {
  ForEachSegment(a.rows, w.columns, first, last, rows, sums, [&](int begin, int end) {
    ForEachFloatTile(a, w, bias, begin, end, [&](int row, int panel, const TileRow& tile) {
      ReduceTile(rows[row], panel, tile);
    });
  });
}

float LogSumExp(const SegmentSum* sums, int segments, int stride) {
  float maximum = kLowest;
  for (int s = 0; s < segments; ++s) {
    const float m = sums[static_cast<ptrdiff_t>(s) * stride].maximum;
    maximum = m > maximum ? m : maximum;
  }
  float total = 0.0f;
  for (int s = 0; s < segments; ++s) {
    const SegmentSum& part = sums[static_cast<ptrdiff_t>(s) * stride];
    float factor[16];
    Store(factor, Exp(Set(part.maximum - maximum)));
    total = __builtin_fmaf(part.sum, factor[0], total);
  }
  return static_cast<float>(static_cast<double>(maximum) + Log(static_cast<double>(total)));
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_PROJECT_INL_H_
