// Runs kernels on a CPU: every CUDA thread is a fiber. It shows what a GPU would do wrong: threads that do not meet, a
// barrier that some have left, lanes that shuffle with whom they do not name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

namespace tensometer::emulation {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

// Where the running thread is.
struct Here {
  Index thread, block;
  unsigned char* shared = nullptr;
};
const Here& here();

// What threads wait for each other at.
enum class Meeting : std::uint8_t { shuffle, shuffle_down, shuffle_xor, warp, ballot, block };

// Waits until all that are named in `mask` (of a block barrier: all threads) have come to the same place; what another lane
// brought, by the kind of meeting.
std::uint64_t meet(Meeting kind, unsigned mask, const void* site, std::uint64_t value, unsigned lane);

// The order in which threads run between meetings, and blocks of a grid.
enum class Schedule : std::uint8_t { forward, reverse, random };

struct Launch {
  unsigned blocks = 1, threads = 1;
  std::size_t shared_bytes = 0;
  Schedule schedule = Schedule::forward;
  std::uint64_t seed = 0;
};

// What a GPU would hang at, or answer wrongly.
struct EmulationError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Runs `kernel` in every thread of the grid. Throws EmulationError.
void launch(const Launch& grid, const std::function<void()>& kernel);

}  // namespace tensometer::emulation
