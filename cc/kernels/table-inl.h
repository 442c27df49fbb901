// Defines the table of kernels of one instruction set. Every isa_*.cc includes it last, after the
// vectors and the tiles.
#ifndef KERAS_MTL_KERNELS_TABLE_INL_H_
#define KERAS_MTL_KERNELS_TABLE_INL_H_

#include "kernels/attention-inl.h"
#include "kernels/project-inl.h"

namespace keras_mtl {
namespace {

constexpr KernelTable MakeTable(Isa isa) {
  return {isa,
          kRowFlip,
          kInt8Block,
          16 * kFloatTileVectors,
          kInt8Depth,
          kCompensation,
          QuantizeRows,
          QuantizeRowsIn,
          LayerNorm,
          LayerNormQuantize,
          Rotate,
          ActivateAny,
          ExpArray,
          GemmInt8,
          GemmFloat,
          ProjectInt8,
          ProjectFloat,
          LogSumExp,
          Attend<FloatElements>,
          Attend<Int8Elements>};
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_TABLE_INL_H_
