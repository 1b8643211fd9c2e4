// Which instruction sets this machine runs, which one is in use, and the floating-point environment of the core.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kernels/kernels.hpp"

namespace tensometer {

struct InstructionSet {
  std::string_view name;
  bool (*runs_here)();
  const BlockKernels* block;
  const HistogramKernels* histogram;
  const PairKernels* pair;
  const UniformKernels* uniform;
};

// Those this build holds and this machine runs, narrowest first.
std::span<const InstructionSet* const> instruction_sets();

// Throws std::invalid_argument for a name that is not in instruction_sets(); `where` is said to be wrong.
const InstructionSet& instruction_set_named(std::string_view name, const char* where);

// The one in use: the widest, unless TENSOMETER_ISA or select_instruction_set names another. A wrong name in the
// environment throws std::invalid_argument that lists the right ones.
const InstructionSet& instruction_set();

// Forces one for the whole process; an empty name returns to the default. Returns the name that was forced before (empty if
// none). Throws std::invalid_argument for a name that is not in instruction_sets().
std::string select_instruction_set(std::string_view name);

// While it lives, this thread computes as the contract says: round to nearest, sub-normals kept, no traps.
class FloatEnvironment {
 public:
  FloatEnvironment();
  ~FloatEnvironment();
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;

 private:
  std::uint64_t saved_;
};

}  // namespace tensometer
