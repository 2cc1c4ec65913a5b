#include "memory/cpu_features.h"

#include <cpuid.h>
#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

namespace tess::memory {
namespace {

enum Word : uint8_t {
  k1Edx,
  k1Ecx,
  k7Ebx,
  k7Ecx,
  k7Edx,
  k71Eax,
  k71Ebx,
  k71Ecx,
  k71Edx,
  kD1Eax,
  k80000001Edx,
  k80000001Ecx,
  k80000008Ebx,
  k14Ebx,
  k19Ebx,
  kWordCount
};

// The bytes: no pointers, fixed size, little-endian.
struct Features {
  char magic[4] = {'C', 'P', 'U', '1'};
  uint32_t words[kWordCount] = {};
  uint64_t xcr0 = 0;
  uint32_t xsave_size = 0;             // standard format, enabled components
  uint32_t component_offset[32] = {};  // standard format
  uint32_t reserved = 0;
};
static_assert(sizeof(Features) == 4 + kWordCount * 4 + 8 + 4 + 128 + 4);

struct Named {
  Word word;
  uint8_t bit;
  const char* name;
};

// What a program can use in user mode. Features of the kernel or of the virtual machine monitor are
// of no concern, nor is AMX: who has not asked for it cannot use it, and who has stays at home.
constexpr Named kNamed[] = {
    {k1Edx, 0, "x87"},
    {k1Edx, 4, "TSC"},
    {k1Edx, 8, "CMPXCHG8B"},
    {k1Edx, 15, "CMOV"},
    {k1Edx, 19, "CLFLUSH"},
    {k1Edx, 23, "MMX"},
    {k1Edx, 24, "FXSR"},
    {k1Edx, 25, "SSE"},
    {k1Edx, 26, "SSE2"},
    {k1Ecx, 0, "SSE3"},
    {k1Ecx, 1, "PCLMULQDQ"},
    {k1Ecx, 9, "SSSE3"},
    {k1Ecx, 12, "FMA"},
    {k1Ecx, 13, "CMPXCHG16B"},
    {k1Ecx, 19, "SSE4.1"},
    {k1Ecx, 20, "SSE4.2"},
    {k1Ecx, 22, "MOVBE"},
    {k1Ecx, 23, "POPCNT"},
    {k1Ecx, 25, "AES"},
    {k1Ecx, 26, "XSAVE"},
    {k1Ecx, 27, "OSXSAVE"},
    {k1Ecx, 28, "AVX"},
    {k1Ecx, 29, "F16C"},
    {k1Ecx, 30, "RDRAND"},
    {k7Ebx, 0, "FSGSBASE"},
    {k7Ebx, 3, "BMI1"},
    {k7Ebx, 4, "HLE"},
    {k7Ebx, 5, "AVX2"},
    {k7Ebx, 8, "BMI2"},
    {k7Ebx, 9, "ERMS"},
    {k7Ebx, 11, "RTM"},
    {k7Ebx, 14, "MPX"},
    {k7Ebx, 16, "AVX512F"},
    {k7Ebx, 17, "AVX512DQ"},
    {k7Ebx, 18, "RDSEED"},
    {k7Ebx, 19, "ADX"},
    {k7Ebx, 21, "AVX512IFMA"},
    {k7Ebx, 23, "CLFLUSHOPT"},
    {k7Ebx, 24, "CLWB"},
    {k7Ebx, 26, "AVX512PF"},
    {k7Ebx, 27, "AVX512ER"},
    {k7Ebx, 28, "AVX512CD"},
    {k7Ebx, 29, "SHA"},
    {k7Ebx, 30, "AVX512BW"},
    {k7Ebx, 31, "AVX512VL"},
    {k7Ecx, 0, "PREFETCHWT1"},
    {k7Ecx, 1, "AVX512VBMI"},
    {k7Ecx, 4, "OSPKE"},
    {k7Ecx, 5, "WAITPKG"},
    {k7Ecx, 6, "AVX512VBMI2"},
    {k7Ecx, 8, "GFNI"},
    {k7Ecx, 9, "VAES"},
    {k7Ecx, 10, "VPCLMULQDQ"},
    {k7Ecx, 11, "AVX512VNNI"},
    {k7Ecx, 12, "AVX512BITALG"},
    {k7Ecx, 14, "AVX512VPOPCNTDQ"},
    {k7Ecx, 22, "RDPID"},
    {k7Ecx, 25, "CLDEMOTE"},
    {k7Ecx, 27, "MOVDIRI"},
    {k7Ecx, 28, "MOVDIR64B"},
    {k7Edx, 2, "AVX5124VNNIW"},
    {k7Edx, 3, "AVX5124FMAPS"},
    {k7Edx, 4, "FSRM"},
    {k7Edx, 8, "AVX512VP2INTERSECT"},
    {k7Edx, 14, "SERIALIZE"},
    {k7Edx, 23, "AVX512FP16"},
    {k71Eax, 0, "SHA512"},
    {k71Eax, 1, "SM3"},
    {k71Eax, 2, "SM4"},
    {k71Eax, 4, "AVX-VNNI"},
    {k71Eax, 5, "AVX512BF16"},
    {k71Eax, 7, "CMPCCXADD"},
    {k71Eax, 23, "AVX-IFMA"},
    {k71Edx, 4, "AVX-VNNI-INT8"},
    {k71Edx, 5, "AVX-NE-CONVERT"},
    {k71Edx, 10, "AVX-VNNI-INT16"},
    {k71Edx, 14, "PREFETCHI"},
    {k71Edx, 19, "AVX10"},
    {k71Edx, 21, "APX"},
    {kD1Eax, 0, "XSAVEOPT"},
    {kD1Eax, 1, "XSAVEC"},
    {kD1Eax, 2, "XGETBV1"},
    {k80000001Edx, 27, "RDTSCP"},
    {k80000001Edx, 30, "3DNOWEXT"},
    {k80000001Edx, 31, "3DNOW"},
    {k80000001Ecx, 0, "LAHF"},
    {k80000001Ecx, 5, "LZCNT"},
    {k80000001Ecx, 6, "SSE4A"},
    {k80000001Ecx, 8, "PREFETCHW"},
    {k80000001Ecx, 11, "XOP"},
    {k80000001Ecx, 16, "FMA4"},
    {k80000001Ecx, 21, "TBM"},
    {k80000001Ecx, 29, "MONITORX"},
    {k80000008Ebx, 0, "CLZERO"},
};

constexpr uint64_t kAmxState = uint64_t{3} << 17;  // XTILECFG, XTILEDATA

struct Regs {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Regs leaf(uint32_t number, uint32_t sub = 0) {
  Regs r;
  if (__get_cpuid_max(number & 0x80000000u, nullptr) >= number) {
    __cpuid_count(number, sub, r.eax, r.ebx, r.ecx, r.edx);
  }
  return r;
}

bool parse(std::string_view bytes, Features& features) {
  const Features blank;
  if (bytes.size() != sizeof(Features) ||
      std::memcmp(bytes.data(), blank.magic, sizeof(blank.magic)) != 0) {
    return false;
  }
  std::memcpy(&features, bytes.data(), sizeof(features));
  return true;
}

}  // namespace

std::string host_cpu_features() {
  Features f;
  const Regs l1 = leaf(1), l7 = leaf(7), l71 = l7.eax >= 1 ? leaf(7, 1) : Regs{};
  const Regs e1 = leaf(0x80000001), e8 = leaf(0x80000008);
  f.words[k1Edx] = l1.edx;
  f.words[k1Ecx] = l1.ecx;
  f.words[k7Ebx] = l7.ebx;
  f.words[k7Ecx] = l7.ecx;
  f.words[k7Edx] = l7.edx;
  f.words[k71Eax] = l71.eax;
  f.words[k71Ebx] = l71.ebx;
  f.words[k71Ecx] = l71.ecx;
  f.words[k71Edx] = l71.edx;
  f.words[k80000001Edx] = e1.edx;
  f.words[k80000001Ecx] = e1.ecx;
  f.words[k80000008Ebx] = e8.ebx;
  if ((l1.ecx & (1u << 27)) != 0) {
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    f.xcr0 = (uint64_t{high} << 32) | low;
    f.words[kD1Eax] = leaf(0xd, 1).eax;
    f.xsave_size = leaf(0xd, 0).ebx;
    for (uint32_t i = 2; i < 32; ++i) {
      if ((f.xcr0 >> i & 1) != 0) {
        f.component_offset[i] = leaf(0xd, i).ebx;
      }
    }
  }
  return std::string(reinterpret_cast<const char*>(&f), sizeof(f));
}

std::string explain_missing(std::string_view process, std::string_view host) {
  Features p, h;
  if (!parse(process, p) || !parse(host, h)) {
    return "the two nodes describe their processors in different ways: run the same version of "
           "Tessera on both";
  }
  std::vector<std::string> missing;
  for (const Named& named : kNamed) {
    if ((p.words[named.word] >> named.bit & 1) != 0 &&
        (h.words[named.word] >> named.bit & 1) == 0) {
      missing.emplace_back(named.name);
    }
  }
  const uint64_t states = p.xcr0 & ~kAmxState;
  if ((states & ~h.xcr0) != 0) {
    missing.push_back(fmt::format("register state {:#x} (XCR0)", states & ~h.xcr0));
  }
  if (!missing.empty()) {
    return fmt::format("its processor lacks what the process may be using: {}",
                       fmt::join(missing, ", "));
  }
  for (size_t i = 0; i < 32; ++i) {
    if ((states >> i & 1) != 0 && p.component_offset[i] != h.component_offset[i]) {
      return fmt::format("its processor keeps register state {} at another place (XSAVE layout)",
                         i);
    }
  }
  return {};
}

}  // namespace tess::memory
