#include "constrain/string_formats.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "constrain/schema_walker.h"

namespace ds4 {
namespace {

std::unique_ptr<test::SchemaWalker> walker_of(std::string_view format) {
  return test::SchemaWalker::create(fmt::format(R"({{"type":"string","format":"{}"}})", format)).take_value();
}

struct Case {
  std::string_view format;
  std::vector<const char*> has;
  std::vector<const char*> lacks;
};

TEST(StringFormatsTest, AcceptTextsOfTheFormatAndNoOthers) {
  const Case cases[] = {
      {"date",
       {"2026-11-28", "2024-02-28", "0001-01-31", "1999-04-30"},
       {"2026-02-30", "2026-13-01", "2026-00-10", "2026-01-00", "2026-04-31", "26-01-01", "2026-1-1", "2026-01-01T"}},
      {"time",
       {"00:00:00Z", "23:59:59.123456789+02:00", "12:30:00-11:30"},
       {"24:00:00Z", "12:60:00Z", "12:00:60Z", "12:00:00", "12:00Z", "12:00:00.Z", "12:00:00+24:00"}},
      {"date-time",
       {"2026-11-28T06:19:54Z", "2026-11-28T06:19:54.5+01:00"},
       {"2026-11-28 06:19:54Z", "2026-11-28T06:19:54", "2026-11-28", "2026-11-28T25:00:00Z"}},
      {"duration",
       {"P3W", "P4D", "P1DT12H", "PT36H15M", "PT90S", "PT5M"},
       {"P", "PT", "3D", "P1H", "P1D12H", "P-1D", "P1WT1H"}},
      {"email",
       {"a@b.example", "first.last+tag@mail.example.org", "x_1-2@d-e.f"},
       {"a@b", "@b.example", "a@", "a b@c.example", "a..b@c.example", "a@-b.example", "a@b-.example", "a@b..example"}},
      {"hostname",
       {"localhost", "a.b-c.example", "0.example"},
       {"", "-a.example", "a-.example", "a..example", "a_b.example", ".example"}},
      {"ipv4", {"0.0.0.0", "255.249.199.9", "127.0.0.1"}, {"256.0.0.1", "1.2.3", "01.2.3.4", "1.2.3.4.5", "1.2.3."}},
      {"uuid",
       {"123e4567-e89b-12d3-a456-426614174000"},
       {"123e4567e89b12d3a456426614174000", "123e4567-e89b-12d3-a456-42661417400",
        "123g4567-e89b-12d3-a456-426614174000"}},
      {"uri",
       {"http://a.example", "https://localhost:8080/x/y.z?q=1&r=/#top", "https://a.example/?"},
       {"a.example", "ftp://a.example", "http://", "http:///x", "http://a.example:0", "http://a example",
        "http://a.example/%", "https://a.example/\\\""}},
  };
  for (const Case& tried : cases) {
    const auto walker = walker_of(tried.format);
    for (const char* text : tried.has)
      EXPECT_TRUE(walker->accepts(fmt::format("\"{}\"", text))) << tried.format << text;
    for (const char* text : tried.lacks)
      EXPECT_FALSE(walker->accepts(fmt::format("\"{}\"", text))) << tried.format << text;
  }
}

// The 29th of February is left out: it depends on the year.
TEST(StringFormatsTest, EveryDayOfACommonYearIsADate) {
  constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const auto walker = walker_of("date");
  for (int month = 0; month <= 13; ++month) {
    for (int day = 0; day <= 32; ++day) {
      const bool exists = month >= 1 && month <= 12 && day >= 1 && day <= kDays[month - 1];
      EXPECT_EQ(walker->accepts(fmt::format("\"2026-{:02}-{:02}\"", month, day)), exists) << month << " " << day;
    }
  }
}

TEST(StringFormatsTest, UnknownOnesHaveNoPattern) {
  for (const char* format : {"", "ipv6", "DATE", "date ", "regex", "idn-email"})
    EXPECT_EQ(pattern_of_format(format), "");
}

}  // namespace
}  // namespace ds4
