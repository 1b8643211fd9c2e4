// The words that bins come in, against the counters that they are made of.
#include <numeric>
#include <utility>

#include "../core/data.hpp"
#include "emulated.hpp"

namespace tensometer {
namespace {

using cuda::BinWord;
using cuda::Counted;
using cuda::Emulated;
using cuda::Taken;

using Bins = std::vector<std::pair<std::uint32_t, std::uint64_t>>;

// Where a count takes one more word, and the largest there can be.
constexpr std::uint64_t edges[] = {1, 0x7fff, 0x8000, 0xffff, 0x10000, 0x3fffffff, 0x40000000, std::uint64_t{1} << 43};

// Counters of which each but one in so many is zero, counts small or at an edge.
Counted counted(DType dtype, unsigned resolution, std::uint64_t one_in, std::uint64_t seed) {
  const bool bytes = row(dtype).lanes == Lanes::table;
  Counted made{dtype, resolution, std::vector<unsigned long long>(bytes ? 256 : cuda::counters_of(resolution))};
  Random random(seed);
  for (unsigned long long& count : made.counters) {
    if (random.below(one_in) != 0) continue;
    count = random.below(2) != 0 ? 1 + random.below(100) : edges[random.below(std::size(edges))];
  }
  return made;
}

std::span<const BinWord> words_of(const Taken& taken, std::size_t i) {
  return std::span(taken.words).subspan(taken.results[i].first_word, taken.results[i].words);
}

Bins bins_of(std::span<const BinWord> words) {
  Bins bins;
  cuda::for_each_bin(words, [&](std::uint32_t bin, std::uint64_t count) { bins.emplace_back(bin, count); });
  return bins;
}

Bins bins_of(const Counted& counted) {
  Bins bins;
  for (std::uint32_t i = 0; i < counted.counters.size(); ++i) {
    if (counted.counters[i] != 0) bins.emplace_back(i, counted.counters[i]);
  }
  return bins;
}

// Most words of each, as the launcher makes room for them.
std::uint64_t most_words(const Counted& counted) {
  const std::uint64_t elements = std::accumulate(counted.counters.begin(), counted.counters.end(), std::uint64_t{0});
  return cuda::most_words(elements, counted.counters.size());
}

TEST(words_of_bins_tell_every_counter) {
  for (unsigned resolution = 0; resolution <= 6; ++resolution) {
    std::vector<Counted> all;
    std::uint64_t room = 0, bytes_room = 0;
    for (const std::uint64_t one_in : {1, 2, 3, 40, 100000}) {
      all.push_back(counted(DType::k_float32, resolution, one_in, resolution + one_in));
      room += most_words(all.back());
      all.push_back(counted(DType::k_uint8, resolution, one_in, one_in));
      room += most_words(all.back()), bytes_room += most_words(all.back());
    }
    const auto schedule = resolution % 2 != 0 ? emulation::Schedule::reverse : emulation::Schedule::random;
    const Taken taken = cuda::emulate_taking(all, room, bytes_room, {schedule, resolution});
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::uint64_t end = taken.results[i].first_word + taken.results[i].words;
      CHECK(end <= (row(all[i].dtype).lanes == Lanes::table ? bytes_room : room), "resolution ", resolution);
      CHECK(bins_of(words_of(taken, i)) == bins_of(all[i]), "resolution ", resolution, ", counters ", i);
    }
  }
}

// As many as there can be: no bin more would begin a run.
TEST(words_of_bins_that_lie_apart_are_the_most) {
  for (const unsigned resolution : {0u, 3u, 6u}) {
    for (const DType dtype : {DType::k_float32, DType::k_uint8}) {
      Counted apart = counted(dtype, resolution, 1, 0);
      const std::size_t size = apart.counters.size();
      for (std::size_t i = 0; i < size; ++i) apart.counters[i] = i % 2 == 0 || i % 32 == 31;
      const std::uint64_t room = 49 * size / 32;
      CHECK(most_words(apart) - room <= 4, most_words(apart));  // for counts of two words, of which there are none
      const Taken taken = cuda::emulate_taking({apart}, room, dtype == DType::k_uint8 ? room : 0, {});
      CHECK(taken.results[0].words == room, taken.results[0].words, " of ", room);
      CHECK(bins_of(words_of(taken, 0)) == bins_of(apart));
    }
  }
}

TEST(words_of_bins_side_by_side) {
  Counted together{DType::k_float32, 3, std::vector<unsigned long long>(4096, 1)};
  const Taken taken = cuda::emulate_taking({together}, most_words(together), 0, {});
  CHECK(taken.results[0].words == 4096 + 2 * 128, taken.results[0].words);  // a run of 32 each
}

TEST(words_without_room_are_not_written) {
  const Counted one = counted(DType::k_float32, 3, 2, 1);
  const std::uint64_t wanted = cuda::emulate_taking({one}, most_words(one), 0, {}).results[0].words;
  const Taken taken = cuda::emulate_taking({one}, wanted - 1, 0, {});
  CHECK(taken.results[0].words == wanted && taken.results[0].first_word == wanted - 1);
  CHECK(std::all_of(taken.words.begin(), taken.words.end(), [](BinWord word) { return word == 0; }));
}

}  // namespace
}  // namespace tensometer
