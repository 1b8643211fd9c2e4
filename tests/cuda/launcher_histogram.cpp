// Histograms of given bins over a fake driver: count for count those of the CPU.
#include <algorithm>
#include <memory>
#include <tuple>

#include "launched.hpp"
#include "uniform.hpp"

namespace tensometer {
namespace {

std::vector<double> even_edges(double first, double last, std::size_t bins) {
  std::vector<double> edges;
  for (std::size_t i = 0; i <= bins; ++i) {
    edges.push_back(first + (last - first) * static_cast<double>(i) / static_cast<double>(bins));
  }
  edges.back() = last;
  return edges;
}

// Few bins and more than shared memory has, of one width and of others, some of them empty by themselves; one value.
std::vector<std::vector<double>> many_edges(Random& random) {
  std::vector<std::vector<double>> all = {
      even_edges(-2, 2, 64),  even_edges(0, 1, 1), even_edges(-1e3, 1e3, 7), even_edges(-3, 3, 5000), {1, 1},
      {-1, 0, 0, 0.5, 2, 100}};
  std::vector<double> any;
  for (unsigned i = 0; i < 40; ++i) any.push_back(random.bell());
  std::sort(any.begin(), any.end());
  all.push_back(any);
  return all;
}

TEST(launched_histograms_equal_the_cpu) {
  fake::reset("seed=4");
  Random random(1);
  const auto all = many_edges(random);
  Launcher launcher(0, image());
  const auto check = [&](const fake::Twin& twin, const std::string& what) {
    for (const std::vector<double>& edges : all) {
      CHECK(launcher.histogram(twin.device, edges, stream(1)) == uniform_histogram(twin.host, edges, 1), what, ", ",
            edges.size() - 1, " bins");
    }
  };
  for_each_lane_type([&]<class T>(DType dtype) {
    const auto size = static_cast<std::int64_t>(2 * block_size + 77);
    for (const std::vector<T>& x :
         {ordinary_elements<T>(2 * block_size + 77, 2), wild_elements<T>(2 * block_size + 77, 3)}) {
      check(fake::Twin(contiguous(nullptr, dtype, {size}), bytes_of(x)), std::string(row(dtype).name));
    }
  });
  for (const DType dtype : all_types()) {
    if (row(dtype).lanes != Lanes::table) continue;
    std::vector<std::byte> bytes = random_bytes(5000, 4);
    if (dtype == DType::k_bool) {
      for (std::byte& byte : bytes) byte &= std::byte{1};
    }
    check(fake::Twin(contiguous(nullptr, dtype, {5000}), std::move(bytes)), std::string(row(dtype).name));
  }
  const auto tensors = fake::some_tensors(6);
  for (const auto& twin : tensors->tensors) check(*twin, "any layout");
}

// Every edge itself, and its neighbours.
TEST(launched_histograms_at_edges_equal_the_cpu) {
  fake::reset();
  Launcher launcher(0, image());
  for (const auto& [first, last, bins] :
       {std::tuple(-1.0, 1.0, 10), std::tuple(0.1, 0.7, 30), std::tuple(-7e5, 3e9, 99)}) {
    const std::vector<double> edges = even_edges(first, last, static_cast<std::size_t>(bins));
    std::vector<double> x;
    for (const double edge : edges) {
      for (const double value : {std::nextafter(edge, -infinity), edge, std::nextafter(edge, infinity)})
        x.push_back(value);
    }
    x.insert(x.end(), {nan_value, infinity, -infinity, -0.0});
    const fake::Twin twin(contiguous(nullptr, DType::k_float64, {static_cast<std::int64_t>(x.size())}), bytes_of(x));
    CHECK(launcher.histogram(twin.device, edges, nullptr) == uniform_histogram(twin.host, edges, 1), first, " to ",
          last);
  }
}

TEST(launched_histograms_leave_what_is_under_way) {
  fake::reset("late=0");
  const std::uint64_t pinned = count("pinned"), events = count("events");
  const auto tensors = fake::some_tensors(8);
  const std::vector<double> edges = even_edges(-2, 2, 10);
  Launcher launcher(0, image(), roomy);
  CHECK(launcher.submit(tensors->on_device(), everything, stream(1)));
  const fake::Twin& twin = *tensors->tensors[0];
  CHECK(launcher.histogram(twin.device, edges, stream(2)) == uniform_histogram(twin.host, edges, 1));
  check_equal(only(launcher.wait()), tensors->expected(everything), "beside a histogram");
  const TensorView empty = contiguous(nullptr, DType::k_float32, {0});
  CHECK(launcher.histogram(empty, edges, nullptr) == std::vector<std::int64_t>(10));
  const TensorView complex = contiguous(nullptr, DType::k_complex64, {0});
  check::throws<std::invalid_argument>([&] { launcher.histogram(complex, edges, nullptr); },
                                       "x: has dtype complex64, which has no order");
  check::throws<std::invalid_argument>([&] { launcher.histogram(twin.host, edges, nullptr); },
                                       "x: is not in the memory of a CUDA device");
  launcher.close();
  CHECK(count("pinned") == pinned && count("events") == events);
}

TEST(launched_histograms_errors_of_every_call_are_clear) {
  const auto tensors = fake::some_tensors(9);
  const fake::Twin& twin = *tensors->tensors[0];
  const std::vector<double> edges = even_edges(-2, 2, 10);
  const auto survives = [&](const std::string& what) {
    Launcher launcher(0, image());
    try {
      std::vector<std::int64_t> counts;
      try {
        counts = launcher.histogram(twin.device, edges, stream(1));
      } catch (const OutOfMemory&) {
        counts = launcher.histogram(twin.device, edges, stream(1));
      }
      CHECK(counts == uniform_histogram(twin.host, edges, 1), what);
      launcher.close();
      return true;
    } catch (const CudaError& error) {
      const std::string text = error.what();
      CHECK(text.starts_with("cuda: cu") && text.find(" failed: ") != std::string::npos, what, ": ", text);
      check::throws<CudaError>([&] { launcher.histogram(twin.device, edges, stream(1)); }, text);
      return false;
    }
  };
  fake::reset();
  CHECK(survives("no error"));
  const std::uint64_t calls = count("calls");
  const std::uint64_t takes = calls_that_take_memory();
  std::uint64_t refused = 0;
  for (std::uint64_t n = 1; n <= calls; ++n) {
    fake::reset(check::text("error=700 fail_at=", n));
    CHECK(!survives(check::text("call ", n)), "the error of call ", n, " was lost");
    fake::reset(check::text("error=2 fail_at=", n));
    refused += survives(check::text("no memory at call ", n));
  }
  CHECK(refused == takes, refused, " of ", takes);
}

}  // namespace
}  // namespace tensometer
