#include "quant/partial_file.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <optional>

#include <unistd.h>

namespace ds4 {

namespace {

constexpr std::string_view kJournalHeader = "ds4-partial 1 ";
constexpr uint64_t kMaxJournalBytes = 64 << 20;
constexpr size_t kHexDigits = 16;
constexpr size_t kVerifyBytes = 1 << 20;

std::optional<uint64_t> parse_hex(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  const bool good = text.size() == kHexDigits && error == std::errc() && end == text.data() + text.size();
  return good ? std::optional(value) : std::nullopt;
}

std::string partial_path(const std::string& path) { return path + ".partial"; }
std::string journal_path(const std::string& path) { return path + ".partial.journal"; }

// Checksum of what a section holds in the file and of its note.
Result<uint64_t> stored_checksum(const File& file, const FileSection& section, std::string_view note) {
  Checksum64 checksum;
  std::vector<std::byte> bytes;
  for (uint64_t done = 0; done < section.size_bytes; done += bytes.size()) {
    bytes.resize(std::min<uint64_t>(kVerifyBytes, section.size_bytes - done));
    TRY(file.read_at(section.offset_bytes + done, bytes));
    checksum.add(bytes);
  }
  checksum.add(note);
  return checksum.value();
}

}  // namespace

Result<Journal> parse_journal(std::string_view text, std::string_view subject) {
  const auto take_line = [&text]() -> std::optional<std::string_view> {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return std::nullopt;
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    return line;
  };
  const std::string_view header = take_line().value_or("");
  const auto plan = parse_hex(header.substr(std::min(kJournalHeader.size(), header.size())));
  if (!header.starts_with(kJournalHeader) || !plan) {
    return make_error(ErrorCode::kCorrupt, "{}: expected a journal that starts with '{}'", subject, kJournalHeader);
  }
  Journal journal{*plan, {}};
  while (const auto line = take_line()) {
    const auto checksum = parse_hex(line->substr(0, kHexDigits));
    if (!checksum || line->size() <= kHexDigits || (*line)[kHexDigits] != ' ') break;
    journal.lines.push_back({*checksum, std::string(line->substr(kHexDigits + 1))});
  }
  return journal;
}

Result<PartialFile> PartialFile::open(const std::string& wanted_path, FilePlan plan, bool restart) {
  const std::string path = TRY(resolve_target(wanted_path));
  std::optional<Journal> earlier;
  if (!restart && file_exists(partial_path(path)) && file_exists(journal_path(path))) {
    const std::string text = TRY(read_file(journal_path(path), kMaxJournalBytes));
    // Without a whole first line the run ended before it had written anything.
    if (text.find('\n') != std::string::npos) earlier = TRY(parse_journal(text, journal_path(path)));
    if (earlier && earlier->plan != plan.fingerprint) {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: left by a run with another source, other types or another version; --restart drops it",
                        partial_path(path));
    }
  }
  PartialFile file(path, std::move(plan), TRY(File::open_for_writing(partial_path(path))));
  if (earlier) {
    TRY(file.verify(*earlier));
  } else {
    TRY(file.data_.truncate(0));
  }
  // The journal is written anew: behind the sections that were taken over it may hold anything.
  std::string text = fmt::format("{}{:016x}\n", kJournalHeader, file.plan_.fingerprint);
  for (size_t i = 0; i < file.notes_.size(); ++i) {
    text += fmt::format("{:016x} {}\n", earlier->lines[i].checksum, file.notes_[i]);
  }
  TRY(atomic_write(journal_path(path), std::as_bytes(std::span(text))));
  file.journal_ = std::make_unique<File>(TRY(File::open_for_writing(journal_path(path))));
  file.journal_bytes_ = text.size();
  return file;
}

Result<void> PartialFile::verify(const Journal& journal) {
  const uint64_t size_bytes = TRY(data_.size());
  for (size_t i = 0; i < std::min(journal.lines.size(), plan_.sections.size()); ++i) {
    const FileSection& section = plan_.sections[i];
    const JournalLine& line = journal.lines[i];
    if (section.offset_bytes + section.size_bytes > size_bytes) return {};
    if (TRY(stored_checksum(data_, section, line.note)) != line.checksum) return {};
    notes_.push_back(line.note);
  }
  return {};
}

Result<void> PartialFile::append(std::span<const std::byte> bytes) {
  CHECK(notes_.size() < plan_.sections.size(), "all {} sections are complete", notes_.size());
  const FileSection& section = plan_.sections[notes_.size()];
  CHECK(bytes.size() <= section.size_bytes - section_bytes_, "section {}: {} bytes after {} of {}", notes_.size(),
        bytes.size(), section_bytes_, section.size_bytes);
  TRY(data_.write_at(section.offset_bytes + section_bytes_, bytes));
  section_bytes_ += bytes.size();
  checksum_.add(bytes);
  return {};
}

Result<void> PartialFile::complete_section(std::string_view note) {
  CHECK(section_bytes_ == plan_.sections[notes_.size()].size_bytes, "section {} is not complete", notes_.size());
  CHECK(note.find('\n') == std::string_view::npos, "a note of several lines");
  checksum_.add(note);
  const std::string line = fmt::format("{:016x} {}\n", checksum_.value(), note);
  TRY(journal_->write_at(journal_bytes_, std::as_bytes(std::span(line))));
  journal_bytes_ += line.size();
  notes_.emplace_back(note);
  section_bytes_ = 0;
  checksum_ = Checksum64();
  return {};
}

Result<void> PartialFile::commit() {
  CHECK(notes_.size() == plan_.sections.size(), "{} of {} sections", notes_.size(), plan_.sections.size());
  TRY(data_.truncate(plan_.file_size_bytes));
  TRY(data_.sync());
  TRY(data_.close());
  TRY(replace_file(partial_path(path_), path_));
  ::unlink(journal_path(path_).c_str());
  return {};
}

void PartialFile::discard() {
  ::unlink(partial_path(path_).c_str());
  ::unlink(journal_path(path_).c_str());
}

}  // namespace ds4
