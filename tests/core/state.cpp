// Saved states: what was written comes back; what was cut or changed is refused or, at worst, another valid state.
#include <algorithm>

#include "data.hpp"
#include "state.hpp"
#include "stream.hpp"

namespace tensometer {
namespace {

std::vector<Stream> some_streams() {
  std::vector<Stream> streams;
  for (const DType dtype : {DType::k_float32, DType::k_bfloat16, DType::k_int8, DType::k_uint64, DType::k_complex128}) {
    for (const std::size_t count : {std::size_t{0}, std::size_t{5}, std::size_t{3 * 4096 + 7}}) {
      const std::vector<std::byte> bytes = random_bytes(count * row(dtype).item_size, count + 110);
      const TensorView view = vector_view(bytes.data(), dtype, count);
      Stream stream(dtype, {count == 5 ? HistogramMode::none : HistogramMode::full, 3, true, 2});
      stream.update({view, view.shape, 3});
      if (count > 5) stream.merge(Stream(stream));
      streams.push_back(std::move(stream));
    }
  }
  return streams;
}

TEST(states_come_back_as_they_were) {
  for (const Stream& stream : some_streams()) {
    const std::string bytes = stream.save();
    const Stream restored = Stream::restore(bytes);
    CHECK(restored.save() == bytes, row(stream.dtype()).name);
    CHECK(restored.summary() == stream.summary() && restored.count() == stream.count(), row(stream.dtype()).name);
    const TensorSummary summary = stream.summary();
    CHECK(save(restore_summary(save(summary))) == save(summary), row(stream.dtype()).name);
    CHECK(restore_summary(save(summary)) == summary, row(stream.dtype()).name);
  }
}

// Positions worth changing or cutting at: all near both ends, and some of the long lists between.
std::vector<std::size_t> positions(std::size_t size) {
  std::vector<std::size_t> chosen;
  const std::size_t dense = check::quick() ? 11 : 2, sparse = size / 50 + 1;
  for (std::size_t at = 0; at < size; at += at < 1500 || at + 500 > size ? dense : std::min(sparse, size - at)) {
    chosen.push_back(at);
  }
  return chosen;
}

TEST(states_that_are_cut_or_too_long_are_refused) {
  for (const Stream& stream : some_streams()) {
    const std::string bytes = stream.save(), summary = save(stream.summary());
    for (const std::size_t size : positions(bytes.size())) {
      check::throws<std::invalid_argument>([&] { Stream::restore(bytes.substr(0, size)); }, "state");
    }
    for (const std::size_t size : positions(summary.size())) {
      check::throws<std::invalid_argument>([&] { restore_summary(summary.substr(0, size)); }, "state");
    }
    check::throws<std::invalid_argument>([&] { Stream::restore(bytes + '\0'); }, "state");
    check::throws<std::invalid_argument>([&] { restore_summary(summary + '\0'); }, "state");
    check::throws<std::invalid_argument>([&] { restore_summary(bytes); }, "state");
    check::throws<std::invalid_argument>([&] { Stream::restore(summary); }, "state");
  }
}

// One byte changed: its lowest bit, its highest, or the six that make the count of children of a fold full.
std::string with_change(std::string bytes, std::size_t at) {
  constexpr unsigned char changes[] = {0x01, 0x80, 0x3f};
  bytes[at] = static_cast<char>(static_cast<unsigned char>(bytes[at]) ^ changes[at % 3]);
  return bytes;
}

void use(const TensorSummary& s) {
  const Summary& x = s.summary;
  volatile double sink =
      x.average() + x.variance(1) + x.std() + x.sum() + x.l1() + x.l2() + x.linf() + x.rms() + x.abs_mean();
  static_cast<void>(sink);
  if (!s.histogram) return;
  sink = quantile(s, 0.5) + s.histogram->quantile(0.25);
  sink = static_cast<double>(underflow(s, "float16") + overflow(s, "float8_e5m2") + subnormal(s, "bfloat16"));
  const std::vector<double> edges{-10, -1, 0, 1, 10};
  sink = s.histogram->to_uniform(edges).front() + static_cast<double>(s.histogram->coarsen(0).total());
  static_cast<void>(merge(s, s));
}

// Restores the bytes and, if they are taken, does everything that may be done with the result. Nothing but
// std::invalid_argument may come of it; the sanitizers watch for the rest.
bool restored_and_used(const std::string& bytes, const std::vector<std::byte>& elements) {
  try {
    Stream stream = Stream::restore(bytes);
    use(stream.summary());
    const std::size_t item = row(stream.dtype()).item_size;
    for (const std::size_t count : {4095u, 9000u}) {
      TensorView view = vector_view(elements.data(), stream.dtype(), count);
      stream.update({view, view.shape, 1});
      view.data += (count - 1) * item;
      view.strides[0] *= -1;
      stream.update({view, view.shape, 0});
    }
    Stream other(stream);
    other.merge(stream);
    use(other.summary());
    static_cast<void>(Stream::restore(other.save()).count());
    return true;
  } catch (const std::invalid_argument&) {
    return false;
  }
}

TEST(states_with_any_byte_changed_are_refused_or_harmless) {
  const std::vector<std::byte> elements = random_bytes(9000 * 16, 111);
  unsigned refused = 0;
  for (const Stream& stream : some_streams()) {
    const std::string bytes = stream.save();
    for (const std::size_t at : positions(bytes.size())) {
      refused += !restored_and_used(with_change(bytes, at), elements);
    }
  }
  CHECK(refused > 0);
}

TEST(states_with_many_bytes_changed_are_refused_or_harmless) {
  const std::vector<std::byte> elements = random_bytes(9000 * 16, 112);
  const std::vector<Stream> streams = some_streams();
  Random random(113);
  for (unsigned turn = 0; turn < (check::quick() ? 500u : 6000u); ++turn) {
    std::string bytes = streams[random.below(streams.size())].save();
    const std::size_t head = std::min<std::size_t>(bytes.size(), random.below(2) == 0 ? 1400 : bytes.size());
    for (std::uint64_t changes = 1 + random.below(20); changes > 0; --changes) {
      const std::uint8_t interesting[] = {0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xff, static_cast<std::uint8_t>(random.bits())};
      const std::size_t at = random.below(head), length = std::min<std::size_t>(1 + random.below(9), head - at);
      std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), length,
                  static_cast<char>(interesting[random.below(8)]));
    }
    restored_and_used(bytes, elements);
  }
}

TEST(summaries_with_any_byte_changed_are_refused_or_harmless) {
  for (const Stream& stream : some_streams()) {
    const std::string bytes = save(stream.summary());
    for (const std::size_t at : positions(bytes.size())) {
      try {
        const TensorSummary restored = restore_summary(with_change(bytes, at));
        use(restored);
        use(merge(restored, stream.summary()));
      } catch (const std::invalid_argument&) {
      }
    }
  }
}

}  // namespace
}  // namespace tensometer
