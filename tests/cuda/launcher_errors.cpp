// The launcher over a fake driver that fails, or is not there: clear errors, and none of them a second time.
#include <sys/wait.h>

#include "launched.hpp"

namespace tensometer {
namespace {

// What came of submits, polls and a close while one driver call failed.
struct Outcome {
  bool ended = false;    // there was no launcher any more
  unsigned refused = 0;  // submits that found no memory, and were made again
};

// Results must be right all the same.
Outcome outcome_of(const Twins& tensors, const Twins& others, const std::string& what) {
  const std::vector<TensorSummary> expected = tensors.expected(everything), also = others.expected(everything);
  Launcher launcher(0, image(), {2, 10000});
  Outcome outcome;
  const auto check_all = [&](const std::vector<Finished>& done) {
    for (const Finished& finished : done) check_equal(finished, finished.ticket == 2 ? also : expected, what);
  };
  const auto submit = [&](const Twins& twins, std::uintptr_t number) {
    try {
      launcher.submit(twins.on_device(), everything, stream(number));
    } catch (const OutOfMemory& error) {
      const std::string text = error.what();
      CHECK(text.ends_with(" failed: CUDA_ERROR_OUT_OF_MEMORY: out of memory"), what, ": ", text);
      ++outcome.refused;
      CHECK(launcher.submit(twins.on_device(), everything, stream(number)), what);
    }
  };
  try {
    submit(tensors, 1);
    submit(tensors, 2);
    check_all(launcher.poll());
    submit(others, 1);
    check_all(launcher.poll());
    check_all(launcher.wait());
    launcher.close();
  } catch (const CudaError& error) {
    const std::string text = error.what();
    CHECK(text.starts_with("cuda: cu") && text.find(" failed: ") != std::string::npos, what, ": ", text);
    const std::uint64_t calls = count("calls");
    check::throws<CudaError>([&] { launcher.submit(tensors.on_device(), everything, stream(1)); }, text);
    check::throws<CudaError>([&] { launcher.poll(); }, text);
    check::throws<CudaError>([&] { launcher.wait(); }, text);
    check::throws<CudaError>([&] { launcher.close(); }, text);
    CHECK(count("calls") == calls, what, ": the driver was called again");
    outcome.ended = true;
  }
  return outcome;
}

TEST(launched_errors_of_every_call_are_clear) {
  const auto tensors = fake::some_tensors(20), others = fake::some_tensors(21);
  fake::reset("late=40");
  const Outcome without = outcome_of(*tensors, *others, "no error");
  CHECK(!without.ended && without.refused == 0);
  const std::uint64_t calls = count("calls");
  CHECK(calls > 60, calls, " calls");
  for (std::uint64_t n = 1; n <= calls; ++n) {
    if (check::quick() && n % 7 != 0) continue;
    fake::reset(check::text("late=40 error=700 fail_at=", n));
    CHECK(outcome_of(*tensors, *others, check::text("call ", n)).ended, "an error at call ", n, " was lost");
  }
}

// Other code of the process may take a device's memory and give it back: that is no end.
TEST(launched_where_there_is_no_memory_is_an_error_of_one_submit) {
  const auto tensors = fake::some_tensors(20), others = fake::some_tensors(21);
  fake::reset("late=40");
  outcome_of(*tensors, *others, "no error");
  const std::uint64_t calls = count("calls");
  const std::uint64_t takes = calls_that_take_memory();
  CHECK(takes > 8, takes, " calls take memory");
  std::uint64_t refused = 0;
  for (std::uint64_t n = 1; n <= calls; ++n) {
    if (check::quick() && n % 3 != 0) continue;
    fake::reset(check::text("late=40 error=2 fail_at=", n));
    const Outcome outcome = outcome_of(*tensors, *others, check::text("call ", n));
    CHECK(outcome.ended != (outcome.refused == 1), "no memory at call ", n);
    refused += outcome.refused;
    CHECK(outcome.ended || (count("contexts") == 0 && count("capture mode") == 0), "at call ", n);
  }
  CHECK(check::quick() ? refused > 2 : refused == takes, refused, " of ", takes);
}

TEST(launched_sticky_errors_come_with_advice) {
  const auto tensors = fake::some_tensors(22);
  fake::reset("late=0");
  Launcher launcher(0, image());
  CHECK(launcher.submit(tensors->on_device(), everything, nullptr));
  fake::reset("fail_at=1");  // all that was queued is gone, as after a kernel of the user's that failed
  check::throws<CudaError>([&] { launcher.submit(tensors->on_device(), everything, nullptr); },
                           "most often comes from a kernel of the program's own");
  Launcher poor(0, image());
  fake::reset("fail_at=1 error=2");
  check::throws<CudaError>([&] { poor.submit(tensors->on_device(), everything, nullptr); },
                           "cuInit failed: CUDA_ERROR_OUT_OF_MEMORY: out of memory");
}

TEST(launched_in_a_forked_child_is_an_error) {
  const auto tensors = fake::some_tensors(23);
  fake::reset("late=0");
  auto launcher = std::make_unique<Launcher>(0, image(), roomy);
  Launcher other(0, image());
  CHECK(launcher->submit(tensors->on_device(), everything, nullptr));
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    const std::uint64_t calls = count("calls");
    int status = 0;
    try {
      const char* words = "was forked from one that takes CUDA statistics";
      check::throws<std::runtime_error>([&] { launcher->submit(tensors->on_device(), everything, nullptr); }, words);
      check::throws<std::runtime_error>([&] { other.submit(tensors->on_device(), everything, nullptr); }, words);
      check::throws<std::runtime_error>([&] { launcher->poll(); }, words);
      check::throws<std::runtime_error>([&] { launcher->wait(); }, words);
      check::throws<std::runtime_error>([&] { launcher->close(); }, words);
      {
        Launcher third(0, image());
      }
      if (count("calls") != calls) status = 2;
    } catch (const std::exception&) {
      status = 1;
    }
    _exit(status);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status ", status);
  check_equal(only(launcher->wait()), tensors->expected(everything), "the parent");
}

TEST(launched_without_driver_device_or_image_is_an_error) {
  const auto tensors = fake::some_tensors(24);
  const auto refused = [&](int device, const cuda::Images& images, const char* words) {
    Launcher launcher(device, images);
    for (unsigned turn = 0; turn < 2; ++turn) {
      check::throws<CudaError>([&] { launcher.begin(); }, words);
      check::throws<CudaError>([&] { launcher.submit(tensors->on_device(), everything, nullptr); }, words);
    }
  };
  fake::reset();
  refused(3, image(), "there is no device 3: the driver knows 1");
  const auto none = [](int, int) { return std::span<const std::byte>(); };
  refused(0, none, "no kernels for device 0 (Fake GPU, compute capability 9.0)");
  static constexpr char wrong[] = "some other image of kernels";
  const auto another = [](int, int) { return std::as_bytes(std::span(wrong)); };
  refused(0, another, "cuModuleLoadData failed: CUDA_ERROR_INVALID_IMAGE");
  fake::reset("version=12040");
  refused(0, another, "device kernel image is invalid; the driver is of CUDA 12.4");
  fake::reset("devices=0");
  refused(0, image(), "CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected");
  setenv("TENSOMETER_LIBCUDA", "/nonexistent/libcuda.so.1", 1);
  refused(0, image(), "no driver: /nonexistent/libcuda.so.1");
  setenv("TENSOMETER_LIBCUDA", "libm.so.6", 1);
  refused(0, image(), "the driver libm.so.6 lacks cuInit");
  fake::reset();
}

TEST(launched_under_capture_is_an_error) {
  const auto tensors = fake::some_tensors(25);
  fake::reset("capturing=7");
  Launcher launcher(0, image(), roomy);
  for (const std::uintptr_t handle : {7, 0}) {
    check::throws<std::runtime_error>([&] { launcher.submit(tensors->on_device(), everything, stream(handle)); },
                                      "being captured");
  }
  CHECK(count("cuModuleLoadData") == 0 && count("contexts") == 0 && count("capture mode") == 0);
  // Another stream is not hindered, nor does it hinder the capture.
  CHECK(launcher.submit(tensors->on_device(), everything, stream(8)));
  check_equal(only(launcher.poll()), tensors->expected(everything), "beside a capture");
  launcher.close();
}

TEST(launched_tensors_must_be_of_the_device) {
  const auto tensors = fake::some_tensors(26);
  fake::reset("owner=1 devices=2");
  const auto elsewhere = fake::some_tensors(27);
  fake::reset();
  Launcher launcher(0, image(), roomy);
  check::throws<std::invalid_argument>([&] { launcher.submit({&tensors->tensors[1]->host, 1}, everything, nullptr); },
                                       "tensor 0 is not in the memory of a CUDA device");
  check::throws<std::invalid_argument>([&] { launcher.submit(elsewhere->on_device(), everything, nullptr); },
                                       "tensor 0 is in the memory of CUDA device 1, not of device 0");
  TensorView endless = contiguous(tensors->tensors[0]->device.data, DType::k_float32, {std::int64_t{1} << 41});
  endless.strides[0] = 0;
  check::throws<std::invalid_argument>([&] { launcher.submit({&endless, 1}, everything, nullptr); },
                                       "x: tensor 0 has more than 2^40 elements");
  TensorView swapped = tensors->tensors[0]->device;
  swapped.swapped = true;
  check::throws<std::invalid_argument>([&] { launcher.submit({&swapped, 1}, everything, nullptr); }, "byte order");
  CHECK(launcher.submit(tensors->on_device(), everything, nullptr));
  check_equal(only(launcher.poll()), tensors->expected(everything), "afterwards");
}

}  // namespace
}  // namespace tensometer
