// core_tests [--quick] [--isas=NAMES] [--without=WORD] [words...]: runs the tests whose names contain any of the words,
// and not the one after --without; one line a test. --isas names, separated by commas, the instruction sets that this
// machine must turn out to run: an emulator of an older one proves the choice.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "check.hpp"
#include "dispatch.hpp"

namespace {

struct Named {
  std::string_view name;
  check::Test test;
};

std::vector<Named>& tests() {
  static std::vector<Named> all;
  return all;
}

bool quick_run = false;

// The failure's message; empty if the test passed.
std::string run(const Named& named) {
  try {
    named.test();
    return {};
  } catch (const check::Failure& failure) {
    return failure.what();
  } catch (const std::exception& error) {
    return std::string("unexpected exception: ") + error.what();
  }
}

std::string instruction_set_names() {
  std::string names;
  for (const tensometer::InstructionSet* set : tensometer::instruction_sets()) {
    if (!names.empty()) names += ',';
    names += set->name;
  }
  return names;
}

// The value of an argument `name=value`, which is taken out of the arguments; empty if there is none.
std::string_view take_option(std::vector<std::string_view>& arguments, std::string_view name) {
  std::string_view value;
  std::erase_if(arguments, [&](std::string_view argument) {
    if (!argument.starts_with(name)) return false;
    value = argument.substr(name.size());
    return true;
  });
  return value;
}

bool contains(std::string_view name, std::string_view word) { return name.find(word) != std::string_view::npos; }

}  // namespace

check::Registration::Registration(const char* name, Test test) { tests().push_back({name, test}); }
bool check::quick() { return quick_run; }

int main(int count, char** arguments) {
  std::vector<std::string_view> words(arguments + 1, arguments + count);
  quick_run = std::erase(words, "--quick") != 0;
  const std::string_view expected_sets = take_option(words, "--isas="), unwanted = take_option(words, "--without=");
  const std::string sets = instruction_set_names();
  std::printf("instruction sets: %s\n", sets.c_str());
  if (!expected_sets.empty() && sets != expected_sets) {
    std::printf("FAIL: --isas names others\n");
    return 1;
  }
  std::sort(tests().begin(), tests().end(), [](const Named& a, const Named& b) { return a.name < b.name; });
  unsigned passed = 0, failed = 0;
  for (const Named& named : tests()) {
    const auto wanted = [&](std::string_view word) { return contains(named.name, word); };
    if (!words.empty() && std::none_of(words.begin(), words.end(), wanted)) continue;
    if (!unwanted.empty() && contains(named.name, unwanted)) continue;
    const auto start = std::chrono::steady_clock::now();
    const std::string failure = run(named);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::printf("%s %s (%.2f s)\n", failure.empty() ? "ok  " : "FAIL", named.name.data(), seconds.count());
    if (!failure.empty()) std::printf("     %s\n", failure.c_str());
    std::fflush(stdout);
    ++(failure.empty() ? passed : failed);
  }
  std::printf("%u passed, %u failed\n", passed, failed);
  return failed == 0 && passed != 0 ? 0 : 1;
}
