// Finished values as bytes, and back, for pickles. Whatever the bytes: what comes back is safe to use, or
// std::invalid_argument is thrown.
#pragma once

#include <string>

#include "bytes_io.hpp"
#include "compare.hpp"
#include "tensor_summary.hpp"

namespace tensometer {

std::string save(const TensorSummary& summary);
std::string save(const LogHistogram& histogram);
std::string save(const Comparison& comparison);
TensorSummary restore_summary(const std::string& bytes);
LogHistogram restore_histogram(const std::string& bytes);
Comparison restore_comparison(const std::string& bytes);

// The same as parts of a longer state.
void write(ByteWriter& out, const TensorSummary& summary);
void write(ByteWriter& out, const LogHistogram& histogram);
TensorSummary read_summary(ByteReader& in);
LogHistogram read_histogram(ByteReader& in);
DType read_dtype(ByteReader& in);

// Counts that no tensor reaches and exponents that no block has: arithmetic on what a reduction yields never overflows.
inline constexpr std::uint64_t count_limit = std::uint64_t{1} << 56;
bool possible(const Summary& summary);

}  // namespace tensometer
