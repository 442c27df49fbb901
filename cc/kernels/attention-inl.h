// Attention of queries that share keys and values, which may lie anywhere in memory. Include after
// the definition of kRowFlip.
#ifndef KERAS_MTL_KERNELS_ATTENTION_INL_H_
#define KERAS_MTL_KERNELS_ATTENTION_INL_H_

#include "kernels/math-inl.h"
#include "kernels/rows-inl.h"
#include "kernels/unroll-inl.h"

namespace keras_mtl {
namespace {

// Keys and values as floats. LoadUpTo returns 0 for elements after the end of a row.
struct FloatElements {
  static constexpr int kBytes = sizeof(float);
  static int Padded(int dim) { return dim; }
  static F32 LoadUpTo(const char* p, int i, int n) {
    return keras_mtl::LoadUpTo(reinterpret_cast<const float*>(p) + i, n);
  }
  static float Scale(const char* /*p*/, float x) { return x; }
};

struct Int8Elements {
  static constexpr int kBytes = 1;
  static int Padded(int dim) { return RoundUp(dim, kDepthAlign); }
  static F32 LoadUpTo(const char* p, int i, int /*n*/) {
    return LoadInt8(reinterpret_cast<const int8_t*>(p) + i, kRowFlip);
  }
  static float Scale(const char* p, float x) { return *reinterpret_cast<const float*>(p) * x; }
};

// The keys and values of a batch exceed the caches and are not contiguous. To hide the latency of
// memory, values are prefetched while keys are read, and the next head's keys while values are
// read.
template <class Elements>
inline void Prefetch64(const char* p) {
  for (int line = 0; line < 64 * Elements::kBytes; line += 64) __builtin_prefetch(p + line);
}

// Products of queries and keys, four at a time: reducing four vectors of 16 lanes costs only 1.5
// times as much as reducing one. Four queries share a key, or one query uses four keys.
// kVectors: dim / 16 if it is a compile-time constant, else 0.
template <class Elements, int kQueries, int kVectors>
inline void KeyScores(const AttentionQuery* queries, const KeyValues& cache, int dim, float scale) {
  constexpr int kKeys = 4 / kQueries;
  for (int t = 0; t < cache.length; t += kKeys) {
    const char* entries[kKeys];
    F32 sums[kKeys][kQueries];
    Unroll<kKeys>([&](auto k) KERAS_MTL_ALWAYS_INLINE {
      // After the end, repeat the last key: there is room for its scores, and Softmax overwrites
      // them.
      entries[k] = cache.entries[t + k < cache.length ? t + k : cache.length - 1];
      Prefetch64<Elements>(entries[k] + cache.value);
      Unroll<kQueries>([&](auto q) KERAS_MTL_ALWAYS_INLINE { sums[k][q] = Zero(); });
    });
    const auto add = [&](int i, int n) KERAS_MTL_ALWAYS_INLINE {
      Unroll<kKeys>([&](auto k) KERAS_MTL_ALWAYS_INLINE {
        const F32 key = Elements::LoadUpTo(entries[k] + cache.key, i, n);
        Unroll<kQueries>([&](auto q) KERAS_MTL_ALWAYS_INLINE {
          sums[k][q] = Fma(LoadUpTo(queries[q].query + i, n), key, sums[k][q]);
        });
      });
    };
    if constexpr (kVectors > 0) {
      Unroll<kVectors>([&](auto v) KERAS_MTL_ALWAYS_INLINE { add(16 * v, 16); });
    } else {
      ForEachVector(dim, add);
    }
    float products[4];
    const F32* all = sums[0];
    ReduceAdd4(all[0], all[1], all[2], all[3], products);
    Unroll<kKeys>([&](auto k) KERAS_MTL_ALWAYS_INLINE {
      const char* key_scale = entries[k] + cache.key_scale;
      Unroll<kQueries>([&](auto q) KERAS_MTL_ALWAYS_INLINE {
        queries[q].scores[t + k] = Elements::Scale(key_scale, products[k * kQueries + q] * scale);
      });
    });
  }
}

// Turns scores [RoundUp(length, 16)] into weights; those after `length` become 0.
inline void Softmax(float* scores, int length) {
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
}

// Computes elements [i, i + 16 * kVectors) of the weighted sums, which stay in registers over all
// positions. The last vector has n lanes.
template <class Elements, int kQueries, int kVectors>
inline void WeightedSums(const AttentionQuery* queries, const KeyValues& cache, int i, int n,
                         ptrdiff_t next_keys) {
  F32 sums[kQueries][kVectors];
  Unroll<kQueries>([&](auto q) KERAS_MTL_ALWAYS_INLINE {
    Unroll<kVectors>([&](auto v) KERAS_MTL_ALWAYS_INLINE { sums[q][v] = Zero(); });
  });
  for (int t = 0; t < cache.length; ++t) {
    const char* entry = cache.entries[t];
    if (i % 64 == 0) Prefetch64<Elements>(entry + next_keys + Elements::kBytes * i);
    F32 values[kVectors];
    Unroll<kVectors>([&](auto v) KERAS_MTL_ALWAYS_INLINE {
      values[v] = Elements::LoadUpTo(entry + cache.value, i + 16 * v, v + 1 < kVectors ? 16 : n);
    });
    Unroll<kQueries>([&](auto q) KERAS_MTL_ALWAYS_INLINE {
      const F32 weight = Set(Elements::Scale(entry + cache.value_scale, queries[q].scores[t]));
      Unroll<kVectors>(
          [&](auto v) KERAS_MTL_ALWAYS_INLINE { sums[q][v] = Fma(weight, values[v], sums[q][v]); });
    });
  }
  Unroll<kQueries>([&](auto q) KERAS_MTL_ALWAYS_INLINE {
    Unroll<kVectors>([&](auto v) KERAS_MTL_ALWAYS_INLINE {
      StoreUpTo(queries[q].out + i + 16 * v, sums[q][v], v + 1 < kVectors ? 16 : n);
    });
  });
}

// The first `different` queries are distinct; the others repeat the last of them.
template <class Elements, int kQueries>
inline void AttendTogether(const AttentionQuery* queries, int different, const KeyValues& cache,
                           int dim, float scale) {
  if (dim == 64) {  // head_dim of every preset except tiny
    KeyScores<Elements, kQueries, 4>(queries, cache, dim, scale);
  } else {
    KeyScores<Elements, kQueries, 0>(queries, cache, dim, scale);
  }
  for (int q = 0; q < different; ++q) Softmax(queries[q].scores, cache.length);
  constexpr int kMaxVectors = kAttentionSums / kQueries < 4 ? kAttentionSums / kQueries : 4;
  const ptrdiff_t next_keys = cache.key + Elements::kBytes * Elements::Padded(dim);
  int i = 0;
  for (; i + 16 * kMaxVectors <= dim; i += 16 * kMaxVectors) {
    WeightedSums<Elements, kQueries, kMaxVectors>(queries, cache, i, 16, next_keys);
  }
  if (i == dim) return;
  const int last = (dim - 1) % 16 + 1;  // lanes of the last vector
  switch ((dim - i + 15) / 16) {
    case 1:
      return WeightedSums<Elements, kQueries, 1>(queries, cache, i, last, next_keys);
    case 2:
      return WeightedSums < Elements, kQueries,
             kMaxVectors<2 ? 1 : 2>(queries, cache, i, last, next_keys);
    case 3:
      return WeightedSums < Elements, kQueries,
             kMaxVectors<3 ? 1 : 3>(queries, cache, i, last, next_keys);
    case 4:
      return WeightedSums<Elements, kQueries, kMaxVectors>(queries, cache, i, last, next_keys);
  }
}

template <class Elements>
void Attend(const AttentionQuery* queries, int count, const KeyValues& cache, int dim,
            float scale) {
  for (; count > 2; queries += 4, count -= 4) {
    // Computing a third query twice costs less than a separate pass.
    const AttentionQuery four[4] = {queries[0], queries[1], queries[2], queries[count > 3 ? 3 : 2]};
    AttendTogether<Elements, 4>(four, count > 3 ? 4 : 3, cache, dim, scale);
  }
  if (count == 2) return AttendTogether<Elements, 2>(queries, 2, cache, dim, scale);
  if (count == 1) AttendTogether<Elements, 1>(queries, 1, cache, dim, scale);
}

}  // namespace
}  // namespace keras_mtl

#endif  // KERAS_MTL_KERNELS_ATTENTION_INL_H_
