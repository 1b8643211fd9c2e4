// The fixed shape in which partial results merge: 64 blocks are a group, 64 groups a super-group, and so on up, each
// folded left to right. It depends on nothing but the number of blocks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace tensometer {

inline constexpr std::uint64_t fold_width = 64;

// Value needs a default that is empty and merge(Value&, const Value&). 64^8 blocks exceed any address space.
template <class Value>
struct Fold {
  std::array<Value, 8> partial{};
  std::array<std::uint8_t, 8> children{};

  // Appends one child at a level: 0 for a block, 1 for a whole group.
  void push(const Value& value, std::size_t level = 0) {
    if (children[level] == 0) {
      partial[level] = value;
    } else {
      merge(partial[level], value);
    }
    if (++children[level] == fold_width) {
      children[level] = 0;
      push(partial[level], level + 1);
    }
  }

  // The whole so far: what is unfinished at a level is the last child of the level above. Empty if nothing was pushed.
  Value result() const {
    Value carried{};
    bool any = false;
    for (std::size_t level = 0; level < partial.size(); ++level) {
      if (children[level] == 0) continue;
      Value whole = partial[level];
      if (any) merge(whole, carried);
      carried = whole;
      any = true;
    }
    return carried;
  }
};

}  // namespace tensometer
