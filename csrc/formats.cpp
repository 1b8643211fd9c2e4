// The floating-point formats of section 2 as targets of a rounding: IEEE 754, bfloat16, and the 8-bit types of
// "FP8 Formats for Deep Learning" (arXiv:2209.05433) and, with suffix fnuz, of arXiv:2206.02915.
#include <limits>
#include <stdexcept>
#include <string>

#include "histogram.hpp"

namespace tensometer {
namespace {

constexpr Format formats[] = {
    {"float64", std::numeric_limits<double>::max(), std::numeric_limits<double>::infinity(), 0x1p-1022, 0},
    {"float32", std::numeric_limits<float>::max(), 0x1.ffffffp127, 0x1p-126, 0x1p-150},
    {"float16", 65504, 65520, 0x1p-14, 0x1p-25},
    {"bfloat16", 0x1.fep127, 0x1.ffp127, 0x1p-126, 0x1p-134},
    {"float8_e4m3fn", 448, 464, 0x1p-6, 0x1p-10, true},
    {"float8_e5m2", 57344, 61440, 0x1p-14, 0x1p-17},
    {"float8_e4m3fnuz", 240, 248, 0x1p-7, 0x1p-11},
    {"float8_e5m2fnuz", 57344, 61440, 0x1p-15, 0x1p-18},
};

}  // namespace

const Format& format_named(std::string_view name) {
  for (const Format& format : formats) {
    if (format.name == name) return format;
  }
  std::string known;
  for (const Format& format : formats) known += (known.empty() ? "" : ", ") + std::string(format.name);
  throw std::invalid_argument("dtype: '" + std::string(name) + "' is not a floating-point format; known are " + known);
}

}  // namespace tensometer
