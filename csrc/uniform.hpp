// Histograms with given edges, count for count those of numpy.histogram.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "layout.hpp"

namespace tensometer {

// Bin i counts edges[i] <= x < edges[i + 1], the last bin its upper edge too. NaN and what lies outside is not counted.
// `edges` ascends and has at least two entries. all_inside: there is
// none such, which saves looking. Throws std::invalid_argument for a complex dtype.
std::vector<std::int64_t> uniform_histogram(const TensorView& view, std::span<const double> edges, unsigned threads,
                                            bool all_inside = false);

}  // namespace tensometer
