#include "quant/partial_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/rng.h"
#include "quant/quant_support.h"

namespace ds4 {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

// Three sections of 4, 10 and 6 bytes with gaps, of a file of 32 bytes.
FilePlan sample_plan(uint64_t fingerprint = 7) { return {fingerprint, {{0, 4}, {8, 10}, {20, 6}}, 32}; }
constexpr std::string_view kTexts[] = {"head", "0123456789", "abcdef"};
constexpr std::string_view kNotes[] = {"", "note of one", "2"};

std::string expected_file() {
  std::string file(32, '\0');
  for (size_t i = 0; i < 3; ++i) file.replace(sample_plan().sections[i].offset_bytes, kTexts[i].size(), kTexts[i]);
  return file;
}

class PartialFileTest : public testing::Test {
 protected:
  std::string path() const { return folder_.path("file"); }
  std::string text(const std::string& suffix = "") const { return read_file(path() + suffix, 1 << 20).value(); }

  void write_sections(PartialFile& file, size_t up_to) const {
    for (size_t i = file.notes().size(); i < up_to; ++i) {
      ASSERT_TRUE(file.append(bytes_of(kTexts[i].substr(0, 3))).ok());
      ASSERT_TRUE(file.append(bytes_of(kTexts[i].substr(3))).ok());
      ASSERT_TRUE(file.complete_section(kNotes[i]).ok());
    }
  }
  // A run that ends after so many sections, in the middle of the next.
  void run_partly(size_t n_sections) const {
    PartialFile file = PartialFile::open(path(), sample_plan(), true).take_value();
    write_sections(file, n_sections);
    if (n_sections == 3) return;
    ASSERT_TRUE(file.append(bytes_of(kTexts[n_sections].substr(0, 2))).ok());
  }
  void finish(size_t expected_sections) const {
    auto file = PartialFile::open(path(), sample_plan(), false);
    ASSERT_TRUE(file.ok()) << file.error().message;
    ASSERT_EQ(file.value().notes().size(), expected_sections);
    write_sections(file.value(), 3);
    EXPECT_THAT(file.value().notes(), ElementsAre(kNotes[0], kNotes[1], kNotes[2]));
    ASSERT_TRUE(file.value().commit().ok());
    EXPECT_EQ(text(), expected_file());
    EXPECT_FALSE(file_exists(path() + ".partial"));
    EXPECT_FALSE(file_exists(path() + ".partial.journal"));
  }

  ScratchFolder folder_;
};

TEST_F(PartialFileTest, NothingStandsUnderTheNameUntilCommit) {
  PartialFile file = PartialFile::open(path(), sample_plan(), false).take_value();
  write_sections(file, 3);
  EXPECT_FALSE(file_exists(path()));
  ASSERT_TRUE(file.commit().ok());
  EXPECT_EQ(text(), expected_file());
}

TEST_F(PartialFileTest, GoesOnAfterTheCompleteSections) {
  for (size_t n = 0; n <= 3; ++n) {
    run_partly(n);
    finish(n);
  }
}

TEST_F(PartialFileTest, RestartDropsWhatIsThere) {
  run_partly(2);
  PartialFile file = PartialFile::open(path(), sample_plan(), true).take_value();
  EXPECT_TRUE(file.notes().empty());
}

TEST_F(PartialFileTest, AnotherPlanIsAnErrorAndNothingIsTouched) {
  run_partly(2);
  const std::string before = text(".partial") + text(".partial.journal");
  const auto file = PartialFile::open(path(), sample_plan(8), false);
  ASSERT_FALSE(file.ok());
  EXPECT_THAT(file.error().message, HasSubstr("file.partial: left by a run with another source"));
  EXPECT_EQ(text(".partial") + text(".partial.journal"), before);
}

TEST_F(PartialFileTest, SectionsWhoseBytesChangedAreWrittenAgain) {
  for (size_t at = 0; at < 26; ++at) {
    run_partly(3);
    std::string bytes = text(".partial");
    bytes[at] ^= 1;
    ASSERT_TRUE(atomic_write(path() + ".partial", bytes_of(bytes)).ok());
    // Gaps are not looked at, and nothing of ours writes there.
    const bool in_gap = (at >= 4 && at < 8) || (at >= 18 && at < 20);
    if (in_gap) continue;
    finish(at < 4 ? 0 : at < 18 ? 1 : 2);
  }
}

TEST_F(PartialFileTest, AJournalCutAnywhereCostsOnlyItsLastLines) {
  run_partly(3);
  const std::string whole = text(".partial.journal");
  for (size_t size = 0; size < whole.size(); size += 3) {
    run_partly(3);
    const std::string cut = whole.substr(0, size);
    ASSERT_TRUE(atomic_write(path() + ".partial.journal", bytes_of(cut)).ok());
    const auto n_lines = std::count(cut.begin(), cut.end(), '\n');
    finish(n_lines > 0 ? static_cast<size_t>(n_lines - 1) : 0);
  }
}

TEST_F(PartialFileTest, DamageOfTheJournalNeverGivesAnotherFile) {
  run_partly(3);
  const std::string whole = text(".partial.journal");
  Xorshift64Star random(3);
  for (int round = 0; round < 40; ++round) {
    run_partly(2);
    std::string damaged = whole;
    damaged[random.next() % damaged.size()] = static_cast<char>(random.next() % 128);
    ASSERT_TRUE(atomic_write(path() + ".partial.journal", bytes_of(damaged)).ok());
    auto file = PartialFile::open(path(), sample_plan(), false);
    if (!file.ok()) continue;                    // the first line was hit
    ASSERT_LE(file.value().notes().size(), 2u);  // the third section is not there
    write_sections(file.value(), 3);
    ASSERT_TRUE(file.value().commit().ok());
    EXPECT_EQ(text(), expected_file());
  }
}

TEST_F(PartialFileTest, DiscardLeavesNothing) {
  PartialFile file = PartialFile::open(path(), sample_plan(), false).take_value();
  write_sections(file, 2);
  file.discard();
  EXPECT_FALSE(file_exists(path() + ".partial"));
  EXPECT_FALSE(file_exists(path() + ".partial.journal"));
}

TEST_F(PartialFileTest, AForeignJournalIsRefused) {
  EXPECT_FALSE(parse_journal("something else\n", "x").ok());
  EXPECT_FALSE(parse_journal("ds4-partial 1 12\n", "x").ok());
  EXPECT_TRUE(parse_journal("ds4-partial 1 00000000000000ff\n", "x").ok());
}

TEST(ChecksumTest, DoesNotDependOnHowTheBytesAreCut) {
  std::string text = "some text of no particular length, but more than a few words";
  for (size_t size = 0; size < text.size(); ++size) {
    const std::string_view part = std::string_view(text).substr(0, size);
    const uint64_t expected = checksum64(part);
    for (const size_t step : {1u, 3u, 8u, 13u}) {
      Checksum64 checksum;
      for (size_t at = 0; at < size; at += step) checksum.add(part.substr(at, step));
      ASSERT_EQ(checksum.value(), expected) << size << " by " << step;
    }
    EXPECT_NE(checksum64(std::string_view(text).substr(0, size + 1)), expected);
    EXPECT_NE(checksum64(part, 1), expected);
  }
  // Journals and files carry these values.
  EXPECT_EQ(checksum64(text), 5919323546376602383u);
}

}  // namespace
}  // namespace ds4
