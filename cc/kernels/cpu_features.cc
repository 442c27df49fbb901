#include "kernels/cpu_features.h"

#if defined(__x86_64__)
#include <cpuid.h>

#include <cstdint>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace keras_mtl {
namespace {

#if defined(__x86_64__)

// Bit numbers: Intel SDM volume 2A, instruction CPUID, leaves 1 and 7; XCR0: volume 1,
// section 13.3.
constexpr bool Bit(uint64_t word, int index) { return ((word >> index) & 1) != 0; }

// The state that the operating system saves on a context switch. Valid only if OSXSAVE is set.
// Uses assembler because the intrinsic _xgetbv requires -mxsave for the whole file.
uint64_t ReadXcr0() {
  uint32_t low = 0;
  uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

// Since Linux 5.16, a process must request permission to use the 8 KiB of tile registers. Also
// returns false if this library was built without AMX kernels.
bool RequestAmxPermission() {
#if defined(KERAS_MTL_AMX) && defined(__linux__) && defined(SYS_arch_prctl)
  constexpr long kArchReqXcompPerm = 0x1023;  // ARCH_REQ_XCOMP_PERM of asm/prctl.h
  constexpr long kXfeatureXtiledata = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtiledata) == 0;
#else
  return false;
#endif
}

CpuFeatures Detect() {
  CpuFeatures features;
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return features;
  features.sse4_1 = Bit(ecx, 19);
  const bool has_fma = Bit(ecx, 12);
  const uint64_t xcr0 = Bit(ecx, 27) ? ReadXcr0() : 0;
  const bool saves_avx = (xcr0 & 0x6) == 0x6;          // SSE and AVX
  const bool saves_avx512 = (xcr0 & 0xE6) == 0xE6;     // and opmask, ZMM_Hi256, Hi16_ZMM
  const bool saves_amx = (xcr0 & 0x60000) == 0x60000;  // TILECFG and TILEDATA
  features.fma = saves_avx && has_fma;

  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return features;
  const uint32_t subleaves = eax;
  features.avx2 = saves_avx && Bit(ebx, 5);
  features.avx512f = saves_avx512 && Bit(ebx, 16);
  features.avx512bw = saves_avx512 && Bit(ebx, 30);
  features.avx512vl = saves_avx512 && Bit(ebx, 31);
  features.avx512_vnni = saves_avx512 && Bit(ecx, 11);
  const bool has_amx_int8 = Bit(edx, 24) && Bit(edx, 25);  // AMX-TILE and AMX-INT8
  features.amx_int8 = saves_amx && has_amx_int8 && RequestAmxPermission();
  if (subleaves >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) {
    features.avx512_bf16 = saves_avx512 && Bit(eax, 5);
  }
  return features;
}

#else

CpuFeatures Detect() { return CpuFeatures(); }

#endif  // defined(__x86_64__)

}  // namespace

const CpuFeatures& GetCpuFeatures() {
  static const CpuFeatures features = Detect();
  return features;
}

Isa BestIsa(const CpuFeatures& features) {
  const bool avx2 = features.avx2 && features.fma;
  const bool vnni =
      avx2 && features.avx512f && features.avx512bw && features.avx512vl && features.avx512_vnni;
  // The AMX kernels also use AVX-512.
  if (vnni && features.amx_int8) return Isa::kAmx;
  if (vnni) return Isa::kVnni;
  if (avx2) return Isa::kAvx2;
  return Isa::kGeneric;
}

const char* IsaName(Isa isa) {
  switch (isa) {
    case Isa::kAmx:
      return "amx";
    case Isa::kVnni:
      return "vnni";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kGeneric:
      break;
  }
  return "generic";
}

}  // namespace keras_mtl
