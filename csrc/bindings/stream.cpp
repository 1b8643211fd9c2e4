#include "stream.hpp"

#include <pybind11/stl.h>

#include <mutex>

#include "bindings.hpp"
#include "own_mutex.hpp"

namespace tensometer {

// A stream that takes its dtype from the first tensor if none was given. Locked: another thread may call while one
// works without the GIL.
class Accumulator {
 public:
  Accumulator(const py::object& dtype, const Options& options) : options_(options) {
    if (!dtype.is_none()) stream_.emplace(dtype_of(dtype, "dtype"), options);
  }
  explicit Accumulator(Stream stream) : options_(stream.options()), stream_(std::move(stream)) {}
  explicit Accumulator(const Options& options) : options_(options) {}

  std::optional<std::string> dtype() const {
    const Unlocked unlocked;
    const std::lock_guard lock(mutex_);
    return stream_ ? std::optional(name_of(stream_->dtype())) : std::nullopt;
  }
  std::uint64_t count() const {
    const Unlocked unlocked;
    const std::lock_guard lock(mutex_);
    return stream_ ? stream_->count() : 0;
  }
  void update(py::handle x) {
    Input input = packed_input_of(x, "x");
    TensorView& view = input.tensor.values;
    const Unlocked unlocked;
    const std::lock_guard lock(mutex_);
    std::optional<Stream> begun;  // its dtype is settled when nothing can fail any more
    if (!stream_) begun.emplace(view.dtype, options_);
    Stream& stream = begun ? *begun : *stream_;
    accept_raw(stream.dtype(), view);
    if (input.place.on_device()) {
      stream.update(reduce_placed(view, input.place, stream.cut(view), options_), input.tensor.implicit_zeros);
    } else {
      stream.update(input.tensor);
    }
    if (begun) stream_ = std::move(begun);
  }
  void merge(const Accumulator& other) {
    const Unlocked unlocked;
    std::optional<Stream> theirs;
    {
      const std::lock_guard lock(other.mutex_);
      if (other.stream_) theirs.emplace(*other.stream_);
    }
    if (!theirs) return;
    const std::lock_guard lock(mutex_);
    if (stream_) {
      stream_->merge(*theirs);
    } else {
      Stream merged(theirs->dtype(), options_);
      merged.merge(*theirs);  // before the dtype is settled: it may be refused
      stream_ = std::move(merged);
    }
  }
  TensorSummary summary() const {
    const Unlocked unlocked;
    const std::lock_guard lock(mutex_);
    if (!stream_) throw std::invalid_argument("dtype: unknown until the first update; give it to Accumulator(dtype)");
    return stream_->summary();
  }
  std::string save() const {
    const Unlocked unlocked;
    const std::lock_guard lock(mutex_);
    return stream_ ? "s" + stream_->save() : "o" + Stream(DType::k_float32, options_).save();
  }
  static std::unique_ptr<Accumulator> restore(const std::string& state) {
    if (state.empty()) throw std::invalid_argument("state: is empty");
    Stream stream = Stream::restore(state.substr(1));
    if (state[0] == 'o') return std::make_unique<Accumulator>(stream.options());
    return std::make_unique<Accumulator>(std::move(stream));
  }

 private:
  // NumPy has no bfloat16 and float8: their bits arrive as unsigned integers of the same size.
  static void accept_raw(DType wanted, TensorView& view) {
    const DType found = view.dtype;
    const bool lacking = wanted == DType::k_bfloat16 || name_of(wanted).starts_with("float8");
    const bool raw = found == DType::k_uint16 || found == DType::k_uint8;
    if (lacking && raw && row(wanted).item_size == row(found).item_size) view.dtype = wanted;
  }

  Options options_;
  std::optional<Stream> stream_;
  mutable OwnMutex mutex_;
};

void register_stream(py::module_& m) {
  py::class_<Accumulator>(m, "Accumulator", py::is_final(),
                          R"(Summarize a tensor that arrives in pieces: shards, chunks, memory maps.

Pieces cut anywhere give the bits of the whole, wherever each lies: of a piece on a CUDA device only the elements of blocks that
it begins or ends come to the host, at most 8190, for which update() waits. dtype: a name or dtype object; by default that of
the first piece. With dtype bfloat16 or a float8, arrays of uint16 or uint8 are taken as its bits. Picklable. NaN and
infinities are counted and otherwise left out; an empty stream has the summary of an empty tensor. Raises what summarize
raises.)")
      .def(py::init([](const py::object& dtype, py::handle histogram, py::handle resolution, py::handle fingerprint,
                       py::handle threads) {
             return std::make_unique<Accumulator>(dtype, options_of(histogram, resolution, fingerprint, threads));
           }),
           py::arg("dtype") = py::none(), py::kw_only(), py::arg("histogram") = false, py::arg("resolution") = 6,
           py::arg("fingerprint") = false, py::arg("threads") = py::none())
      .def_property_readonly("dtype", &Accumulator::dtype, "Name of the dtype, None before the first piece.")
      .def_property_readonly("count", &Accumulator::count, "Elements seen so far.")
      .def(
          "update",
          [](py::object self, py::handle x) {
            self.cast<Accumulator&>().update(x);
            return self;
          },
          py::arg("x"), R"(Append the elements of x; returns self.

ValueError if its dtype is not the accumulator's. A piece that is refused, or whose device fails, changes nothing.)")
      .def(
          "merge",
          [](py::object self, py::handle other) {
            self.cast<Accumulator&>().merge(instance_of<Accumulator>(other, "other", "Accumulator"));
            return self;
          },
          py::arg("other"), R"(Add what another accumulator saw; returns self.

Counts, extremes and histogram are exact, moments within float64 rounding of a single pass. ValueError if dtypes or
histogram options differ.)")
      .def("summary", &Accumulator::summary, R"(The summary of everything so far; shape is (count,).

ValueError if nothing arrived and no dtype was given.)")
      .def("__repr__",
           [](const Accumulator& a) {
             return "Accumulator(dtype=" + a.dtype().value_or("None") + ", count=" + std::to_string(a.count()) + ")";
           })
      .def(py::pickle([](const Accumulator& a) { return py::bytes(a.save()); },
                      [](const py::bytes& state) { return Accumulator::restore(state); }));
}

}  // namespace tensometer
