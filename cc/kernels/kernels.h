// The kernels of the engine as one table of functions per instruction set.
//
// Every entry gives bit-identical results on every instruction set, and a row's result depends on
// that row only, whatever the other rows are and however panels are split among threads:
//   * sums of int8 products are exact in int32;
//   * a float matrix product adds its K terms by fused multiply-add in the order of K;
//   * every other sum runs in 16 lanes (element i in lane i % 16) that are added at the end as
//     i + (i+8), i + (i+4), i + (i+2), i + (i+1).
//
// Nothing here allocates, throws, or keeps state: all entries may run on many threads at once.
// Pointers to floats and bytes need no alignment unless a comment asks for it.
#ifndef KERAS_MTL_KERNELS_KERNELS_H_
#define KERAS_MTL_KERNELS_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cpu_features.h"

namespace keras_mtl {

// Columns of a panel of packed weights: four vectors of 16 floats or 16 int32. With six rows they
// fill 24 of the 32 registers of AVX-512.
constexpr int kPanel = 64;
// Rows of int8 and packed int8 weights are padded with zeros to this many bytes of K: one AMX tile.
constexpr int kDepthAlign = 64;
// Of int8 products: this number of 127 * 128 adds up within 31 bits.
constexpr int kMostInt8Depth = 1 << 17;
// Panels of a segment of the output projection. Each segment has its own maximum and sum of
// exponentials, merged in order, so that the result does not depend on how threads share the work.
constexpr int kSegmentPanels = 32;

constexpr int RoundUp(int value, int multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

enum class Activation { kNone = 0, kRelu = 1, kGelu = 2, kSilu = 3 };

// What the sums of a column start from, to end at the product of signed rows and signed weights
// though the instructions take one of the two unsigned.
enum class Compensation {
  kNone,            // 0
  kShiftedRows,     // rows x are read as x + 128: -128 * the sum of the weights
  kNegativeWeights  // weights w < 0 are read as -w, their x as -x - 1: the sum of these -w
};

// int8 rows with one scale each: value = data * scale.
struct Int8Rows {
  const int8_t* data;   // [rows, stride]; columns K..stride are 0 (128 where row_flip is 0x80)
  const float* scales;  // [rows]
  int rows;
  int stride;  // bytes: RoundUp(K, kDepthAlign)
};

// Packed int8 weights [N, K]; kernels/pack.h makes them for the kernels that read them.
//   data: [panels][kPanel / block][stride / 4][block][4], column n of k-group g: its 4 consecutive
//   values of K; `block` is KernelTable::int8_block.
struct Int8Weights {
  const int8_t* data;           // 64-byte aligned
  const int32_t* compensation;  // [panels * kPanel]: see Compensation
  const float* scales;          // [panels * kPanel]
  const float* bias;            // [panels * kPanel]; zeros where the layer has none
  int columns;                  // N
  int stride;                   // RoundUp(K, kDepthAlign)
};

struct FloatRows {
  const float* data;  // [rows, stride]
  int rows;
  int stride;  // floats, at least K
};

// Packed float weights [N, K]: [panels][kPanel / block][K][block], `block` being
// KernelTable::float_block.
struct FloatWeights {
  const float* data;  // 64-byte aligned
  const float* bias;  // [panels * kPanel]
  int columns;        // N
  int depth;          // K
};

// What a matrix product does with its result y: out = activation(y), or out += activation(y).
struct Output {
  float* data;  // [rows, stride]
  int stride;   // floats, at least N
  Activation activation;
  bool accumulate;
};

struct Candidate {
  int32_t token;
  float logit;
};

// Changes to the logits of one row, before the softmax. `penalties` of a token: 0 forbids it
// (logit -inf); p > 0 divides a positive logit by p and multiplies a negative one by it.
struct LogitEdits {
  const int32_t* tokens = nullptr;   // [count], ascending, each in [0, N)
  const float* penalties = nullptr;  // [count]
  int count = 0;
};

// The keys and values that queries of one head attend to. Those of position t lie `key` and
// `value` bytes behind entries[t]: floats [dim], or int8 [RoundUp(dim, kDepthAlign)] as
// quantize_rows makes them, with their scales `key_scale` and `value_scale` bytes behind
// entries[t].
struct KeyValues {
  const char* const* entries;  // [length]
  int length;                  // >= 1
  ptrdiff_t key;
  ptrdiff_t value;
  ptrdiff_t key_scale;  // only int8
  ptrdiff_t value_scale;
};

// A query of one head [dim]; `scores` [RoundUp(length, 16)] receives the weights of the positions,
// `out` [dim] their sum of values.
struct AttentionQuery {
  const float* query;
  float* scores;
  float* out;
};

// What the output projection keeps of a row instead of its logits. `LogitRow` holds what is asked
// and the running result; `ProjectBegin` fills the result fields.
struct LogitRow {
  alignas(64) float sums[16];  // of exp(logit - maximum) in this segment, by lane
  float maximum;               // of the logits of this segment so far
  float threshold;             // logit of the last candidate once `top` are found, else -inf
  float wanted_logit;          // logit of `wanted`, -inf until it is seen
  int next_edit;               // first of `edits` that lies in panels to come
  int count;                   // candidates found
  int top;                     // candidates to keep, >= 0
  int wanted;                  // token whose logit is asked for, or -1
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
  // XORed into every byte of int8 rows: 0x80 where the product wants unsigned rows, else 0.
  uint8_t row_flip;
  // Columns that a tile of the product is wide: they are adjacent in packed weights, so
  // that a tile reads memory from one end to the other. Divides kPanel.
  int int8_block;
  int float_block;
  Compensation compensation;

  // Symmetric int8 of each row: scale = absmax / 127, data = x * (127 / absmax) rounded half to
  // even. A row whose absmax is below 1e-30 becomes zeros with scale 1; a row with an infinity or
  // NaN becomes zeros with scale NaN, so that the fault reaches the output.
  // x [rows, x_stride] -> data [rows, RoundUp(columns, kDepthAlign)], scales [rows].
  void (*quantize_rows)(const float* x, int rows, int columns, int x_stride, int8_t* data,
                        float* scales);
  // Layer normalisation over `columns`: (x - mean) / sqrt(variance + epsilon) * gamma + beta.
  // x and y [rows, columns], which may be the same.
  void (*layer_norm)(const float* x, int rows, int columns, const float* gamma, const float* beta,
                     float epsilon, float* y);
  // Both in one sweep; `scratch` [columns].
  void (*layer_norm_quantize)(const float* x, int rows, int columns, const float* gamma,
                              const float* beta, float epsilon, float* scratch, int8_t* data,
                              float* scales);
  // x = activation(x), [count].
  void (*activate)(Activation activation, float* x, int count);
  // x = exp(x), [count]; relative error below 2e-7, 0 below -87.3.
  void (*exp)(float* x, int count);

  // Products with the transposed weights over panels [first, last): y = rows * scales x weights +
  // bias. A row is read whole before its output is written, panel by panel.
  void (*gemm_int8)(const Int8Rows& a, const Int8Weights& w, int first, int last,
                    const Output& out);
  void (*gemm_float)(const FloatRows& a, const FloatWeights& w, int first, int last,
                     const Output& out);

  // The same, reduced at once to what beam search needs. `bias` [panels * kPanel] replaces that of
  // the weights: -inf forbids a token and must stand behind column N. Segments [first, last) of
  // kSegmentPanels panels each, ascending; `rows` [a.rows]; `sums` [segments, a.rows] receives
  // the entries of the segments done. Candidates continue from what `rows` already holds.
  void (*project_int8)(const Int8Rows& a, const Int8Weights& w, const float* bias, int first,
                       int last, LogitRow* rows, SegmentSum* sums);
  void (*project_float)(const FloatRows& a, const FloatWeights& w, const float* bias, int first,
                        int last, LogitRow* rows, SegmentSum* sums);
  // log of the sum of exp(logits) of a row: `sums` [segments] with a stride of `stride` entries.
  float (*log_sum_exp)(const SegmentSum* sums, int segments, int stride);

  // Attention of `count` queries, of one head, over the same keys and values: softmax(scale * query
  // . key_t) over t, then the weighted sum of values. Each result depends only on its query; four
  // queries together cost little more than two by themselves.
  void (*attend_float)(const AttentionQuery* queries, int count, const KeyValues& cache, int dim,
                       float scale);
  void (*attend_int8)(const AttentionQuery* queries, int count, const KeyValues& cache, int dim,
                      float scale);
};

// The kernels of an instruction set that this processor has. Thread-safe.
const KernelTable& GetKernels(Isa isa);

// Makes a row ready for its first segment; keeps `top`, `wanted`, `candidates`, `logits`, `edits`.
void ProjectBegin(LogitRow* row);

// log(x) for x >= 0 from operations that IEEE 754 fixes, so that it is the same on every machine.
double Log(double x);

}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_KERNELS_H_
