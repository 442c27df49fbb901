// Runs the machine code of the AMX kernels on a processor with AVX-512 VNNI but without AMX. A tile
// instruction then raises SIGILL, and the handler below executes it on software_tiles.h. The C++
// tests link this file, so that they include Isa::kAmx wherever its other instructions exist. On a
// processor with AMX, the handler is not installed.
//
// The linker's --wrap replaces keras_mtl::GetCpuFeatures by __wrap_...
#if defined(__x86_64__) && defined(__linux__)

#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/cpu_features.h"
#include "tests/software_tiles.h"

namespace keras_mtl::testing {
namespace {

// Encodings: Intel SDM volume 2, section 2.3.5 "The VEX Prefix", section 2.1.5 "Addressing-Mode
// Encoding of ModR/M and SIB Bytes", and the pages of the instructions.
class TileInstruction {
 public:
  TileInstruction(const uint8_t* code, const greg_t* registers)
      : code_(code), registers_(registers) {}

  // Executes the instruction. Returns false if the kernels do not use this instruction.
  bool Run() {
    if (code_[0] != 0xC4 || (code_[1] & 0x1F) != 2) return false;  // VEX in three bytes, map 0F38
    if ((code_[2] & 0x84) != 0) return false;                      // VEX.W0, 128 bits
    const int prefix = code_[2] & 3;                               // 0: none, 1: 66, 2: F3, 3: F2
    const int third = ~(code_[2] >> 3) & 0xF;
    const bool memory = code_[4] >> 6 != 3;
    const int tile = Extended(0x80, code_[4] >> 3);
    const int other = Extended(0x20, code_[4]);
    length_ = 5;
    if (memory) ReadAddress();
    if (tile >= 8 || (!memory && other >= 8) || third >= 8) return false;
    switch (code_[3] << 8 | prefix << 4 | (memory ? 1 : 0)) {
      case 0x4901:
        if (tile != 0 || third != 0) return false;
        SoftwareTiles::Configure(reinterpret_cast<const void*>(base_));
        return true;
      case 0x4900:
        if (code_[4] != 0xC0 || third != 0) return false;
        SoftwareTiles::Release();
        return true;
      case 0x4B31:
        if (!has_sib_ || third != 0) return false;
        SoftwareTiles::Load(tile, reinterpret_cast<const void*>(base_), stride_);
        return true;
      case 0x4B21:
        if (!has_sib_ || third != 0) return false;
        SoftwareTiles::Store(tile, reinterpret_cast<void*>(base_), stride_);
        return true;
      case 0x5E10:  // TDPBUSD: ModRM.reg += ModRM.rm, unsigned, x VEX.vvvv, signed
        SoftwareTiles::Dot(tile, other, third);
        return true;
      default:
        return false;
    }
  }

  int length() const { return length_; }

 private:
  // Returns a register's number: three bits, and the inverted fourth at `mask` in the prefix.
  int Extended(int mask, int bits) const { return (code_[1] & mask ? 0 : 8) | (bits & 7); }

  uint64_t Register(int number) const {
    static constexpr int kPlaces[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                      REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                      REG_R12, REG_R13, REG_R14, REG_R15};
    return static_cast<uint64_t>(registers_[kPlaces[number]]);
  }

  // Sets base_ to base + displacement and stride_ to index * scale (of tile loads and stores).
  void ReadAddress() {
    const int mode = code_[4] >> 6;
    int base = Extended(0x20, code_[4]);
    has_sib_ = (code_[4] & 7) == 4;
    if (has_sib_) {
      const uint8_t sib = code_[length_++];
      const int index = Extended(0x40, sib >> 3);
      if (index != 4) stride_ = static_cast<ptrdiff_t>(Register(index) << (sib >> 6));
      base = Extended(0x20, sib);
    }
    const bool no_base = mode == 0 && (base & 7) == 5;
    int64_t displacement = 0;
    if (mode == 1) {
      displacement = static_cast<int8_t>(code_[length_++]);
    } else if (mode == 2 || no_base) {
      int32_t word;
      std::memcpy(&word, code_ + length_, sizeof(word));
      length_ += 4;
      displacement = word;
    }
    base_ = static_cast<uint64_t>(displacement);
    if (!no_base) {
      base_ += Register(base);
    } else if (!has_sib_) {  // relative to the next instruction
      base_ += reinterpret_cast<uint64_t>(code_) + static_cast<uint64_t>(length_);
    }
  }

  const uint8_t* code_;
  const greg_t* registers_;
  int length_ = 0;
  bool has_sib_ = false;
  uint64_t base_ = 0;
  ptrdiff_t stride_ = 0;
};

void OnIllegalInstruction(int /*signal*/, siginfo_t* /*info*/, void* context) {
  greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  TileInstruction instruction(reinterpret_cast<const uint8_t*>(registers[REG_RIP]), registers);
  const int faults = SoftwareTiles::Faults();
  if (!instruction.Run() || SoftwareTiles::Faults() != faults) {
    static constexpr char kMessage[] = "illegal instruction or fault of a tile instruction\n";
    [[maybe_unused]] const ssize_t written = write(2, kMessage, sizeof(kMessage) - 1);
    abort();
  }
  registers[REG_RIP] += instruction.length();
}

CpuFeatures WithTiles(CpuFeatures features) {
  features.amx_int8 = true;
  if (BestIsa(features) != Isa::kAmx) {  // The kernels also use AVX-512.
    features.amx_int8 = false;
    return features;
  }
  struct sigaction action{};
  action.sa_sigaction = OnIllegalInstruction;
  action.sa_flags = SA_SIGINFO;
  if (sigaction(SIGILL, &action, nullptr) != 0) {
    std::perror("sigaction");
    std::exit(1);
  }
  SoftwareTiles::Emulate() = true;
  return features;
}

}  // namespace
}  // namespace keras_mtl::testing

extern "C" {

const keras_mtl::CpuFeatures& __real__ZN9keras_mtl14GetCpuFeaturesEv();

const keras_mtl::CpuFeatures& __wrap__ZN9keras_mtl14GetCpuFeaturesEv() {
  static const keras_mtl::CpuFeatures features = [] {
    const keras_mtl::CpuFeatures& real = __real__ZN9keras_mtl14GetCpuFeaturesEv();
    return real.amx_int8 ? real : keras_mtl::testing::WithTiles(real);
  }();
  return features;
}

}  // extern "C"

#endif  // defined(__x86_64__) && defined(__linux__)
