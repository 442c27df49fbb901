// Attention of one query over keys and values anywhere in memory. Include after rows-inl.h.
#ifndef KERAS_MTL_KERNELS_ATTENTION_INL_H_
#define KERAS_MTL_KERNELS_ATTENTION_INL_H_

#include "kernels/math-inl.h"
#include "kernels/rows-inl.h"
#include "kernels/unroll-inl.h"

namespace keras_mtl {
namespace {

// Positions wait for memory: keys and values of a batch are more than the caches hold, and lie apart.
// So values are asked for while keys are read, and the next head's keys while values are read.
inline void Prefetch64(const float* p) {
  for (int line = 0; line < 64; line += 16) __builtin_prefetch(p + line);
}

// out[0, 16 * kVectors) of the weighted sum, in registers over all positions.
template <int kVectors>
inline void WeightedSum(const float* weights, const float* const* rows, ptrdiff_t offset,
                        ptrdiff_t next_keys, int length, float* out) {
  F32 sums[kVectors];
  Unroll<kVectors>([&](auto v) KERAS_MTL_ALWAYS_INLINE { sums[v] = Zero(); });
  for (int t = 0; t < length; ++t) {
    const float* value = rows[t] + offset;
    if (kVectors == 4) Prefetch64(rows[t] + next_keys);
    const F32 weight = Set(weights[t]);
    Unroll<kVectors>([&](auto v) KERAS_MTL_ALWAYS_INLINE {
      sums[v] = Fma(weight, Load(value + 16 * v), sums[v]);
    });
  }
  Unroll<kVectors>([&](auto v) KERAS_MTL_ALWAYS_INLINE { Store(out + 16 * v, sums[v]); });
}

void Attend(const float* query, const float* const* rows, ptrdiff_t key_offset,
            ptrdiff_t value_offset, int length, int dim, float scale, float* scores, float* out) {
  if (dim == 64) {  // the head of every size in the catalogue but tiny: the query in registers
    const F32 q0 = Load(query), q1 = Load(query + 16);
    const F32 q2 = Load(query + 32), q3 = Load(query + 48);
    for (int t = 0; t < length; ++t) {
      const float* key = rows[t] + key_offset;
      Prefetch64(rows[t] + value_offset);
      F32 sum = Mul(q0, Load(key));
      sum = Fma(q1, Load(key + 16), sum);
      sum = Fma(q2, Load(key + 32), sum);
      sum = Fma(q3, Load(key + 48), sum);
      scores[t] = ReduceAdd(sum) * scale;
    }
  } else {
    for (int t = 0; t < length; ++t) {
      const float* key = rows[t] + key_offset;
      F32 sum = Zero();
      ForEachVector(
          dim, [&](int i, int n) { sum = Fma(LoadUpTo(query + i, n), LoadUpTo(key + i, n), sum); });
      scores[t] = ReduceAdd(sum) * scale;
    }
  }

  // Positions behind the end, up to a multiple of 16, get weight 0.
  const int padded = RoundUp(length, 16);
  for (int t = length; t < padded; ++t) scores[t] = kLowest;
  F32 top = Load(scores);
  for (int t = 16; t < padded; t += 16) top = Max(top, Load(scores + t));
  const F32 maximum = Set(ReduceMax(top));
  F32 total = Zero();
  for (int t = 0; t < padded; t += 16) {
    const F32 e = Exp(Sub(Load(scores + t), maximum));
    total = Add(total, e);
    Store(scores + t, e);
  }
  const F32 inverse = Set(1.0f / ReduceAdd(total));
  for (int t = 0; t < padded; t += 16) Store(scores + t, Mul(Load(scores + t), inverse));

  int i = 0;
  for (; i + 64 <= dim; i += 64) {
    WeightedSum<4>(scores, rows, value_offset + i, key_offset + dim + i, length, out + i);
  }
  for (; i + 16 <= dim; i += 16) {
    WeightedSum<1>(scores, rows, value_offset + i, 0, length, out + i);
  }
  if (i < dim) {
    F32 sum = Zero();
    for (int t = 0; t < length; ++t) {
      sum = Fma(Set(scores[t]), LoadN(rows[t] + value_offset + i, dim - i), sum);
    }
    StoreN(out + i, sum, dim - i);
  }
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_ATTENTION_INL_H_
