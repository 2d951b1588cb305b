#pragma once

// A file that may take several runs to write. Until it is complete its bytes lie in PATH.partial, and
// PATH.partial.journal lists the leading sections that are complete, each with a checksum and a note of the writer's.
// open() goes on where an earlier run with the same plan stopped: it reads back what the journal claims and takes the
// sections up to the first whose bytes are not as they were written, so it does not matter how that run ended. commit()
// puts the file in place under its name (fsync, rename). Bytes between sections are zero. One thread; one process at a
// time.
//
// The journal is text: a line "ds4-partial 1 PLAN", then a line "CHECKSUM NOTE" per section, in order.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "quant/checksum.h"

namespace ds4 {

struct JournalLine {
  uint64_t checksum = 0;  // of the section's bytes and the note
  std::string note;
};
struct Journal {
  uint64_t plan = 0;
  std::vector<JournalLine> lines;  // up to the first that is cut or malformed
};
// Error: the first line is none of ours.
Result<Journal> parse_journal(std::string_view text, std::string_view subject);

struct FileSection {
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
};

struct FilePlan {
  uint64_t fingerprint = 0;  // of everything that decides the bytes
  std::vector<FileSection> sections;
  uint64_t file_size_bytes = 0;
};

class PartialFile {
 public:
  // `restart`: without regard to an earlier run. Error: what an earlier run left has another plan.
  static Result<PartialFile> open(const std::string& path, FilePlan plan, bool restart);

  // Of the complete sections, those of earlier runs included.
  const std::vector<std::string>& notes() const { return notes_; }

  // The next bytes of the first incomplete section. Precondition: not beyond its end.
  Result<void> append(std::span<const std::byte> bytes);
  // Preconditions: all its bytes are there; a note without line ends.
  Result<void> complete_section(std::string_view note);
  // Precondition: all sections are complete.
  Result<void> commit();
  // Removes what is there so far.
  void discard();

 private:
  PartialFile(std::string path, FilePlan plan, File data)
      : path_(std::move(path)), plan_(std::move(plan)), data_(std::move(data)) {}
  // Takes over the sections that are as the journal says.
  Result<void> verify(const Journal& journal);

  std::string path_;
  FilePlan plan_;
  File data_;
  std::unique_ptr<File> journal_;  // of this run
  uint64_t journal_bytes_ = 0;
  std::vector<std::string> notes_;
  uint64_t section_bytes_ = 0;  // of the first incomplete section
  Checksum64 checksum_;         // of those
};

}  // namespace ds4
