// The caller's floating-point environment changes no result, and is found as it was. Which instruction set is in use.
#include <cfenv>

#include "compare.hpp"
#include "data.hpp"
#include "stream.hpp"
#include "uniform.hpp"

namespace tensometer {
namespace {

// Flushes sub-normals to zero, on input and output, as torch.set_flush_denormal(True) does. Of the control words that C
// libraries put into fenv_t, the one this machine has: a test of instruction sets belongs elsewhere.
template <class Environment>
void flush_subnormals(Environment& environment) {
  if constexpr (requires { environment.__mxcsr; }) {
    environment.__mxcsr |= 0x8040;
  } else {
    environment.__fpcr |= 1u << 24;
  }
}

// While it lives, this thread flushes sub-normals to zero and rounds as told.
class Strange {
 public:
  explicit Strange(int rounding) {
    std::fegetenv(&before_);
    std::fenv_t strange = before_;
    flush_subnormals(strange);
    std::fesetenv(&strange);
    std::fesetround(rounding);
  }
  ~Strange() { std::fesetenv(&before_); }
  Strange(const Strange&) = delete;
  Strange& operator=(const Strange&) = delete;

 private:
  std::fenv_t before_;
};

// Zero while sub-normals are flushed; volatile, for a compiler reckons with the default environment.
bool flushing() {
  const volatile float small = std::numeric_limits<float>::denorm_min();
  const volatile float twice = small * 2;
  return std::fpclassify(twice) == FP_ZERO;
}

struct Results {
  TensorSummary summary, merged, streamed;
  Comparison comparison;
  std::vector<std::int64_t> uniform;

  bool operator==(const Results&) const = default;
};

template <class T>
Results results_of(DType dtype, const std::vector<T>& elements, const std::vector<T>& others) {
  const Options options{HistogramMode::full, 6, true, 2};
  const TensorView view = vector_view(elements.data(), dtype, elements.size());
  const TensorView other = vector_view(others.data(), dtype, others.size());
  const std::vector<double> edges{-1e-39, -1e-42, 0, 1e-44, 1e-40, 1e-38, 1};
  Results results;
  results.summary = summarize_one(view, options);
  results.merged = merge(results.summary, summarize_one(other, options));
  Stream stream(dtype, options);
  stream.update({view, view.shape, 0});
  stream.update({other, other.shape, 7});
  Stream second(dtype, options);
  second.update({other, other.shape, 0});
  stream.merge(second);
  results.streamed = stream.summary();
  results.comparison = compare(view, other, options);
  results.uniform = uniform_histogram(view, edges, 2);
  return results;
}

template <class T>
void check_environments(DType dtype, int exponent) {
  Random random(90);
  std::vector<T> elements(200001), others(200001);
  for (T& x : elements) x = static_cast<T>(std::ldexp(random.bell(), exponent));
  for (T& x : others) x = static_cast<T>(std::ldexp(random.bell(), exponent));
  for (const InstructionSet* set : instruction_sets()) {
    const Forced forced(set->name);
    const Results expected = results_of(dtype, elements, others);
    for (const int rounding : {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
      const Strange strange(rounding);
      CHECK(flushing(), "sub-normals are not flushed before the call");
      const Results found = results_of(dtype, elements, others);
      const bool kept = flushing() && std::fegetround() == rounding;
      CHECK(kept, row(dtype).name, " ", set->name, ": the caller's environment is changed");
      CHECK(found == expected, row(dtype).name, " ", set->name, ", rounding ", rounding, ", scale ", exponent);
    }
  }
}

TEST(results_do_not_depend_on_the_callers_float_environment) {
  for (const int exponent : {-140, -126, 0, 100}) check_environments<float>(DType::k_float32, exponent);
  for (const int exponent : {-1050, 0}) check_environments<double>(DType::k_float64, exponent);
}

TEST(results_of_16_bit_types_do_not_depend_on_the_callers_float_environment) {
  for_each_lane_type([]<class T>(DType dtype) {
    if constexpr (sizeof(T) == 2) {
      const std::vector<T> elements = wild_elements<T>(9000, 91), others = wild_elements<T>(9000, 92);
      const Results expected = results_of(dtype, elements, others);
      const Strange strange(FE_UPWARD);
      CHECK(results_of(dtype, elements, others) == expected, row(dtype).name);
    }
  });
}

TEST(instruction_sets_are_chosen_by_name) {
  const auto sets = instruction_sets();
  CHECK(!sets.empty());
  std::string known;
  for (const InstructionSet* set : sets) {
    const Forced forced(set->name);
    CHECK(&instruction_set() == set, set->name);
    CHECK(select_instruction_set(set->name) == set->name, "the name that was forced before");
    known += (known.empty() ? "'" : ", '") + std::string(set->name) + "'";
  }
  for (const std::string_view wrong : {"avx3", "AVX2", "baselin", " "}) {
    check::throws<std::invalid_argument>([&] { select_instruction_set(wrong); }, known);
  }
  const std::string before = select_instruction_set("");
  if (std::getenv("TENSOMETER_ISA") == nullptr) CHECK(&instruction_set() == sets.back(), "not the widest");
  select_instruction_set(before);
}

}  // namespace
}  // namespace tensometer
