#include "reduce.hpp"

#include <pybind11/stl.h>

#include "bindings.hpp"
#include "cuda/plan.hpp"

namespace tensometer {
namespace {

constexpr const char* options_doc = R"(

Extremes, moments and norms are those of the finite elements; NaN and infinities are counted beside them. An empty tensor
has counts, sums and norms of 0, and NaN for extremes, mean and variance.

histogram: True for the logarithmic histogram; "sampled" to estimate that of a large tensor: its first 2**16 elements are
counted, after them one block of 4096 in two, in four, and from 2**18 on in eight, so many times over. resolution: 0 to 7, the
histogram has 2**resolution bins an octave. fingerprint: also hash bits and shape. threads: 1 to 1024; by default
TENSOMETER_NUM_THREADS or the CPUs that this process may use. Raises TypeError for what is no tensor or has an
unsupported dtype, ValueError for a tensor that is neither in CPU memory nor on a CUDA device or an option out of range.

A tensor on a CUDA device is reduced there, on the stream that orders its memory (torch's current one), and the call waits
for it: nothing but results is copied. RuntimeError that says what is missing where this build, machine or process takes
no CUDA statistics, and while that stream is being captured into a graph.)";

TensorSummary summarize_one(py::handle x, py::handle histogram, py::handle resolution, py::handle fingerprint,
                            py::handle threads) {
  const Options options = options_of(histogram, resolution, fingerprint, threads);
  const Input input = summarized_input_of(x, options, "x");
  const Unlocked unlocked;
  return summary_of(input, options);
}

SummaryTable summarize_all(py::handle tensors, py::handle histogram, py::handle resolution, py::handle fingerprint,
                           py::handle threads) {
  const Options options = options_of(histogram, resolution, fingerprint, threads);
  Inputs inputs = inputs_of(tensors, options);
  SummaryTable table;
  table.fingerprints = options.fingerprint;
  table.names = std::move(inputs.names);
  const Unlocked unlocked;
  try {
    table.rows = inputs.on_device() ? summarize_placed(inputs.tensors, inputs.places, options)
                                    : summarize(inputs.tensors, options);
  } catch (const cuda::TensorError& error) {
    throw py::value_error(argument_of(table.names, error.index) + ": " + error.why);
  }
  return table;
}

SummaryTable summarize_dim(py::handle x, py::handle dim_argument, py::handle histogram, py::handle resolution,
                           py::handle fingerprint, py::handle threads) {
  const Options options = options_of(histogram, resolution, fingerprint, threads);
  const Input input = input_of(x, "x");
  const TensorView& view = input.tensor.values;
  if (input.tensor.shape != view.shape) throw py::type_error("x: is sparse; summarize_units takes dense tensors");
  const auto rank = static_cast<py::ssize_t>(view.shape.size());
  const py::ssize_t dim = whole_number(dim_argument, "dim", -64, 63);
  if (dim < -rank || dim >= rank) {
    throw py::value_error("dim: " + std::to_string(dim) + " is out of range for a tensor of " + std::to_string(rank) +
                          " dimensions");
  }
  const auto along = static_cast<std::size_t>(dim < 0 ? dim + rank : dim);
  SummaryTable table;
  table.fingerprints = options.fingerprint;
  const Unlocked unlocked;
  try {
    table.rows = input.place.on_device() ? summarize_units_placed(view, input.place, along, options)
                                         : summarize_units(view, along, options);
  } catch (const cuda::TensorError& error) {
    throw py::value_error("x: " + error.why);
  }
  return table;
}

}  // namespace

TensorSummary summary_of(const Input& input, const Options& options) {
  if (!input.place.on_device()) return std::move(summarize({&input.tensor, 1}, options)[0]);
  try {
    return std::move(summarize_placed({&input.tensor, 1}, {&input.place, 1}, options)[0]);
  } catch (const cuda::TensorError& error) {
    throw py::value_error("x: " + error.why);
  }
}

void register_reduce(py::module_& m) {
  static const std::string one = std::string(R"(Reduce a tensor to its Summary in one pass.

x: a NumPy array, torch tensor (dense or sparse), or anything with DLPack, an array interface or a buffer; any shape,
strides, alignment and byte order; read in place, a copy is made of at most one block at a time.)") +
                                 options_doc;
  static const std::string many = std::string(R"(Summarize many tensors in one pass over the thread pool.

tensors: an iterable of tensors or a mapping from names to tensors. Returns a SummaryTable with a row for each.)") +
                                  options_doc;
  static const std::string units =
      std::string(R"(Summarize x at every index along one dimension: neurons, channels, experts.

Returns a SummaryTable with x.shape[dim] rows; row i is the summary of x with index i at dim. dim may be negative;
ValueError if x has no such dimension.)") +
      options_doc;
  const auto define = [&m](const char* name, auto function, const std::string& doc, auto... arguments) {
    m.def(name, function, arguments..., py::kw_only(), py::arg("histogram") = false, py::arg("resolution") = 6,
          py::arg("fingerprint") = false, py::arg("threads") = py::none(), doc.c_str());
  };
  define("summarize", &summarize_one, one, py::arg("x"));
  define("summarize_many", &summarize_all, many, py::arg("tensors"));
  define("summarize_units", &summarize_dim, units, py::arg("x"), py::arg("dim") = 0);
}

}  // namespace tensometer
