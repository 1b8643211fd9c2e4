#include "piece.hpp"

namespace tensometer {

std::uint64_t Run::blocks() const {
  std::uint64_t count = 1;
  for (std::size_t k = 0; k < level; ++k) count *= fold_width;
  return count;
}

std::vector<Run> runs_of(const Cut& cut) {
  std::vector<Run> runs;
  const std::uint64_t end = cut.first_block + cut.blocks;
  for (std::uint64_t at = cut.first_block; at < end; at += runs.back().blocks()) {
    Run run{at, 0};
    for (Run larger{at, 1}; at % larger.blocks() == 0 && larger.blocks() <= end - at; ++larger.level) run = larger;
    runs.push_back(run);
  }
  return runs;
}

}  // namespace tensometer
