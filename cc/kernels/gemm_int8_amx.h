// The int8 tile for AMX; gemm-inl.h specifies the interface. The including file must first define
// `AmxTiles`, the eight tile registers: those of the processor (amx_tiles.h) or a software model of
// them (tests).
//
// Rows are x + 128 as unsigned bytes, and sums start at the compensation, as for VNNI. Both need
// the same format because VNNI kernels compute products of few rows.
#ifndef KERAS_MTL_KERNELS_GEMM_INT8_AMX_H_
#define KERAS_MTL_KERNELS_GEMM_INT8_AMX_H_

#include "kernels/kernels.h"

namespace keras_mtl {

// The operand of ldtilecfg; Intel SDM volume 1, section 18.2 "TILECFG". The first eight entries are
// the tiles of palette 1; all others must be 0.
struct TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64, "the processor defines the layout");

namespace {

constexpr int kTileRows = 16;  // rows of a tile register; each row has 64 bytes
constexpr int kTileDepth = 64;
static_assert(kDepthAlign == kTileDepth && kPanel == 4 * 16, "a panel is four tiles wide");

// Sums are 2 x 2 tiles.
constexpr int kInt8TileRows = 2 * kTileRows;
// The configuration fixes the number of rows per register for a whole product. So the remaining
// rows form a full tile with rows that have already been computed. This costs no more than a
// smaller tile, because loading the 16 rows of weights takes the same time.
constexpr int kInt8MinRows = kTileRows;
// Weights and rows have the format of VNNI.
constexpr int kInt8Block = kPanel;
constexpr int kInt8Depth = kTileDepth;
constexpr uint8_t kRowFlip = 0x80;
constexpr Compensation kCompensation = Compensation::kShiftedRows;

// Registers: 0 to 3: sums; 4: rows; 5: rows or weights; 6 and 7: weights.
inline TileConfig ConfigFor(int rows) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.rows[tile] = static_cast<uint8_t>(tile < 5 && rows < kTileRows ? rows : kTileRows);
    config.row_bytes[tile] = kTileDepth;
  }
  return config;
}

// Called for each product, because the thread may run another library's tile code between products.
// The system does not save released registers on a context switch.
inline void Int8Begin(int rows) {
  const TileConfig config = ConfigFor(rows < 1 ? 1 : rows);
  AmxTiles::Configure(&config);
}
inline void Int8End() { AmxTiles::Release(); }

constexpr ptrdiff_t kGroupBytes = kPanel * 4;  // bytes of a k-group of a panel
constexpr ptrdiff_t kSumBytes = kPanel * sizeof(int32_t);

// One tile of rows by four tiles of columns. With only two accumulators, instructions would wait
// for each other: tdpbusd has a throughput of 16 cycles and a latency of 52.
template <class Tiles>
inline void AmxOneByFour(const int8_t* rows, int stride, const int8_t* panel, int blocks,
                         const int32_t* compensation, int32_t* acc) {
  // With a stride of 0, every row of the tile gets the same 16 sums.
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

// One tile of rows by one tile of columns, which is a whole narrow panel.
template <class Tiles>
inline void AmxOneByOne(const int8_t* rows, int stride, const int8_t* panel, int blocks,
                        const int32_t* compensation, int32_t* acc) {
  Tiles::template Load<0>(compensation, 0);
  for (int block = 0; block < blocks; ++block) {
    Tiles::template Load<4>(rows, stride);
    Tiles::template Load<6>(panel, kNarrowPanel * 4);
    Tiles::template Dot<0, 4, 6>();
    rows += kTileDepth;
    panel += kTileDepth * kNarrowPanel;
  }
  Tiles::template Store<0>(acc, kSumBytes);
}

// Two tiles of rows, the second starting `second` rows after the first, by two tiles of columns.
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
  // The tiles may overlap; their sums are equal there.
  Tiles::template Store<0>(acc, kSumBytes);
  Tiles::template Store<1>(acc + 16, kSumBytes);
  Tiles::template Store<2>(more_acc, kSumBytes);
  Tiles::template Store<3>(more_acc + 16, kSumBytes);
}

template <int kColumns>
inline void Int8Tile(const int8_t* rows, int stride, int count, const int8_t* panel, int groups,
                     const int32_t* compensation, int32_t* acc) {
  const int blocks = groups / (kTileDepth / 4);
  if constexpr (kColumns == kNarrowPanel) {
    AmxOneByOne<AmxTiles>(rows, stride, panel, blocks, compensation, acc);
    const int more = count - kTileRows;  // rows after the first tile; the tiles may overlap
    if (more <= 0) return;
    AmxOneByOne<AmxTiles>(rows + static_cast<ptrdiff_t>(more) * stride, stride, panel, blocks,
                          compensation, acc + static_cast<ptrdiff_t>(more) * kPanel);
    return;
  }
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
