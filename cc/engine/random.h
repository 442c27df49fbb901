// Random numbers that depend only on a key and a counter.
#ifndef KERAS_MTL_ENGINE_RANDOM_H_
#define KERAS_MTL_ENGINE_RANDOM_H_

#include <cstdint>

namespace keras_mtl {

// The first of the four words of Philox4x64-10, equal to
// numpy.random.Philox(key=[key0, key1], counter=[counter0, counter1, 0, 0]).random_raw().
// (NumPy increments the counter before the first draw.)
// Reference: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
inline uint64_t Philox(uint64_t key0, uint64_t key1, uint64_t counter0, uint64_t counter1) {
  uint64_t c[4] = {counter0 + 1, counter1 + (counter0 + 1 == 0), 0, 0};
  for (int round = 0; round < 10; ++round) {
    const unsigned __int128 first = static_cast<unsigned __int128>(0xD2E7470EE14C6C93u) * c[0];
    const unsigned __int128 second = static_cast<unsigned __int128>(0xCA5A826395121157u) * c[2];
    const uint64_t next[4] = {
        static_cast<uint64_t>(second >> 64) ^ c[1] ^ key0, static_cast<uint64_t>(second),
        static_cast<uint64_t>(first >> 64) ^ c[3] ^ key1, static_cast<uint64_t>(first)};
    for (int i = 0; i < 4; ++i) c[i] = next[i];
    key0 += 0x9E3779B97F4A7C15u;
    key1 += 0xBB67AE8584CAA73Bu;
  }
  return c[0];
}

// Uniform in [0, 1): the upper 53 bits.
inline double Uniform(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1.0p-53; }

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_RANDOM_H_
