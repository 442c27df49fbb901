// Attention of one query over keys and values anywhere in memory. Include after rows-inl.h, and
// after the definition of kRowFlip.
#ifndef KERAS_MTL_KERNELS_ATTENTION_INL_H_
#define KERAS_MTL_KERNELS_ATTENTION_INL_H_

#include "kernels/math-inl.h"
#include "kernels/rows-inl.h"
#include "kernels/unroll-inl.h"

namespace keras_mtl {
namespace {

// Keys and values as floats. Of the elements behind the end of a row, up to a multiple of 16,
// LoadUpTo gives 0.
struct FloatElements {
  static constexpr int kBytes = sizeof(float);
  static int Padded(int dim) { return dim; }
  static F32 Load(const char* p, int i) {
    return keras_mtl::Load(reinterpret_cast<const float*>(p) + i);
  }
  static F32 LoadUpTo(const char* p, int i, int n) {
    return keras_mtl::LoadUpTo(reinterpret_cast<const float*>(p) + i, n);
  }
  static float Scale(const char* /*p*/, float x) { return x; }
};

struct Int8Elements {
  static constexpr int kBytes = 1;
  static int Padded(int dim) { return RoundUp(dim, kDepthAlign); }
  static F32 Load(const char* p, int i) {
    return LoadInt8(reinterpret_cast<const int8_t*>(p) + i, kRowFlip);
  }
  static F32 LoadUpTo(const char* p, int i, int /*n*/) { return Load(p, i); }
  static float Scale(const char* p, float x) { return *reinterpret_cast<const float*>(p) * x; }
};

// Positions wait for memory: keys and values of a batch are more than the caches hold, and lie
// apart. So values are asked for while keys are read, and the next head's keys while values are
// read.
template <class Elements>
inline void Prefetch64(const char* p) {
  for (int line = 0; line < 64 * Elements::kBytes; line += 64) __builtin_prefetch(p + line);
}

// out[0, 16 * kVectors) of the weighted sum of elements from i on, in registers over all positions.
template <class Elements, int kVectors>
inline void WeightedSum(const float* weights, const KeyValues& cache, int i, ptrdiff_t next_keys,
                        float* out) {
  F32 sums[kVectors];
  Unroll<kVectors>([&](auto v) KERAS_MTL_ALWAYS_INLINE { sums[v] = Zero(); });
  for (int t = 0; t < cache.length; ++t) {
    const char* entry = cache.entries[t];
    if (kVectors == 4) Prefetch64<Elements>(entry + next_keys);
    const F32 weight = Set(Elements::Scale(entry + cache.value_scale, weights[t]));
    Unroll<kVectors>([&](auto v) KERAS_MTL_ALWAYS_INLINE {
      sums[v] = Fma(weight, Elements::Load(entry + cache.value, i + 16 * v), sums[v]);
    });
  }
  Unroll<kVectors>([&](auto v) KERAS_MTL_ALWAYS_INLINE { Store(out + 16 * v, sums[v]); });
}

template <class Elements>
void Attend(const float* query, const KeyValues& cache, int dim, float scale, float* scores,
            float* out) {
  const int length = cache.length;
  if (dim == 64) {  // the head of every size in the catalogue but tiny: the query in registers
    const F32 q0 = Load(query), q1 = Load(query + 16);
    const F32 q2 = Load(query + 32), q3 = Load(query + 48);
    for (int t = 0; t < length; ++t) {
      const char* entry = cache.entries[t];
      const char* key = entry + cache.key;
      Prefetch64<Elements>(entry + cache.value);
      F32 sum = Mul(q0, Elements::Load(key, 0));
      sum = Fma(q1, Elements::Load(key, 16), sum);
      sum = Fma(q2, Elements::Load(key, 32), sum);
      sum = Fma(q3, Elements::Load(key, 48), sum);
      scores[t] = Elements::Scale(entry + cache.key_scale, ReduceAdd(sum) * scale);
    }
  } else {
    for (int t = 0; t < length; ++t) {
      const char* entry = cache.entries[t];
      F32 sum = Zero();
      ForEachVector(dim, [&](int i, int n) {
        sum = Fma(LoadUpTo(query + i, n), Elements::LoadUpTo(entry + cache.key, i, n), sum);
      });
      scores[t] = Elements::Scale(entry + cache.key_scale, ReduceAdd(sum) * scale);
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
    const ptrdiff_t next_keys = cache.key + Elements::kBytes * (Elements::Padded(dim) + i);
    WeightedSum<Elements, 4>(scores, cache, i, next_keys, out + i);
  }
  for (; i + 16 <= dim; i += 16) WeightedSum<Elements, 1>(scores, cache, i, 0, out + i);
  if (i < dim) {
    F32 sum = Zero();
    for (int t = 0; t < length; ++t) {
      const char* entry = cache.entries[t];
      const F32 weight = Set(Elements::Scale(entry + cache.value_scale, scores[t]));
      sum = Fma(weight, Elements::LoadUpTo(entry + cache.value, i, dim - i), sum);
    }
    StoreN(out + i, sum, dim - i);
  }
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_ATTENTION_INL_H_
