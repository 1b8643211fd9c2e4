// Tensors on CUDA devices: who reduces them, and what there is to do it with.
#include <exception>
#include <map>
#include <mutex>
#include <utility>

#include "cuda/image.hpp"
#include "placed.hpp"

namespace tensometer {

cuda::Engine& engine_of(int device) {
  cuda::check_process();
  static auto* const mutex = new std::mutex;
  static auto* const engines = new std::map<int, std::unique_ptr<cuda::Engine>>;
  const std::lock_guard lock(*mutex);
  std::unique_ptr<cuda::Engine>& engine = (*engines)[device];
  if (!engine) engine = std::make_unique<cuda::Engine>(device, [](int, int) { return cuda::image(); });
  return *engine;
}

std::vector<Part> parts_of(std::span<const SparseView> tensors, std::span<const Place> places, const Options& options,
                           cuda::Room room) {
  std::map<Place, Part> by_place;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!places[i].on_device()) continue;
    Part& part = by_place[places[i]];
    part.place = places[i];
    part.rows.push_back(i);
    part.views.push_back(tensors[i].values);
  }
  std::vector<Part> parts;
  for (auto& [place, part] : by_place) {
    const std::uint64_t most_bytes = cuda::most_bytes_of(part.views, options, room);
    for (std::span<const TensorView> views = part.views; !views.empty();) {
      const std::size_t size = cuda::part_of(views, options, most_bytes);
      const auto first = part.rows.end() - static_cast<std::ptrdiff_t>(views.size());
      parts.push_back({place, {first, first + static_cast<std::ptrdiff_t>(size)}, {}});
      parts.back().views.assign(views.begin(), views.begin() + static_cast<std::ptrdiff_t>(size));
      views = views.subspan(size);
    }
  }
  return parts;
}

TensorSummary row_of(cuda::Found&& found, const SparseView& tensor) {
  TensorSummary summary = std::move(found.summary);
  summary.shape.assign(tensor.shape.begin(), tensor.shape.end());
  add_zeros(summary, tensor.implicit_zeros);
  return summary;
}

namespace {

// Submits of which nothing stays behind, should another one fail.
class UnderWay {
 public:
  UnderWay() = default;
  UnderWay(const UnderWay&) = delete;
  UnderWay& operator=(const UnderWay&) = delete;
  ~UnderWay() {
    for (const auto& [engine, ticket] : submits_) {
      try {
        if (engine != nullptr) engine->forget(ticket);
      } catch (const std::exception&) {
        // A forked child, where nothing is left of it.
      }
    }
  }

  void push_back(std::pair<cuda::Engine*, cuda::Ticket> submit) { submits_.push_back(submit); }
  cuda::Finished take(std::size_t k) { return std::exchange(submits_[k].first, nullptr)->take(submits_[k].second); }

 private:
  std::vector<std::pair<cuda::Engine*, cuda::Ticket>> submits_;
};

}  // namespace

KeptVector<TensorSummary> summarize_placed(std::span<const SparseView> tensors, std::span<const Place> places,
                                           const Options& options) {
  KeptVector<TensorSummary> results(tensors.size());
  // The devices begin, and the host reduces its own beside them.
  const std::vector<Part> parts = parts_of(tensors, places, options, cuda::Room::most);
  UnderWay tickets;
  for (const Part& part : parts) {
    const std::span<const TensorView> views = part.views;
    cuda::Engine& engine = engine_of(part.place.device);
    try {
      tickets.push_back({&engine, engine.submit(views, options, part.place.stream)});
    } catch (const cuda::TensorError& error) {
      throw cuda::TensorError("x", part.rows[error.index], error.why);
    }
  }
  std::vector<SparseView> here;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!places[i].on_device()) here.push_back(tensors[i]);
  }
  KeptVector<TensorSummary> of_host = summarize(here, options);
  for (std::size_t i = 0, next = 0; i < tensors.size(); ++i) {
    if (!places[i].on_device()) results[i] = std::move(of_host[next++]);
  }
  for (std::size_t k = 0; k < parts.size(); ++k) {
    std::vector<cuda::Found> found = tickets.take(k).tensors;
    for (std::size_t i = 0; i < found.size(); ++i) {
      const std::size_t row = parts[k].rows[i];
      results[row] = row_of(std::move(found[i]), tensors[row]);
    }
  }
  return results;
}

KeptVector<TensorSummary> summarize_units_placed(const TensorView& view, const Place& place, std::size_t dim,
                                                 const Options& options) {
  constexpr std::size_t batch = 1 << 14;  // views of a million rows would outweigh their summaries
  const auto count = static_cast<std::size_t>(view.shape[dim]);
  KeptVector<TensorSummary> results;
  results.reserve(count);
  for (std::size_t first = 0; first < count; first += batch) {
    const std::vector<SparseView> units = units_of(view, dim, first, std::min(count, first + batch));
    const std::vector<Place> places(units.size(), place);
    for (TensorSummary& summary : summarize_placed(units, places, options)) results.push_back(std::move(summary));
  }
  return results;
}

Comparison compare_placed(const TensorView& old_view, const Place& old_place, const TensorView& new_view,
                          const Place& new_place, const Options& options) {
  cuda::Engine& engine = engine_of(new_place.device);
  // Submits wait for each other, whatever their streams: an empty one makes this wait for the old tensor's.
  if (old_place.stream != new_place.stream) {
    engine.forget(engine.submit(std::span<const TensorView>(), options, old_place.stream));
  }
  const cuda::PairView pair{old_view, new_view, std::nullopt};
  try {
    const cuda::Ticket ticket = engine.submit(std::span(&pair, 1), options, new_place.stream);
    return std::move(engine.take(ticket).pairs[0].comparison);
  } catch (const cuda::TensorError& error) {
    throw py::value_error(error.argument + ": " + error.why);
  }
}

std::vector<std::int64_t> histogram_placed(const TensorView& view, const Place& place, std::span<const double> edges) {
  return engine_of(place.device).histogram(view, edges, place.stream);
}

ReducedPiece reduce_placed(const TensorView& view, const Place& place, const Cut& cut, const Options& options) {
  cuda::Engine& engine = engine_of(place.device);
  const cuda::PieceView piece{view, cut};
  try {
    const cuda::Ticket ticket = engine.submit(std::span(&piece, 1), options, place.stream);
    return std::move(engine.take(ticket).pieces[0]);
  } catch (const cuda::TensorError& error) {
    throw py::value_error(error.argument + ": " + error.why);
  }
}

namespace {

py::list devices() {
  std::vector<cuda::Facts> all;
  {
    const Unlocked unlocked;
    all = cuda::devices();
  }
  py::list rows;
  for (const cuda::Facts& facts : all) {
    rows.append(py::make_tuple(facts.name, facts.major, facts.minor, facts.processors));
  }
  return rows;
}

int driver_version() {
  const Unlocked unlocked;
  return cuda::version_of(*cuda::open_driver());
}

}  // namespace

void register_cuda(py::module_& m) {
  m.def("cuda_devices", &devices,
        "(name, major, minor, multiprocessors) of every device, without a context on any. RuntimeError without a "
        "driver.");
  m.def(
      "cuda_image", [] { return py::make_tuple(cuda::image().size(), cuda::image_words(), cuda::image_toolkit()); },
      "The size of the embedded kernels in bytes, 0 if there are none, for which architectures they are, and which "
      "version "
      "of CUDA compiled them (13010 for 13.1; 0 if that is not known).");
  m.def("cuda_driver_version", &driver_version,
        "The version of CUDA that the driver is of, as cuda_image tells it. RuntimeError without a driver.");
}

}  // namespace tensometer
