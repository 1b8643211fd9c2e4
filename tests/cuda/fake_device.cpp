#include "fake_device.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "cuda/emulation/machine.hpp"

namespace tensometer::fake {
namespace {

constexpr std::size_t alignment = 256;

std::size_t rounded(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }
std::size_t page() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

}  // namespace

Settings Settings::from_environment() {
  Settings settings;
  const std::map<std::string, long*> known = {
      {"devices", &settings.devices},     {"owner", &settings.owner}, {"version", &settings.version},
      {"major", &settings.major},         {"minor", &settings.minor}, {"fail_at", &settings.fail_at},
      {"error", &settings.error},         {"seed", &settings.seed},   {"late", &settings.late},
      {"capturing", &settings.capturing}, {"adopt", &settings.adopt}, {"foreign", &settings.foreign}};
  const char* text = std::getenv("TENSOMETER_FAKE");
  std::istringstream words(text != nullptr ? text : "");
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    const auto found = known.find(word.substr(0, equals));
    if (found == known.end() || equals == std::string::npos) {
      throw std::invalid_argument("TENSOMETER_FAKE: '" + word + "' is no setting");
    }
    *found->second = std::stol(word.substr(equals + 1));
  }
  return settings;
}

Pages::Pages(std::size_t bytes) : inner_(rounded(bytes, page())), bytes_(rounded(bytes, alignment)) {
  void* base = mmap(nullptr, inner_ + 2 * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  base_ = static_cast<std::byte*>(base);
  data_ = base_ + page() + inner_ - bytes_;
  protect(false);
  std::memset(base_ + page(), 0xa5, inner_);
}

Pages::~Pages() { munmap(base_, inner_ + 2 * page()); }

bool Pages::holds(Address from, std::size_t bytes) const {
  const auto begin = reinterpret_cast<Address>(data_);
  return from >= begin && from + bytes <= begin + bytes_;
}

void Pages::protect(bool closed) const {
  if (mprotect(base_ + page(), inner_, closed ? PROT_NONE : PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
}

Device& Device::the() {
  static Device& device = *new Device;  // never destroyed: others may call until the process ends
  return device;
}

void Device::reset() {
  settings = Settings::from_environment();
  random_.seed(static_cast<std::uint64_t>(settings.seed));
  streams_.clear();
  counts.clear();
  calls = 0;
  sticky = 0;
}

Status Device::alloc(std::size_t bytes, bool pinned, void** pointer) {
  if (bytes == 0) return cuda::constants::error_invalid_value;
  auto pages = std::make_unique<Pages>(bytes);
  pages->owner = settings.owner;
  if (!pinned) pages->protect(true);
  *pointer = pages->data();
  (pinned ? pinned_ : memory_).emplace(*pointer, std::move(pages));
  return 0;
}

Status Device::free(void* pointer, bool pinned) {
  advance([] { return false; });
  return (pinned ? pinned_ : memory_).erase(pointer) == 1 ? 0 : cuda::constants::error_invalid_value;
}

const Pages* Device::find(Address from, std::size_t bytes, bool pinned) const {
  for (const auto& [pointer, pages] : pinned ? pinned_ : memory_) {
    if (pages->holds(from, bytes)) return pages.get();
  }
  return nullptr;
}

void Device::write(void* to, const void* from, std::size_t bytes) {
  const Pages* pages = find(reinterpret_cast<Address>(to), bytes, false);
  if (pages == nullptr) throw std::invalid_argument("write: no device memory");
  pages->protect(false);
  std::memcpy(to, from, bytes);
  pages->protect(true);
}

bool Device::step() {
  if (sticky != 0) return false;
  std::vector<std::deque<Operation>*> able;
  for (auto& [handle, queue] : streams_) {
    if (!queue.empty() && (!queue.front().ready || queue.front().ready())) able.push_back(&queue);
  }
  if (able.empty()) return false;
  std::deque<Operation>& queue = *able[random_() % able.size()];
  const Operation operation = std::move(queue.front());
  queue.pop_front();
  for (const auto& [pointer, pages] : memory_) pages->protect(false);
  try {
    operation.run();
  } catch (const emulation::EmulationError& error) {
    // What a GPU would hang at is, here, a launch that failed.
    sticky = cuda::constants::error_launch_failed;
  }
  for (const auto& [pointer, pages] : memory_) pages->protect(true);
  return true;
}

void Device::advance(const std::function<bool()>& enough) {
  while (!enough() && step()) {
  }
}

void Device::advance_somewhat() {
  const auto late = static_cast<std::uint64_t>(settings.late);
  std::uint64_t left = settings.late < 0 ? ~std::uint64_t{0} : random_() % (late + 1);
  advance([&] { return left-- == 0; });
}

std::uint64_t Device::count(const std::string& name) const {
  if (name == "calls") return calls;
  if (name == "memory") return memory_.size();
  if (name == "pinned") return pinned_.size();
  if (name == "events") return events.size();
  if (name == "retained") return static_cast<std::uint64_t>(retained);
  if (name == "modules") return static_cast<std::uint64_t>(modules);
  const auto found = counts.find(name);
  return found == counts.end() ? 0 : found->second;
}

}  // namespace tensometer::fake
