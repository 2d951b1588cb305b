#include "base/cpu_topology.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <string>
#include <thread>

#if defined(__linux__)
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#endif

#include <fmt/format.h>

#include "base/file.h"

namespace ds4 {
namespace {

constexpr size_t kMaxCpus = 65536;
constexpr uint64_t kMaxSystemFileBytes = 1 << 20;

// Takes a number from the front of the text.
std::optional<int> take_number(std::string_view& text) {
  int value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || value < 0) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

bool take_char(std::string_view& text, char wanted) {
  if (!text.starts_with(wanted)) return false;
  text.remove_prefix(1);
  return true;
}

std::vector<int> cpu_list_of(const std::string& path) {
  const Result<std::string> text = read_file(path, kMaxSystemFileBytes);
  if (!text.ok()) return {};
  return parse_cpu_list(text.value()).value_or(std::vector<int>());
}

#if defined(__linux__)

std::vector<int> usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

// Usable processors, those of a node side by side.
std::vector<int> usable_cpus_by_node() {
  const std::vector<int> usable = usable_cpus();
  std::vector<int> ordered;
  const auto take = [&](std::span<const int> cpus) {
    for (const int cpu : cpus) {
      if (std::ranges::binary_search(usable, cpu) && std::ranges::find(ordered, cpu) == ordered.end()) {
        ordered.push_back(cpu);
      }
    }
  };
  for (const int node : cpu_list_of("/sys/devices/system/node/online")) {
    take(cpu_list_of(fmt::format("/sys/devices/system/node/node{}/cpulist", node)));
  }
  take(usable);
  return ordered;
}

constexpr size_t kMaskBits = 64;
constexpr size_t kMaxNodes = 1024;  // the kernel's own limit

// A node set as the memory policy calls take it.
std::optional<std::array<uint64_t, kMaxNodes / kMaskBits>> node_mask(std::span<const int> nodes) {
  std::array<uint64_t, kMaxNodes / kMaskBits> mask{};
  for (const int node : nodes) {
    const auto bit = static_cast<size_t>(node);
    if (bit >= kMaxNodes) return std::nullopt;
    mask[bit / kMaskBits] |= uint64_t{1} << (bit % kMaskBits);
  }
  return mask;
}

#endif

}  // namespace

std::optional<std::vector<int>> parse_cpu_list(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  std::vector<int> cpus;
  if (text.empty()) return cpus;
  do {
    const std::optional<int> first = take_number(text);
    const std::optional<int> last = take_char(text, '-') ? take_number(text) : first;
    if (!first || !last || *last < *first) return std::nullopt;
    if (static_cast<size_t>(*last - *first) >= kMaxCpus - cpus.size()) return std::nullopt;
    for (int cpu = *first; cpu <= *last; ++cpu) cpus.push_back(cpu);
  } while (take_char(text, ','));
  if (!text.empty()) return std::nullopt;
  return cpus;
}

std::optional<int> parse_cpu_quota(std::string_view text) {
  const std::optional<int> quota_us = take_number(text);
  if (!take_char(text, ' ')) return std::nullopt;
  const std::optional<int> period_us = take_number(text);
  if (!quota_us || !period_us || *quota_us == 0 || *period_us == 0) return std::nullopt;
  return (*quota_us - 1) / *period_us + 1;
}

std::vector<int> spread_over_cpus(std::span<const int> cores, std::span<const int> siblings, int n_threads) {
  std::vector<int> chosen;
  const auto n = static_cast<size_t>(n_threads);
  for (size_t thread = 0; thread < n && !cores.empty(); ++thread) {
    if (n <= cores.size()) {
      chosen.push_back(cores[thread * cores.size() / n]);
    } else {
      const size_t place = thread % (cores.size() + siblings.size());
      chosen.push_back(place < cores.size() ? cores[place] : siblings[place - cores.size()]);
    }
  }
  return chosen;
}

std::vector<int> memory_nodes() {
  std::vector<int> nodes = cpu_list_of("/sys/devices/system/node/has_memory");
  if (nodes.empty()) nodes.push_back(0);
  return nodes;
}

#if defined(__linux__)

int usable_cpu_count() {
  const size_t n_usable = usable_cpus().size();
  // More processors than cpu_set_t holds: the library counts them all.
  const int count = std::max(1, static_cast<int>(n_usable > 0 ? n_usable : std::thread::hardware_concurrency()));
  const Result<std::string> text = read_file("/sys/fs/cgroup/cpu.max", kMaxSystemFileBytes);
  const std::optional<int> quota = text.ok() ? parse_cpu_quota(text.value()) : std::nullopt;
  return std::min(count, quota.value_or(count));
}

std::vector<int> cpus_for_threads(int n_threads) {
  std::vector<int> cores;
  std::vector<int> siblings;
  for (const int cpu : usable_cpus_by_node()) {
    const std::vector<int> core =
        cpu_list_of(fmt::format("/sys/devices/system/cpu/cpu{}/topology/core_cpus_list", cpu));
    const bool taken = std::ranges::find_first_of(core, cores) != core.end();
    (taken ? siblings : cores).push_back(cpu);
  }
  return spread_over_cpus(cores, siblings, n_threads);
}

bool pin_this_thread(int cpu) {
  if (cpu < 0 || cpu >= CPU_SETSIZE) return false;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof(set), &set) == 0;
}

bool interleave_memory(std::span<std::byte> memory, std::span<const int> nodes) {
  const auto page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(memory.data());
  const uintptr_t first = (begin + page_bytes - 1) / page_bytes * page_bytes;
  const uintptr_t last = (begin + memory.size()) / page_bytes * page_bytes;
  const auto mask = node_mask(nodes);
  if (!mask) return false;
  if (first >= last) return true;
  return syscall(SYS_mbind, first, last - first, MPOL_INTERLEAVE, mask->data(), kMaxNodes, 0) == 0;
}

bool interleave_this_thread(std::span<const int> nodes) {
  const auto mask = node_mask(nodes);
  return mask && syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, mask->data(), kMaxNodes) == 0;
}

#else

int usable_cpu_count() { return static_cast<int>(std::max(1u, std::thread::hardware_concurrency())); }
std::vector<int> cpus_for_threads(int) { return {}; }
bool pin_this_thread(int) { return false; }
bool interleave_memory(std::span<std::byte>, std::span<const int>) { return false; }
bool interleave_this_thread(std::span<const int>) { return false; }

#endif

}  // namespace ds4
