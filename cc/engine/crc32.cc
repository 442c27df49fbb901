#include "engine/crc32.h"

#include <array>
#include <cstring>

namespace keras_mtl {
namespace {

// Eight tables process eight bytes per step ("slicing by 8"). With a single table, the latency of
// lookups limits the speed to a fifth.
struct Tables {
  std::array<std::array<uint32_t, 256>, 8> rows;

  Tables() {
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) ? 0xEDB88320u : 0u);
      rows[0][i] = value;
    }
    for (uint32_t i = 0; i < 256; ++i) {
      for (int row = 1; row < 8; ++row) {
        const uint32_t before = rows[row - 1][i];
        rows[row][i] = (before >> 8) ^ rows[0][before & 255];
      }
    }
  }
};

}  // namespace

uint32_t Crc32(const void* data, size_t size) {
  static const Tables tables;
  const auto& t = tables.rows;
  const auto* bytes = static_cast<const unsigned char*>(data);
  uint32_t crc = 0xFFFFFFFFu;
  for (; size >= 8; size -= 8, bytes += 8) {
    uint32_t low, high;
    std::memcpy(&low, bytes, 4);
    std::memcpy(&high, bytes + 4, 4);
    low ^= crc;
    crc = t[7][low & 255] ^ t[6][(low >> 8) & 255] ^ t[5][(low >> 16) & 255] ^ t[4][low >> 24] ^
          t[3][high & 255] ^ t[2][(high >> 8) & 255] ^ t[1][(high >> 16) & 255] ^ t[0][high >> 24];
  }
  for (; size > 0; --size, ++bytes) crc = (crc >> 8) ^ t[0][(crc ^ *bytes) & 255];
  return crc ^ 0xFFFFFFFFu;
}

}  // namespace keras_mtl
