#include "stream.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>

#include "block.hpp"
#include "dispatch.hpp"
#include "state.hpp"

namespace tensometer {
namespace {

// First word of every state: changes whenever its layout does.
constexpr std::uint32_t stream_magic = 0x32616d74;

SparseView view_of(const std::vector<std::byte>& elements, DType dtype) {
  const std::size_t item_size = row(dtype).item_size;
  SparseView view;
  view.values.data = elements.data(), view.values.dtype = dtype;
  view.values.shape = {static_cast<std::int64_t>(elements.size() / item_size)};
  view.values.strides = {static_cast<std::int64_t>(item_size)};
  return view;
}

}  // namespace

Stream::Stream(DType dtype, const Options& options) : partial_(dtype, options) {}

std::uint64_t Stream::count() const { return count_ + implicit_zeros_ + (merged_ ? merged_->summary.count : 0); }

Cut Stream::cut(const TensorView& piece) const {
  if (piece.dtype != dtype()) {
    throw std::invalid_argument("x: has dtype " + std::string(row(piece.dtype).name) + ", this accumulator " +
                                std::string(row(dtype()).name));
  }
  const std::uint64_t begun = pending_.size() / row(dtype()).item_size, total = piece.count();
  Cut cut;
  cut.head = begun == 0 ? 0 : std::min<std::uint64_t>(total, block_size - begun);
  cut.first_block = partial_.blocks + (begun == 0 ? 0 : 1);
  cut.blocks = (total - cut.head) / block_size;
  cut.tail = total - cut.head - cut.blocks * block_size;
  return cut;
}

void Stream::update(const SparseView& piece) {
  const Cut parts = cut(piece.values);
  const ElementReader reader(piece.values);
  const std::size_t item_size = row(dtype()).item_size;
  std::uint64_t at = 0;
  std::vector<std::byte> buffer(block_size * item_size);
  const auto keep = [&](std::uint64_t count) {
    if (count == 0) return;
    const auto* from = static_cast<const std::byte*>(reader.read(at, static_cast<std::uint32_t>(count), buffer.data()));
    pending_.insert(pending_.end(), from, from + count * item_size);
    at += count;
  };
  keep(parts.head);
  if (pending_.size() == block_size * item_size) {
    const ElementReader whole(pending_.data(), item_size, block_size);
    reduce({{{&partial_, &whole, 0, block_size}}}, 1);
    pending_.clear();
  }
  if (const std::uint64_t whole = parts.blocks * block_size; whole != 0) {
    reduce({{{&partial_, &reader, at, whole}}}, options().threads);
    at += whole;
  }
  keep(parts.tail);
  count_ += reader.count();
  implicit_zeros_ += piece.implicit_zeros;
}

void Stream::update(const ReducedPiece& piece, std::uint64_t implicit_zeros) {
  update(view_of(piece.head, dtype()));
  append_blocks(piece);
  update(view_of(piece.tail, dtype()));
  implicit_zeros_ += implicit_zeros;
}

// Nothing is pending before them.
void Stream::append_blocks(const ReducedPiece& piece) {
  if (piece.cut.blocks == 0) return;
  const FloatEnvironment environment;
  const std::vector<Run> runs = runs_of(piece.cut);
  if (partial_.bytes) {
    for (std::size_t v = 0; v < partial_.bytes->size(); ++v) (*partial_.bytes)[v] += (*piece.bytes)[v];
  } else {
    for (std::size_t i = 0; i < runs.size(); ++i) partial_.fold.push(piece.runs[i], runs[i].level);
  }
  if (!piece.histogram.bins.empty()) tensometer::merge(partial_.histogram, piece.histogram);
  partial_.blocks += piece.cut.blocks;
  partial_.hash += piece.hash;
  count_ += piece.cut.blocks * block_size;
}

void Stream::merge(const Stream& other) {
  const Options &a = options(), &b = other.options();
  if (dtype() != other.dtype()) {
    throw std::invalid_argument("other: has dtype " + std::string(row(other.dtype()).name) + ", this accumulator " +
                                std::string(row(dtype()).name));
  }
  if (a.histogram != b.histogram || a.resolution != b.resolution) {
    throw std::invalid_argument("other: counts another histogram than this accumulator (histogram=, resolution=)");
  }
  const TensorSummary theirs = other.summary();
  merged_ = merged_ ? tensometer::merge(*merged_, theirs) : theirs;
}

TensorSummary Stream::summary() const {
  Partial all(partial_);
  const std::size_t item_size = row(dtype()).item_size;
  if (!pending_.empty()) {
    const ElementReader rest(pending_.data(), item_size, pending_.size() / item_size);
    reduce({{{&all, &rest, 0, rest.count()}}}, 1);
  }
  const std::array shape{static_cast<std::int64_t>(count_ + implicit_zeros_)};
  TensorSummary own = std::move(all).finish(shape, implicit_zeros_);
  return merged_ ? tensometer::merge(own, *merged_) : own;
}

std::string Stream::save() const {
  ByteWriter out;
  out.value(stream_magic);
  out.value(dtype());
  out.value(options().histogram);
  out.value(options().resolution);
  out.value(options().fingerprint);
  out.value(options().threads);
  out.value(partial_.blocks);
  out.value(partial_.fold);
  out.value(partial_.hash);
  write(out, partial_.histogram);
  if (partial_.bytes) out.value(*partial_.bytes);
  out.list(pending_);
  out.value(count_);
  out.value(implicit_zeros_);
  out.value(merged_.has_value());
  if (merged_) write(out, *merged_);
  return out.take();
}

bool Stream::consistent() const {
  const std::size_t item_size = row(dtype()).item_size;
  std::uint64_t blocks = partial_.blocks;
  for (const std::uint8_t children : partial_.fold.children) {
    const bool folded = !partial_.bytes;  // one-byte types push nothing
    if (children != (folded ? blocks % fold_width : 0)) return false;
    blocks /= fold_width;
  }
  for (const Summary& partial : partial_.fold.partial) {
    if (!possible(partial)) return false;
  }
  if (merged_ && merged_->dtype != dtype()) return false;
  return blocks == 0 && implicit_zeros_ < count_limit && pending_.size() % item_size == 0 &&
         pending_.size() < block_size * item_size && partial_.histogram.resolution == options().resolution &&
         count_ == partial_.blocks * block_size + pending_.size() / item_size;
}

Stream Stream::restore(const std::string& bytes) {
  ByteReader in(bytes);
  if (in.value<std::uint32_t>() != stream_magic) ByteReader::fail();
  const DType dtype = read_dtype(in);
  Options options;
  const auto mode = in.value<std::uint8_t>();
  if (mode > static_cast<std::uint8_t>(HistogramMode::sampled)) ByteReader::fail();
  options.histogram = static_cast<HistogramMode>(mode);
  options.resolution = in.value<unsigned>();
  options.fingerprint = in.value<std::uint8_t>() != 0;
  options.threads = in.value<unsigned>();
  if (options.resolution > max_resolution || options.threads > 1024) ByteReader::fail();
  Stream stream(dtype, options);
  stream.partial_.blocks = in.value<std::uint64_t>();
  stream.partial_.fold = in.value<Fold<Summary>>();
  stream.partial_.hash = in.value<std::uint64_t>();
  stream.partial_.histogram = read_histogram(in);
  if (stream.partial_.bytes) *stream.partial_.bytes = in.value<ByteCounts>();
  in.list(stream.pending_);
  stream.count_ = in.value<std::uint64_t>();
  stream.implicit_zeros_ = in.value<std::uint64_t>();
  if (in.value<std::uint8_t>() != 0) stream.merged_ = read_summary(in);
  in.end();
  if (!stream.consistent()) ByteReader::fail();
  return stream;
}

}  // namespace tensometer
