// The kernels of the engine: one table of functions per instruction set.
//
// Every function gives bit-identical results on every instruction set. The result of a row depends
// only on that row, not on other rows or on the distribution of panels among threads:
//   * sums of int8 products are exact in int32;
//   * a float matrix product adds its K terms by fused multiply-add in the order of K;
//   * every other sum uses 16 lanes (element i in lane i % 16), which are added at the end as
//     i + (i+8), i + (i+4), i + (i+2), i + (i+1).
//
// No function allocates, throws or keeps state, so all are thread-safe. Pointers to floats and
// bytes need no alignment unless a comment requires it.
#ifndef KERAS_MTL_KERNELS_KERNELS_H_
#define KERAS_MTL_KERNELS_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cpu_features.h"

namespace keras_mtl {

// Columns of a panel of packed weights: four vectors of 16 floats or 16 int32. With six rows, their
// sums use 24 of the 32 registers of AVX-512.
constexpr int kPanel = 64;
// int8 rows are zero-padded in K to a multiple of this: one AMX tile.
constexpr int kDepthAlign = 64;
// Matrices of at most this number of columns have panels of this number of columns in int8: the
// matrices of LoRA would be mostly padding otherwise.
constexpr int kNarrowPanel = 16;
// Maximum of K in int8 products: a sum of this number of terms of 127 * 128 fits 31 bits.
constexpr int kMaxInt8Depth = 1 << 17;
// Panels per segment of the output projection. Each segment has its own maximum and sum of
// exponentials. They are merged in order, so the result does not depend on the number of threads.
constexpr int kSegmentPanels = 32;

constexpr int RoundUp(int value, int multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

enum class Activation { kNone = 0, kRelu = 1, kGelu = 2, kSilu = 3 };

// The initial value of a column's sum. It makes the result the product of signed rows and signed
// weights although the instructions require one unsigned operand.
enum class Compensation {
  kNone,            // 0
  kShiftedRows,     // x is read as x + 128: -128 * the sum of the weights
  kNegativeWeights  // w < 0 is read as -w and its x as -x - 1: the sum of -w over negative weights
};

// int8 rows with one scale each: value = data * scale.
struct Int8Rows {
  const int8_t* data;   // [rows, stride]; columns from K on are 0 (128 if row_flip is 0x80)
  const float* scales;  // [rows]
  int rows;
  int stride;  // bytes: RoundUp(K, kDepthAlign)
};

// Packed int8 weights [N, K]; kernels/pack.h makes them.
//   data: [panels][kPanel / block][stride / 4][block][4]: panel, block, k-group, column, and 4
//   consecutive values of K. `block` is KernelTable::int8_block. A matrix of at most kNarrowPanel
//   columns has one block, of kNarrowPanel columns.
struct Int8Weights {
  const int8_t* data;           // 64-byte aligned
  const int32_t* compensation;  // [panels * kPanel]: see Compensation
  const float* scales;          // [panels * kPanel]
  const float* bias;            // [panels * kPanel]; zeros if the layer has no bias
  int columns;                  // N
  int stride;                   // RoundUp(K, KernelTable::int8_depth)
};

struct FloatRows {
  const float* data;  // [rows, stride]
  int rows;
  int stride;  // floats, at least K
};

// Packed float weights [N, K]: [panels][kPanel / block][K][block], with `block` =
// KernelTable::float_block.
struct FloatWeights {
  const float* data;  // 64-byte aligned
  const float* bias;  // [panels * kPanel]
  int columns;        // N
  int depth;          // K
};

// What a matrix product y does with the values of its destination.
enum class Combine {
  kStore,    // out = activation(y)
  kAdd,      // out = out + activation(y)
  kMultiply  // out = out * activation(y)
};

// The destination of a matrix product.
struct Output {
  float* data;  // [rows, stride]
  int stride;   // floats, at least N
  Activation activation;
  Combine combine;
};

struct Candidate {
  int32_t token;
  float logit;
};

// Changes to the logits of one row before the softmax. A penalty of 0 forbids the token (logit
// -inf); p > 0 divides a positive logit by p and multiplies a negative logit by p.
struct LogitEdits {
  const int32_t* tokens = nullptr;   // [count], ascending, each in [0, N)
  const float* penalties = nullptr;  // [count]
  int count = 0;
};

// The keys and values that queries of one head attend to. The key of position t is at
// entries[t] + key, its value at entries[t] + value: floats [dim], or int8
// [RoundUp(dim, kDepthAlign)] as written by quantize_rows, with scales at entries[t] + key_scale
// and entries[t] + value_scale. Offsets are in bytes.
struct KeyValues {
  const char* const* entries;  // [length]
  int length;                  // >= 1
  ptrdiff_t key;
  ptrdiff_t value;
  ptrdiff_t key_scale;    // int8 only
  ptrdiff_t value_scale;  // int8 only
};

// A query [dim] of one head. `scores` [RoundUp(length, 16)] receives the attention weights of the
// positions, `out` [dim] the weighted sum of values.
struct AttentionQuery {
  const float* query;
  float* scores;
  float* out;
};

// The output projection keeps this for each row instead of its logits: the request and the running
// result. `ProjectBegin` initializes the result.
struct LogitRow {
  alignas(64) float sums[16];  // of exp(logit - maximum) in this segment, by lane
  float maximum;               // of the logits of this segment so far
  float threshold;             // logit of the last candidate if `top` were found, else -inf
  float wanted_logit;          // logit of `wanted`; -inf until it is computed
  int next_edit;               // first of `edits` in the panels that remain
  int count;                   // candidates found
  int top;                     // candidates to keep, >= 0
  int wanted;                  // token whose logit is requested, or -1
  Candidate* candidates;       // [top], best first; equal logits: smaller token first
  float* logits;               // [RoundUp(N, kPanel)] receives all logits, or null
  LogitEdits edits;
};

// Maximum and sum of exponentials of one row over one segment.
struct SegmentSum {
  float maximum;
  float sum;
};

struct KernelTable {
  Isa isa;
  // XORed with every byte of int8 rows: 0x80 if the product requires unsigned rows, else 0.
  uint8_t row_flip;
  // Width of a product's tile in columns. These columns are adjacent in packed weights, so that a
  // tile reads memory sequentially. Divides kPanel.
  int int8_block;
  int float_block;
  // Packed int8 weights are zero-padded in K to a multiple of this, which divides kDepthAlign.
  int int8_depth;
  Compensation compensation;

  // Quantizes each row symmetrically to int8: scale = absmax / 127, data = x * (127 / absmax),
  // rounded half to even. A row with absmax below 1e-30 becomes zeros with scale 1. A row with an
  // infinity or NaN becomes zeros with scale NaN, so that the error reaches the output.
  // x [rows, x_stride] -> data [rows, RoundUp(columns, kDepthAlign)], scales [rows].
  void (*quantize_rows)(const float* x, int rows, int columns, int x_stride, int8_t* data,
                        float* scales);
  // The same with the absmax `range` > 0 for all rows: a single pass. Larger values become 127 or
  // -127.
  void (*quantize_rows_in)(float range, const float* x, int rows, int columns, int x_stride,
                           int8_t* data, float* scales);
  // Layer normalization over `columns`: (x - mean) / sqrt(variance + epsilon) * gamma + beta. If
  // beta is null, root mean square normalization: x / sqrt(mean(x^2) + epsilon) * gamma.
  // x and y [rows, columns] may be the same array.
  void (*layer_norm)(const float* x, int rows, int columns, const float* gamma, const float* beta,
                     float epsilon, float* y);
  // layer_norm followed by quantize_rows, or by quantize_rows_in if range > 0, row by row;
  // `scratch` [columns].
  void (*layer_norm_quantize)(const float* x, int rows, int columns, const float* gamma,
                              const float* beta, float epsilon, float range, float* scratch,
                              int8_t* data, float* scales);
  // Rotary positions: turns x [heads, dim] by the angles of `table` [dim], which holds dim / 2
  // cosines and then their sines. Channels i and i + dim / 2 of a head are a pair.
  void (*rotate)(const float* table, int heads, int dim, float* x);
  // x = activation(x), [count].
  void (*activate)(Activation activation, float* x, int count);
  // x = exp(x), [count]. The relative error is below 2e-7; the result is 0 below -87.3.
  void (*exp)(float* x, int count);

  // Products with the transposed weights of panels [first, last): y = rows * scales x weights +
  // bias.
  void (*gemm_int8)(const Int8Rows& a, const Int8Weights& w, int first, int last,
                    const Output& out);
  void (*gemm_float)(const FloatRows& a, const FloatWeights& w, int first, int last,
                     const Output& out);

  // The same products, reduced immediately to the values that beam search needs. `bias` [panels *
  // kPanel] replaces the bias of the weights: -inf forbids a token and must pad the columns from N
  // on. Computes segments [first, last) of kSegmentPanels panels each, in ascending order, and
  // writes their entries of `sums` [segments, a.rows]. `rows` [a.rows] keeps the candidates of
  // earlier calls.
  void (*project_int8)(const Int8Rows& a, const Int8Weights& w, const float* bias, int first,
                       int last, LogitRow* rows, SegmentSum* sums);
  void (*project_float)(const FloatRows& a, const FloatWeights& w, const float* bias, int first,
                        int last, LogitRow* rows, SegmentSum* sums);
  // log of the sum of exp(logits) of a row, from `sums` [segments] with a stride of `stride`.
  float (*log_sum_exp)(const SegmentSum* sums, int segments, int stride);

  // Attention of `count` queries of one head over the same keys and values: weights are
  // softmax(scale * query . key_t) over t, the output is the weighted sum of values. Each result
  // depends only on its query. Four queries in one call cost little more than two.
  void (*attend_float)(const AttentionQuery* queries, int count, const KeyValues& cache, int dim,
                       float scale);
  void (*attend_int8)(const AttentionQuery* queries, int count, const KeyValues& cache, int dim,
                      float scale);
};

// Returns the kernels of an instruction set, which this processor must support. Thread-safe.
const KernelTable& GetKernels(Isa isa);

// Prepares a row for its first segment; keeps `top`, `wanted`, `candidates`, `logits`, `edits`.
void ProjectBegin(LogitRow* row);

// log(x) for x >= 0. Uses only operations that IEEE 754 specifies exactly, so the result is the
// same on every machine.
double Log(double x);

}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_KERNELS_H_
