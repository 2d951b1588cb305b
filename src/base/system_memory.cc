#include "base/system_memory.h"

#include <algorithm>
#include <charconv>
#include <string>

#include "base/file.h"

namespace ds4 {
namespace {

std::optional<uint64_t> parse_number(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return std::nullopt;
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data() + first, text.data() + text.size(), value);
  if (error != std::errc() || end == text.data() + first) return std::nullopt;
  return value;
}

std::optional<std::string> read_text(const std::string& path) {
  Result<File> file = File::open_for_reading(path);
  if (!file.ok()) return std::nullopt;
  std::string text(8192, '\0');
  const Result<size_t> n = file.value().read_some(std::as_writable_bytes(std::span(text)));
  if (!n.ok()) return std::nullopt;
  text.resize(n.value());
  return text;
}

std::optional<uint64_t> group_memory(const std::string& limit_path, const std::string& used_path) {
  const std::optional<std::string> limit = read_text(limit_path);
  const std::optional<std::string> used = read_text(used_path);
  return limit && used ? parse_group_memory(*limit, *used) : std::nullopt;
}

}  // namespace

std::optional<uint64_t> parse_available_memory(std::string_view meminfo) {
  constexpr std::string_view kKey = "MemAvailable:";
  const size_t at = meminfo.find(kKey);
  if (at == std::string_view::npos) return std::nullopt;
  const std::optional<uint64_t> kib = parse_number(meminfo.substr(at + kKey.size()));
  return kib ? std::optional(*kib * 1024) : std::nullopt;
}

std::optional<uint64_t> parse_group_memory(std::string_view limit, std::string_view used) {
  const std::optional<uint64_t> most = parse_number(limit);
  const std::optional<uint64_t> taken = parse_number(used);
  // Groups without a limit say "max", or a number that no machine has.
  if (!most || !taken || *most >= uint64_t{1} << 60) return std::nullopt;
  return *most > *taken ? *most - *taken : 0;
}

std::optional<uint64_t> available_memory_bytes() {
  std::optional<uint64_t> least;
  const auto consider = [&](std::optional<uint64_t> bytes) {
    if (bytes && (!least || *bytes < *least)) least = bytes;
  };
  if (const std::optional<std::string> meminfo = read_text("/proc/meminfo")) consider(parse_available_memory(*meminfo));
  consider(group_memory("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"));
  consider(group_memory("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"));
  return least;
}

}  // namespace ds4
