// int8 tile in AMX. Contract in gemm-inl.h; before it, the including file defines `AmxTiles`, the
// eight tile registers: those of the processor (amx_tiles.h) or a model of them (a test).
//
// Rows come as x + 128 in unsigned bytes and sums begin at the compensation, as for VNNI, whose
// kernels take the products of few rows: one form of activations serves both.
#ifndef KERAS_MTL_KERNELS_GEMM_INT8_AMX_H_
#define KERAS_MTL_KERNELS_GEMM_INT8_AMX_H_

#include "kernels/kernels.h"

namespace keras_mtl {

// Operand of ldtilecfg; Intel SDM volume 1, section 18.2 "TILECFG". The first eight entries are of
// the tiles of palette 1, all others stay 0.
struct TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64, "the layout is the processor's");

namespace {

constexpr int kTileRows = 16;  // of a tile register, each of 64 bytes
constexpr int kTileDepth = 64;
static_assert(kDepthAlign == kTileDepth && kPanel == 4 * 16, "a panel is four tiles wide");

// Two by two tiles of sums.
constexpr int kInt8TileRows = 2 * kTileRows;
// A register has its number of rows from the configuration, which one product does not change:
// rows that are left over make a whole tile with rows that are done already. That costs no more
// than a tile of fewer rows, because loading the 16 rows of weights takes as long.
constexpr int kInt8LeastRows = kTileRows;
// Weights and rows as for VNNI.
constexpr int kInt8Block = kPanel;
constexpr uint8_t kRowFlip = 0x80;
constexpr Compensation kCompensation = Compensation::kShiftedRows;

// Registers: 0 to 3 sums, 4 rows, 5 rows or weights, 6 and 7 weights.
inline TileConfig ConfigFor(int rows) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.rows[tile] = static_cast<uint8_t>(tile < 5 && rows < kTileRows ? rows : kTileRows);
    config.row_bytes[tile] = kTileDepth;
  }
  return config;
}

// For each product: between two products the thread may run another library's tiles. Released
// registers are not saved when threads switch.
inline void Int8Begin(int rows) {
  const TileConfig config = ConfigFor(rows < 1 ? 1 : rows);
  AmxTiles::Configure(&config);
}
inline void Int8End() { AmxTiles::Release(); }

constexpr ptrdiff_t kGroupBytes = kPanel * 4;  // from a k-group of a panel to the next
constexpr ptrdiff_t kSumBytes = kPanel * sizeof(int32_t);

// One tile of rows, four of columns. (Two chains of sums would wait for each other: tdpbusd starts
// every 16 cycles and ends after 52.)
template <class Tiles>
inline void AmxOneByFour(const int8_t* rows, int stride, const int8_t* panel, int blocks,
                         const int32_t* compensation, int32_t* acc) {
  // A stride of 0 gives every row of the tile the same 16 sums.
  Tiles::template Load<0>(compensation, 0);
  Tiles::template Load<1>(compensation + 16, 0);
  Tiles::template Load<2>(compensation + 32, 0);
  Tiles::template Load<3>(compensation + 48, 0);
  for (int block = 0; block < blocks; ++block) {
    Tiles::template Load<4>(rows, stride);
    Tiles::template Load<5>(panel, kGroupBytes);
    Tiles::template Dot<0, 4, 5>();
    Tiles::template Load<6>(panel + 64, kGroupBytes);
    Tiles::template Dot<1, 4, 6>();
    Tiles::template Load<7>(panel + 128, kGroupBytes);
    Tiles::template Dot<2, 4, 7>();
    Tiles::template Load<5>(panel + 192, kGroupBytes);
    Tiles::template Dot<3, 4, 5>();
    rows += kTileDepth;
    panel += kTileDepth / 4 * kGroupBytes;
  }
  Tiles::template Store<0>(acc, kSumBytes);
  Tiles::template Store<1>(acc + 16, kSumBytes);
  Tiles::template Store<2>(acc + 32, kSumBytes);
  Tiles::template Store<3>(acc + 48, kSumBytes);
}

// Two tiles of rows, the second beginning `second` rows behind the first, two of columns.
template <class Tiles>
inline void AmxTwoByTwo(const int8_t* rows, int stride, int second, const int8_t* panel, int blocks,
                        const int32_t* compensation, int32_t* acc) {
  const int8_t* more_rows = rows + static_cast<ptrdiff_t>(second) * stride;
  int32_t* more_acc = acc + static_cast<ptrdiff_t>(second) * kPanel;
  Tiles::template Load<0>(compensation, 0);
  Tiles::template Load<1>(compensation + 16, 0);
  Tiles::template Load<2>(compensation, 0);
  Tiles::template Load<3>(compensation + 16, 0);
  for (int block = 0; block < blocks; ++block) {
    Tiles::template Load<4>(rows, stride);
    Tiles::template Load<6>(panel, kGroupBytes);
    Tiles::template Dot<0, 4, 6>();
    Tiles::template Load<7>(panel + 64, kGroupBytes);
    Tiles::template Dot<1, 4, 7>();
    Tiles::template Load<5>(more_rows, stride);
    Tiles::template Dot<2, 5, 6>();
    Tiles::template Dot<3, 5, 7>();
    rows += kTileDepth;
    more_rows += kTileDepth;
    panel += kTileDepth / 4 * kGroupBytes;
  }
  // The tiles may overlap; both hold the same sums there.
  Tiles::template Store<0>(acc, kSumBytes);
  Tiles::template Store<1>(acc + 16, kSumBytes);
  Tiles::template Store<2>(more_acc, kSumBytes);
  Tiles::template Store<3>(more_acc + 16, kSumBytes);
}

inline void Int8Tile(const int8_t* rows, int stride, int count, const int8_t* panel, int groups,
                     const int32_t* compensation, int32_t* acc) {
  const int blocks = groups / (kTileDepth / 4);
  if (count <= kTileRows) {
    AmxOneByFour<AmxTiles>(rows, stride, panel, blocks, compensation, acc);
    return;
  }
  for (int column = 0; column < kPanel; column += 32) {
    AmxTwoByTwo<AmxTiles>(rows, stride, count - kTileRows, panel + 4 * column, blocks,
                          compensation + column, acc + column);
  }
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_GEMM_INT8_AMX_H_
