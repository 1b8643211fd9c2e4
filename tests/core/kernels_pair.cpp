// The pair kernels against the same sums in scalar words: for every instruction set.
#include <algorithm>

#include "data.hpp"

namespace tensometer {
namespace {

template <class Lane>
int exponent_of(const std::vector<Lane>& x) {
  double largest = 0;
  for (const double value : x) largest = std::fabs(value) < infinity ? std::fmax(largest, std::fabs(value)) : largest;
  return block_exponent<double>(largest);
}

// 128 lanes of float64, element i in lane i % 128, pairs with an element that is not finite left out.
template <class Lane>
PairSums scaled_sums(const std::vector<Lane>& a, const std::vector<Lane>& b, int old_exponent, int new_exponent) {
  PairSums sums;
  sums.old_exponent = old_exponent, sums.new_exponent = new_exponent;
  double dot[pair_lanes] = {}, old_squares[pair_lanes] = {}, new_squares[pair_lanes] = {};
  for (std::size_t i = 0; i < a.size(); ++i) {
    const bool equal = a[i] == b[i] || (a[i] != a[i] && b[i] != b[i]);
    sums.equal += equal;
    sums.nonfinite += !equal && !is_finite(b[i] - a[i]);
    if (!is_finite(a[i]) || !is_finite(b[i])) continue;
    const double x = std::ldexp(a[i], -sums.old_exponent), y = std::ldexp(b[i], -sums.new_exponent);
    dot[i % pair_lanes] += x * y;
    old_squares[i % pair_lanes] += x * x;
    new_squares[i % pair_lanes] += y * y;
  }
  sums.dot = fold_lanes(dot), sums.old_squares = fold_lanes(old_squares), sums.new_squares = fold_lanes(new_squares);
  return sums;
}

// Scaled only where the sums show that a square may have left float64's range.
template <class Lane>
PairSums model_pair(const std::vector<Lane>& a, const std::vector<Lane>& b) {
  const PairSums plain = scaled_sums(a, b, 0, 0);
  const auto safe = [](double squares) { return squares >= 0x1p-916 && squares < 0x1p960; };
  const bool finite =
      std::all_of(a.begin(), a.end(), is_finite<Lane>) && std::all_of(b.begin(), b.end(), is_finite<Lane>);
  if (std::is_same_v<Lane, float> || (finite && safe(plain.old_squares) && safe(plain.new_squares))) return plain;
  return scaled_sums(a, b, exponent_of(a), exponent_of(b));
}

std::string compare_sums(const PairSums& a, const PairSums& b) {
  if (a.equal != b.equal) return check::text("equal: ", a.equal, " is not ", b.equal);
  if (a.nonfinite != b.nonfinite) return check::text("nonfinite: ", a.nonfinite, " is not ", b.nonfinite);
  if (a.old_exponent != b.old_exponent)
    return check::text("old_exponent: ", a.old_exponent, " is not ", b.old_exponent);
  if (a.new_exponent != b.new_exponent)
    return check::text("new_exponent: ", a.new_exponent, " is not ", b.new_exponent);
  if (!same_bits(a.dot, b.dot)) return check::text("dot: ", a.dot, " is not ", b.dot);
  if (!same_bits(a.old_squares, b.old_squares))
    return check::text("old_squares: ", a.old_squares, " is not ", b.old_squares);
  if (!same_bits(a.new_squares, b.new_squares))
    return check::text("new_squares: ", a.new_squares, " is not ", b.new_squares);
  return {};
}

template <class Lane>
void check_pair(const std::vector<Lane>& a, const std::vector<Lane>& b, const char* place) {
  const PairSums expected = model_pair(a, b);
  const std::size_t bytes = a.size() * sizeof(Lane);
  const ExactMemory old_memory(a.data(), bytes, sizeof(Lane)), new_memory(b.data(), bytes), out_memory(bytes);
  const auto *x = reinterpret_cast<const Lane*>(old_memory.data()),
             *y = reinterpret_cast<const Lane*>(new_memory.data());
  auto* out = reinterpret_cast<Lane*>(out_memory.data());
  for (const InstructionSet* set : instruction_sets()) {
    PairSums found;
    found.dot = found.equal = 99;
    const auto count = static_cast<std::uint32_t>(a.size());
    if constexpr (std::is_same_v<Lane, float>) {
      set->pair->f32(x, y, count, out, found);
    } else {
      set->pair->f64(x, y, count, out, found);
    }
    const std::string wrong = compare_sums(found, expected);
    CHECK(wrong.empty(), set->name, ", ", count, " pairs of ", sizeof(Lane), " bytes, ", place, ": ", wrong);
    for (std::uint32_t i = 0; i < count; ++i) {
      const Lane change = b[i] - a[i];
      CHECK(same_bits(out[i], change) || (out[i] != out[i] && change != change), set->name, ", difference ", i, ": ",
            out[i]);
    }
  }
}

// The products of the last difference and this one, in lanes as the others.
template <class Lane>
double model_along(const std::vector<Lane>& a, const std::vector<Lane>& b, const std::vector<Lane>& last) {
  double lane[pair_lanes] = {};
  for (std::size_t i = 0; i < a.size(); ++i) {
    lane[i % pair_lanes] += static_cast<double>(last[i]) * static_cast<double>(static_cast<Lane>(b[i] - a[i]));
  }
  return fold_lanes(lane);
}

// An update is a pair without dot and new_squares.
template <class Lane>
void check_update(const std::vector<Lane>& a, const std::vector<Lane>& b, const std::vector<Lane>& last) {
  PairSums expected = model_pair(a, b);
  expected.dot = expected.new_squares = 0, expected.new_exponent = 0;
  const double along = model_along(a, b, last);
  const std::size_t bytes = a.size() * sizeof(Lane);
  const ExactMemory old_memory(a.data(), bytes, sizeof(Lane)), new_memory(b.data(), bytes),
      last_memory(last.data(), bytes, sizeof(Lane)), out_memory(bytes);
  const auto lanes = [](const ExactMemory& memory) { return reinterpret_cast<Lane*>(memory.data()); };
  for (const InstructionSet* set : instruction_sets()) {
    PairSums found;
    double found_along = 0;
    const auto count = static_cast<std::uint32_t>(a.size());
    Lane* out = lanes(out_memory);
    if constexpr (std::is_same_v<Lane, float>) {
      found_along = set->pair->update_f32(lanes(old_memory), lanes(new_memory), lanes(last_memory), count, out, found);
    } else {
      found_along = set->pair->update_f64(lanes(old_memory), lanes(new_memory), lanes(last_memory), count, out, found);
    }
    const std::string wrong = compare_sums(found, expected);
    CHECK(wrong.empty(), set->name, ", ", count, " updates of ", sizeof(Lane), " bytes: ", wrong);
    const bool same = same_bits(found_along, along) || (found_along != found_along && along != along);
    CHECK(same, set->name, ", ", count, " updates: ", found_along, " is not ", along);
    for (std::uint32_t i = 0; i < count; ++i) {
      const Lane change = b[i] - a[i];
      CHECK(same_bits(out[i], change) || (out[i] != out[i] && change != change), set->name, ", difference ", i);
    }
  }
}

template <class Lane>
void check_updates_of() {
  const std::vector<Lane> a = ordinary_elements<Lane>(block_size, 40), b = ordinary_elements<Lane>(block_size, 41);
  const std::vector<Lane> c = wild_elements<Lane>(block_size, 42), d = wild_elements<Lane>(block_size, 43);
  for (std::uint32_t count = 0; count <= block_size; count += count < 300 ? 1 : check::quick() ? 509 : 61) {
    const auto cut = [&](const std::vector<Lane>& all) { return std::vector<Lane>(all.begin(), all.begin() + count); };
    check_update(cut(a), cut(b), cut(b));
    check_update(cut(a), cut(a), cut(d));
    check_update(cut(c), cut(d), cut(a));
    check_update(cut(a), cut(b), cut(c));
  }
}

TEST(update_kernels_at_many_lengths) {
  check_updates_of<float>();
  check_updates_of<double>();
}

template <class Lane>
void check_pairs_of() {
  const std::vector<Lane> a = ordinary_elements<Lane>(block_size, 30), b = ordinary_elements<Lane>(block_size, 31);
  const std::vector<Lane> c = wild_elements<Lane>(block_size, 32), d = wild_elements<Lane>(block_size, 33);
  for (std::uint32_t count = 0; count <= block_size; count += count < 300 ? 1 : check::quick() ? 509 : 61) {
    const auto cut = [&](const std::vector<Lane>& all) { return std::vector<Lane>(all.begin(), all.begin() + count); };
    check_pair(cut(a), cut(b), "ordinary");
    check_pair(cut(a), cut(a), "equal");
    check_pair(cut(c), cut(d), "wild");
    check_pair(cut(c), cut(c), "wild and equal");
    check_pair(cut(a), cut(d), "ordinary and wild");
  }
}

TEST(pair_kernels_at_many_lengths) {
  check_pairs_of<float>();
  check_pairs_of<double>();
}

TEST(pair_kernels_at_every_scale) {
  Random random(34);
  const std::vector<double> bells = ordinary_elements<double>(300, 35), others = ordinary_elements<double>(300, 36);
  for (int exponent = -1074; exponent <= 1023; exponent += 7) {
    std::vector<double> a = bells, b = others;
    const int other = exponent + static_cast<int>(random.between(-60, 60));
    for (double& x : a) x = std::ldexp(x, exponent);
    for (double& x : b) x = std::ldexp(x, other);
    check_pair(a, b, "scaled");
    std::vector<float> narrow_a(a.begin(), a.end()), narrow_b(b.begin(), b.end());
    check_pair(narrow_a, narrow_b, "scaled");
  }
}

TEST(pair_kernels_take_special_values) {
  using Limits = std::numeric_limits<double>;
  const double special[] = {0.0,           -0.0,          1.0, infinity, -infinity, nan_value, Limits::denorm_min(),
                            Limits::max(), -Limits::max()};
  for (const double x : special) {
    for (const double y : special) {
      std::vector<double> a = ordinary_elements<double>(261, 37), b = a;
      for (const std::size_t at : {0u, 130u, 260u}) a[at] = x, b[at] = y;
      check_pair(a, b, "special");
      check_pair(std::vector<float>(a.begin(), a.end()), std::vector<float>(b.begin(), b.end()), "special");
      check_pair(std::vector<double>(5, x), std::vector<double>(5, y), "nothing but");
    }
  }
}

}  // namespace
}  // namespace tensometer
