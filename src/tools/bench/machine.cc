#include "tools/bench/machine.h"

#include <fmt/chrono.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <string_view>

#include "base/cpu_topology.h"
#include "base/file.h"

namespace ds4 {

namespace {

constexpr uint64_t kMaxProcFileBytes = 16 << 20;

// What follows "KEY:" in a file of lines, without blanks around it.
std::string proc_field(const char* path, std::string_view key) {
  const Result<std::string> text = read_file(path, kMaxProcFileBytes);
  if (!text.ok()) return {};
  std::string_view rest = text.value();
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const std::string_view name = line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1);
    const size_t value = line.find_first_not_of(" \t", colon + 1);
    if (name == key && value != std::string_view::npos) return std::string(line.substr(value));
  }
  return {};
}

uint64_t leading_number(std::string_view text) {
  uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

uint64_t status_kib(std::string_view key) { return leading_number(proc_field("/proc/self/status", key)) * 1024; }

}  // namespace

MachineInfo machine_info() {
  MachineInfo info;
  info.cpu_model = proc_field("/proc/cpuinfo", "model name");
  utsname name{};
  if (uname(&name) == 0) info.system = fmt::format("{} {} {}", name.sysname, name.release, name.machine);
  info.n_cpus = usable_cpu_count();
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page_bytes = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page_bytes > 0) info.memory_bytes = static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_bytes);
  double load = 0;
  if (getloadavg(&load, 1) == 1) info.load_average = load;
  return info;
}

ProcessMemory process_memory() {
  return {.resident_bytes = status_kib("VmRSS"), .peak_resident_bytes = status_kib("VmHWM")};
}

bool reset_peak_memory() {
  auto file = File::open_for_writing("/proc/self/clear_refs");
  constexpr std::string_view kResetPeak = "5";
  return file.ok() && file.value().write_at(0, std::as_bytes(std::span(kResetPeak))).ok();
}

uint64_t storage_read_bytes() { return leading_number(proc_field("/proc/self/io", "read_bytes")); }

std::string utc_time_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
}

}  // namespace ds4
