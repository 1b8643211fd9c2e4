#include "cuda/plan_pieces.hpp"

namespace tensometer::cuda {

Ends ends_of(const PieceView& view) {
  const std::size_t item_size = row(view.elements.dtype).item_size;
  const std::byte* data = view.elements.data;
  const Cut& cut = view.cut;
  return {{data, cut.head * item_size},
          {data + (cut.head + cut.blocks * block_size) * item_size, cut.tail * item_size}};
}

Plan plan(std::span<const PieceView> views, const Options& options, std::uint32_t item_blocks) {
  Plan plan;
  for (std::size_t i = 0; i < views.size(); ++i) {
    const Cut& cut = views[i].cut;
    const Tensor whole = entry(views[i].elements, ElementReader(views[i].elements), options, "x", i);
    if (whole.dims != 0) throw TensorError("x", i, "has elements that lie apart; make it contiguous");
    const auto* data = static_cast<const std::byte*>(whole.data);
    bool joined = false;
    for (const Run& run : runs_of(cut)) {
      const std::uint64_t before = cut.head + (run.first_block - cut.first_block) * block_size;
      Tensor tensor = whole;
      tensor.data = data + before * row(views[i].elements.dtype).item_size;
      tensor.count = run.blocks() * block_size;
      tensor.first_block = run.first_block;
      plan.add(tensor, options, item_blocks, joined);
      joined = true;
    }
  }
  return plan;
}

ReducedPiece collect(const PieceView& view, const Options& options, std::span<const Result> rows,
                     std::span<const BinWord> words, const Ends& ends) {
  ReducedPiece piece;
  piece.cut = view.cut;
  piece.head.assign(ends.head.begin(), ends.head.end());
  piece.tail.assign(ends.tail.begin(), ends.tail.end());
  for (const Result& found : rows) {
    piece.runs.push_back(found.summary);
    piece.hash += found.hash;
  }
  if (row(view.elements.dtype).lanes == Lanes::table) {
    piece.bytes = bytes_of(words);
  } else if (options.histogram != HistogramMode::none) {
    piece.histogram = histogram_of(words, options.resolution);
  }
  return piece;
}

}  // namespace tensometer::cuda
