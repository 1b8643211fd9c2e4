// A piece of a tensor that arrives in several, of which whole blocks are reduced elsewhere than the rest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "bytes.hpp"
#include "fold.hpp"
#include "histogram.hpp"
#include "summary.hpp"

namespace tensometer {

// Where blocks of the whole begin in a piece: behind so many elements there are whole blocks, then `tail` elements.
// first_block: the number in the whole of the first of them.
struct Cut {
  std::uint64_t head = 0, first_block = 0, blocks = 0, tail = 0;

  bool operator==(const Cut&) const = default;
};

// Blocks that are one child of a level of the fold: 64^level of them, whose first one's number is a multiple of that.
struct Run {
  std::uint64_t first_block;
  std::size_t level;

  std::uint64_t blocks() const;
};

// A cut's blocks, in their order, in as few runs as there can be.
std::vector<Run> runs_of(const Cut& cut);

// What is known of a piece: its ends as they are, and the rest reduced.
struct ReducedPiece {
  Cut cut;
  std::vector<std::byte> head, tail;
  std::vector<Summary> runs;  // of each of runs_of(cut); of one-byte types they say nothing
  std::uint64_t hash = 0;     // the sum of the blocks'
  LogHistogram histogram;     // of the blocks
  std::optional<ByteCounts> bytes;
};

}  // namespace tensometer
