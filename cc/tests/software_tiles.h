// The tile registers of AMX in plain C++. amx_test compiles the kernels for them, and
// amx_emulator.cc executes the machine code of the kernels on them. Counts the operations for which
// the processor would raise a fault: Intel SDM volume 2, instructions LDTILECFG, TILELOADD,
// TILESTORED, TDPBUSD, TILERELEASE.
#ifndef KERAS_MTL_TESTS_SOFTWARE_TILES_H_
#define KERAS_MTL_TESTS_SOFTWARE_TILES_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace keras_mtl::testing {

class SoftwareTiles {
 public:
  // Faults so far in this thread.
  static int& Faults() {
    static thread_local int faults = 0;
    return faults;
  }
  static bool Configured() { return State().configured; }
  // Whether amx_emulator.cc executes tile instructions on these registers.
  static bool& Emulate() {
    static bool emulate = false;
    return emulate;
  }
  // Tile multiplications so far in this thread.
  static int64_t& Dots() {
    static thread_local int64_t dots = 0;
    return dots;
  }

  static void Configure(const void* config) {
    uint8_t bytes[64];
    std::memcpy(bytes, config, sizeof(bytes));
    Registers& r = State();
    r = Registers();
    bool valid = bytes[0] == 1 && bytes[1] == 0;                            // palette, start row
    for (int i = 2; i < 16; ++i) valid = valid && bytes[i] == 0;            // reserved
    for (int i = 32; i < 48; ++i) valid = valid && bytes[i] == 0;           // row bytes, tiles 8-15
    for (int i = 48 + kTiles; i < 64; ++i) valid = valid && bytes[i] == 0;  // rows, tiles 8-15
    for (int t = 0; t < kTiles; ++t) {
      r.rows[t] = bytes[48 + t];
      r.row_bytes[t] = bytes[16 + 2 * t] + 256 * bytes[17 + 2 * t];
      valid = valid && r.rows[t] <= kRows && r.row_bytes[t] <= kRowBytes;
      valid = valid && (r.rows[t] == 0) == (r.row_bytes[t] == 0);
    }
    r.configured = valid;
    Expect(valid);
  }

  static void Release() { State() = Registers(); }

  static void Load(int tile, const void* base, ptrdiff_t stride) {
    Registers& r = State();
    if (!Usable(tile)) return;
    std::memset(r.data[tile], 0, sizeof(r.data[tile]));
    for (int i = 0; i < r.rows[tile]; ++i) {
      std::memcpy(r.data[tile][i], static_cast<const char*>(base) + i * stride, r.row_bytes[tile]);
    }
  }

  static void Store(int tile, void* base, ptrdiff_t stride) {
    const Registers& r = State();
    if (!Usable(tile)) return;
    for (int i = 0; i < r.rows[tile]; ++i) {
      std::memcpy(static_cast<char*>(base) + i * stride, r.data[tile][i], r.row_bytes[tile]);
    }
  }

  // sums += left x right, for unsigned left and signed right.
  static void Dot(int sums, int left, int right) {
    Registers& r = State();
    if (!Usable(sums) || !Usable(left) || !Usable(right)) return;
    const bool valid = sums != left && sums != right && left != right &&
                       r.rows[sums] == r.rows[left] && r.row_bytes[sums] == r.row_bytes[right] &&
                       r.row_bytes[sums] % 4 == 0 && r.row_bytes[left] % 4 == 0 &&
                       r.row_bytes[left] / 4 == r.rows[right];
    if (!Expect(valid)) return;
    ++Dots();
    for (int m = 0; m < r.rows[sums]; ++m) {
      for (int k = 0; k < r.rows[right]; ++k) {
        for (int n = 0; n < r.row_bytes[sums] / 4; ++n) {
          uint32_t sum;
          std::memcpy(&sum, r.data[sums][m] + 4 * n, sizeof(sum));
          for (int i = 0; i < 4; ++i) {
            const int x = r.data[left][m][4 * k + i];  // unsigned
            const int w = static_cast<int8_t>(r.data[right][k][4 * n + i]);
            sum += static_cast<uint32_t>(x * w);  // modulo 2^32
          }
          std::memcpy(r.data[sums][m] + 4 * n, &sum, sizeof(sum));
        }
      }
    }
  }

  // The interface of AmxTiles.
  template <int kTile>
  static void Load(const void* base, ptrdiff_t stride) {
    Load(kTile, base, stride);
  }
  template <int kTile>
  static void Store(void* base, ptrdiff_t stride) {
    Store(kTile, base, stride);
  }
  template <int kSums, int kRows, int kWeights>
  static void Dot() {
    Dot(kSums, kRows, kWeights);
  }

 private:
  static constexpr int kTiles = 8, kRows = 16, kRowBytes = 64;

  struct Registers {
    bool configured = false;
    int rows[kTiles] = {};
    int row_bytes[kTiles] = {};
    uint8_t data[kTiles][kRows][kRowBytes] = {};
  };

  static Registers& State() {
    static thread_local Registers registers;
    return registers;
  }
  static bool Expect(bool valid) {
    Faults() += !valid;
    return valid;
  }
  static bool Usable(int tile) { return Expect(State().configured && State().rows[tile] > 0); }
};

}  // namespace keras_mtl::testing

#endif  // KERAS_MTL_TESTS_SOFTWARE_TILES_H_
