// The drivers of the matrix products, which loop over blocks of rows and panels of columns, and the
// processing of each result tile. Include after a vec_*.h, which defines the size of the float
// tile, and a gemm_int8_*.h, which defines
//   kInt8TileRows                maximum of rows in a tile
//   kInt8MinRows                 minimum of rows in a tile, if the product has that number of rows
//   kInt8Block, kInt8Depth, kCompensation, kRowFlip
//                                int8_block, int8_depth, compensation and row_flip of the
//                                KernelTable
//   Int8Begin(rows), Int8End()   called before and after a product of this number of rows
//   Int8Tile<kColumns>(rows, stride, count, panel, groups, compensation, acc)
//                                acc [count, kColumns of kPanel] = compensation + rows x panel;
//                                kColumns is kPanel or kNarrowPanel
#ifndef KERAS_MTL_KERNELS_GEMM_INL_H_
#define KERAS_MTL_KERNELS_GEMM_INL_H_

#include "kernels/math-inl.h"
#include "kernels/unroll-inl.h"

namespace keras_mtl {
namespace {

constexpr int kPanelVectors = kPanel / 16;

// One row of a tile as floats.
struct TileRow {
  F32 v[kPanelVectors];
};

// ForEachInt8Tile for panels of kColumns columns.
template <int kColumns, class Consume>
inline void ForEachInt8TileOf(const Int8Rows& a, const Int8Weights& w, const float* bias, int first,
                              int last, Consume consume) {
  alignas(64) int32_t acc[kInt8TileRows * kPanel];
  const int groups = w.stride / 4;
  const int least = a.rows < kInt8MinRows ? a.rows : kInt8MinRows;
  for (int panel = first; panel < last; ++panel) {
    const int8_t* data = w.data + static_cast<ptrdiff_t>(panel) * w.stride * kPanel;
    const ptrdiff_t column = static_cast<ptrdiff_t>(panel) * kPanel;
    for (int row = 0; row < a.rows; row += kInt8TileRows) {
      const int end = a.rows - row < kInt8TileRows ? a.rows : row + kInt8TileRows;
      // A tile with too few rows recomputes some of the previous rows.
      const int begin = end - row < least ? end - least : row;
      Int8Tile<kColumns>(a.data + static_cast<ptrdiff_t>(begin) * a.stride, a.stride, end - begin,
                         data, groups, w.compensation + column, acc);
      for (int r = row; r < end; ++r) {
        const int32_t* sums = acc + (r - begin) * kPanel;
        const F32 row_scale = Set(a.scales[r]);
        TileRow tile;
        for (int v = 0; v < kPanelVectors; ++v) {
          tile.v[v] = Load(bias + column + 16 * v);
          if (16 * v >= kColumns) continue;  // padding
          const F32 scale = Mul(row_scale, Load(w.scales + column + 16 * v));
          tile.v[v] = Fma(ToFloat(LoadInt(sums + 16 * v)), scale, tile.v[v]);
        }
        consume(r, panel, tile);
      }
    }
  }
}

// Calls consume(row, panel, TileRow) for all rows of panels [first, last), with y = rows * scales x
// weights + bias. The outer loop is over panels, so that a panel stays in L1 or L2 for all rows.
template <class Consume>
inline void ForEachInt8Tile(const Int8Rows& a, const Int8Weights& w, const float* bias, int first,
                            int last, Consume consume) {
  if (w.columns <= kNarrowPanel) {
    ForEachInt8TileOf<kNarrowPanel>(a, w, bias, first, last, consume);
  } else {
    ForEachInt8TileOf<kPanel>(a, w, bias, first, last, consume);
  }
}

// acc [kRows, kPanel] = a [kRows, K] x panel [K, kPanel]. Each element is one chain of fused
// multiply-adds in the order of K.
template <int kRows>
void FloatTile(const float* a, int stride, int depth, const float* panel, float* acc) {
  for (int block = 0; block < kPanelVectors; block += kFloatTileVectors) {
    F32 sums[kRows][kFloatTileVectors];
    Unroll<kRows>([&](auto r) KERAS_MTL_ALWAYS_INLINE {
      Unroll<kFloatTileVectors>([&](auto v) KERAS_MTL_ALWAYS_INLINE { sums[r][v] = Zero(); });
    });
    for (int k = 0; k < depth; ++k) {
      F32 weights[kFloatTileVectors];
      Unroll<kFloatTileVectors>([&](auto v)
                                    KERAS_MTL_ALWAYS_INLINE { weights[v] = Load(panel + 16 * v); });
      panel += 16 * kFloatTileVectors;
      Unroll<kRows>([&](auto r) KERAS_MTL_ALWAYS_INLINE {
        const F32 x = Set(a[static_cast<ptrdiff_t>(r) * stride + k]);
        Unroll<kFloatTileVectors>(
            [&](auto v) KERAS_MTL_ALWAYS_INLINE { sums[r][v] = Fma(x, weights[v], sums[r][v]); });
      });
    }
    Unroll<kRows>([&](auto r) KERAS_MTL_ALWAYS_INLINE {
      Unroll<kFloatTileVectors>([&](auto v) KERAS_MTL_ALWAYS_INLINE {
        Store(acc + r * kPanel + 16 * (block + v), sums[r][v]);
      });
    });
  }
}

inline void FloatTileAny(const float* a, int stride, int count, int depth, const float* panel,
                         float* acc) {
  if (count == kFloatTileRows) return FloatTile<kFloatTileRows>(a, stride, depth, panel, acc);
  if constexpr (kFloatTileRows > 1) {
    switch (count) {
      case 1:
        return FloatTile<1>(a, stride, depth, panel, acc);
      case 2:
        return FloatTile<2>(a, stride, depth, panel, acc);
      case 3:
        return FloatTile<3>(a, stride, depth, panel, acc);
      case 4:
        return FloatTile<4>(a, stride, depth, panel, acc);
      case 5:
        return FloatTile<5>(a, stride, depth, panel, acc);
    }
  }
}

template <class Consume>
inline void ForEachFloatTile(const FloatRows& a, const FloatWeights& w, const float* bias,
                             int first, int last, Consume consume) {
  alignas(64) float acc[kFloatTileRows * kPanel];
  for (int panel = first; panel < last; ++panel) {
    const float* data = w.data + static_cast<ptrdiff_t>(panel) * w.depth * kPanel;
    const ptrdiff_t column = static_cast<ptrdiff_t>(panel) * kPanel;
    for (int row = 0; row < a.rows; row += kFloatTileRows) {
      const int count = a.rows - row < kFloatTileRows ? a.rows - row : kFloatTileRows;
      FloatTileAny(a.data + static_cast<ptrdiff_t>(row) * a.stride, a.stride, count, w.depth, data,
                   acc);
      for (int r = 0; r < count; ++r) {
        TileRow tile;
        for (int v = 0; v < kPanelVectors; ++v) {
          tile.v[v] = Add(Load(acc + r * kPanel + 16 * v), Load(bias + column + 16 * v));
        }
        consume(row + r, panel, tile);
      }
    }
  }
}

// A value of the output, from the previous one and from the product.
template <Combine kCombine>
inline F32 Combined(F32 before, F32 value) {
  return kCombine == Combine::kAdd ? Add(before, value) : Mul(before, value);
}

// Writes a row of a tile to the output. The last panel may have fewer columns.
template <Activation kActivation, Combine kCombine>
struct WriteOutput {
  const Output& out;
  int columns;

  void operator()(int row, int panel, const TileRow& tile) const {
    const int column = panel * kPanel;
    float* y = out.data + static_cast<ptrdiff_t>(row) * out.stride + column;
    const int left = columns - column;
    for (int v = 0; v < kPanelVectors && 16 * v < left; ++v) {
      const int n = left - 16 * v;
      F32 value = Activate<kActivation>(tile.v[v]);
      if (n >= 16) {
        if (kCombine != Combine::kStore) value = Combined<kCombine>(Load(y + 16 * v), value);
        Store(y + 16 * v, value);
      } else {
        if (kCombine != Combine::kStore) value = Combined<kCombine>(LoadN(y + 16 * v, n), value);
        StoreN(y + 16 * v, value, n);
      }
    }
  }
};

template <Activation kActivation, class Run>
inline void WithActivation(const Output& out, int columns, Run run) {
  switch (out.combine) {
    case Combine::kStore:
      return run(WriteOutput<kActivation, Combine::kStore>{out, columns});
    case Combine::kAdd:
      return run(WriteOutput<kActivation, Combine::kAdd>{out, columns});
    case Combine::kMultiply:
      return run(WriteOutput<kActivation, Combine::kMultiply>{out, columns});
  }
}

// Calls run(WriteOutput) for the activation and mode of `out`.
template <class Run>
inline void WithOutput(const Output& out, int columns, Run run) {
  switch (out.activation) {
    case Activation::kNone:
      return WithActivation<Activation::kNone>(out, columns, run);
    case Activation::kRelu:
      return WithActivation<Activation::kRelu>(out, columns, run);
    case Activation::kGelu:
      return WithActivation<Activation::kGelu>(out, columns, run);
    case Activation::kSilu:
      return WithActivation<Activation::kSilu>(out, columns, run);
  }
}

void GemmInt8(const Int8Rows& a, const Int8Weights& w, int first, int last, const Output& out) {
  Int8Begin(a.rows);
  WithOutput(out, w.columns,
             [&](auto write) { ForEachInt8Tile(a, w, w.bias, first, last, write); });
  Int8End();
}

void GemmFloat(const FloatRows& a, const FloatWeights& w, int first, int last, const Output& out) {
  WithOutput(out, w.columns,
             [&](auto write) { ForEachFloatTile(a, w, w.bias, first, last, write); });
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_GEMM_INL_H_
