#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace tensometer {

// X(name): narrowest first. A new instruction set is a row here, a line in CMakeLists.txt and a branch in simd.hpp.
#if defined(__x86_64__)
#define TENSOMETER_ISAS(X) X(baseline) X(avx2) X(avx512)
#else
#define TENSOMETER_ISAS(X) X(neon)
#endif

#define TENSOMETER_ROW(name)                              \
  extern const BlockKernels block_kernels_##name;         \
  extern const HistogramKernels histogram_kernels_##name; \
  extern const PairKernels pair_kernels_##name;           \
  extern const UniformKernels uniform_kernels_##name;
TENSOMETER_ISAS(TENSOMETER_ROW)
#undef TENSOMETER_ROW

namespace {

#if defined(__x86_64__)
// Every feature that -march=x86-64-v3 and -v4 let the compiler use, and the registers the kernel must save. Read by hand:
// __builtin_cpu_supports of Clang 14 knows neither f16c, lzcnt, movbe nor the level names.
struct Cpu {
  unsigned leaf1_c = 0, leaf7_b = 0, extended_c = 0, saved = 0;
  Cpu() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid(1, &a, &b, &c, &d)) leaf1_c = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) leaf7_b = b;
    if (__get_cpuid(0x80000001u, &a, &b, &c, &d)) extended_c = c;
    if (leaf1_c & bit_OSXSAVE) {
      unsigned low = 0, high = 0;
      __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
      saved = low;
    }
  }
};

bool has(unsigned word, unsigned bits) { return (word & bits) == bits; }
bool baseline_runs() { return true; }
bool avx2_runs() {
  static const Cpu cpu;
  constexpr unsigned registers = 6;  // XMM and YMM
  return has(cpu.leaf1_c, bit_SSE3 | bit_SSSE3 | bit_FMA | bit_CMPXCHG16B | bit_SSE4_1 | bit_SSE4_2 | bit_MOVBE |
                              bit_POPCNT | bit_OSXSAVE | bit_AVX | bit_F16C) &&
         has(cpu.leaf7_b, bit_BMI | bit_AVX2 | bit_BMI2) && has(cpu.extended_c, bit_LZCNT) && has(cpu.saved, registers);
}
bool avx512_runs() {
  static const Cpu cpu;
  constexpr unsigned registers = 0xe6;  // and the mask registers, the upper halves, the upper sixteen
  return avx2_runs() && has(cpu.leaf7_b, bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL) &&
         has(cpu.saved, registers);
}
#else
bool neon_runs() { return true; }
#endif

const InstructionSet all_sets[] = {
#define TENSOMETER_ROW(name)  \
  {#name,                     \
   &name##_runs,              \
   &block_kernels_##name,     \
   &histogram_kernels_##name, \
   &pair_kernels_##name,      \
   &uniform_kernels_##name},
    TENSOMETER_ISAS(TENSOMETER_ROW)
#undef TENSOMETER_ROW
};

const InstructionSet& default_set() {
  const char* forced = std::getenv("TENSOMETER_ISA");
  if (forced != nullptr && *forced != '\0') return instruction_set_named(forced, "TENSOMETER_ISA");
  return *instruction_sets().back();
}

std::atomic<const InstructionSet*> selected{nullptr};

}  // namespace

const InstructionSet& instruction_set_named(std::string_view name, const char* where) {
  std::string known;
  for (const InstructionSet* set : instruction_sets()) {
    if (set->name == name) return *set;
    known += (known.empty() ? "'" : ", '") + std::string(set->name) + "'";
  }
  throw std::invalid_argument(std::string(where) + ": unknown instruction set '" + std::string(name) +
                              "'; this machine runs " + known);
}

std::span<const InstructionSet* const> instruction_sets() {
  static const std::vector<const InstructionSet*> here = [] {
    std::vector<const InstructionSet*> sets;
    for (const InstructionSet& set : all_sets) {
      if (set.runs_here()) sets.push_back(&set);
    }
    return sets;
  }();
  return here;
}

const InstructionSet& instruction_set() {
  if (const InstructionSet* set = selected.load(std::memory_order_relaxed)) return *set;
  static const InstructionSet& from_environment = default_set();
  return from_environment;
}

std::string select_instruction_set(std::string_view name) {
  const InstructionSet* wanted = name.empty() ? nullptr : &instruction_set_named(name, "isa");
  const InstructionSet* before = selected.exchange(wanted);
  return before == nullptr ? std::string() : std::string(before->name);
}

#if defined(__x86_64__)
namespace {
// MXCSR: round to nearest, all exceptions masked, neither flush-to-zero nor denormals-are-zero. The low six bits are
// flags that arithmetic sets, so they do not count as a difference.
constexpr unsigned contract_control = 0x1f80, control_bits = 0xffc0;
}  // namespace
FloatEnvironment::FloatEnvironment() : saved_(_mm_getcsr()) {
  if ((saved_ & control_bits) != contract_control) _mm_setcsr(contract_control);
}
FloatEnvironment::~FloatEnvironment() {
  if ((saved_ & control_bits) != contract_control) _mm_setcsr(static_cast<unsigned>(saved_));
}
#else
FloatEnvironment::FloatEnvironment() {
  __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
  if (saved_ != 0) __asm__ volatile("msr fpcr, %0" : : "r"(std::uint64_t{0}));
}
FloatEnvironment::~FloatEnvironment() {
  if (saved_ != 0) __asm__ volatile("msr fpcr, %0" : : "r"(saved_));
}
#endif

}  // namespace tensometer
