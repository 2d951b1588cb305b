#include "server/metrics.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/measured_sink.h"
#include "server/trace_log.h"
#include "server/trace_sink.h"

namespace ds4 {
namespace {

using testing::HasSubstr;
using testing::Not;

class HandClock final : public Clock {
 public:
  int64_t now_us() const override { return now_us_; }
  int64_t now_us_ = 0;
};

class ListSink final : public EventSink {
 public:
  void on_events(OutputEvents events) override {
    for (OutputEvent& event : events) events_.push_back(std::move(event));
  }
  OutputEvents events_;
};

class MetricsTest : public testing::Test {
 protected:
  std::shared_ptr<MeasuredSink> sink() { return std::make_shared<MeasuredSink>(list_, cancel_, metrics_, clock_); }
  std::string text() const { return metrics_->text(); }

  HandClock clock_;
  std::shared_ptr<Metrics> metrics_ = std::make_shared<Metrics>();
  std::shared_ptr<ListSink> list_ = std::make_shared<ListSink>();
  std::shared_ptr<std::atomic<bool>> cancel_ = std::make_shared<std::atomic<bool>>(false);
};

TEST_F(MetricsTest, CountsAnswersByPathAndStatus) {
  metrics_->request_began();
  metrics_->request_began();
  EXPECT_EQ(metrics_->n_in_flight(), 2U);
  metrics_->request_ended("/health", 200, 2'000);
  metrics_->request_refused(401);
  EXPECT_THAT(text(), HasSubstr("\nds4_http_requests_in_flight 1\n"));
  EXPECT_THAT(text(), HasSubstr("ds4_http_requests_total{endpoint=\"/health\",status=\"200\"} 1\n"));
  EXPECT_THAT(text(), HasSubstr("ds4_http_requests_total{endpoint=\"none\",status=\"401\"} 1\n"));
  EXPECT_THAT(text(), HasSubstr("ds4_http_request_duration_seconds_bucket{le=\"0.001\"} 0\n"));
  EXPECT_THAT(text(), HasSubstr("ds4_http_request_duration_seconds_bucket{le=\"0.0025\"} 1\n"));
  EXPECT_THAT(text(), HasSubstr("ds4_http_request_duration_seconds_bucket{le=\"+Inf\"} 1\n"));
}

TEST_F(MetricsTest, MeasuresTokensFromTheHandingOver) {
  const auto measured = sink();
  clock_.now_us_ = 300'000;
  measured->on_events({PrefillProgress{1, 2}});
  clock_.now_us_ = 700'000;
  measured->on_events({ReasoningDelta{"a"}});
  clock_.now_us_ = 720'000;
  measured->on_events({TextDelta{"b"}});
  measured->on_events(
      {Finished{FinishReason::kStop, {.prompt_tokens = 9, .completion_tokens = 2, .cached_tokens = 4}}});
  EXPECT_THAT(text(), HasSubstr("ds4_time_to_first_token_seconds_sum 0.7\n"));
  EXPECT_THAT(text(), HasSubstr("ds4_inter_token_seconds_sum 0.02\nds4_inter_token_seconds_count 1\n"));
  EXPECT_THAT(text(), HasSubstr("\nds4_prompt_tokens_total 9\n"));
  EXPECT_THAT(text(), HasSubstr("\nds4_cached_tokens_total 4\n"));
  EXPECT_THAT(text(), HasSubstr("\nds4_generated_tokens_total 2\n"));
  EXPECT_THAT(text(), HasSubstr("ds4_generations_total{finish=\"stop\"} 1\n"));
  EXPECT_EQ(list_->events_.size(), 4U);
}

TEST_F(MetricsTest, ARequestWithoutTimeKeepsWhatItWrote) {
  const auto measured = sink();
  measured->on_events({TextDelta{"a"}});
  measured->expire();
  EXPECT_TRUE(*cancel_);
  measured->on_events({Finished{FinishReason::kCancelled, {}}});
  EXPECT_EQ(std::get<Finished>(list_->events_.back()).reason, FinishReason::kLength);
  EXPECT_THAT(text(), HasSubstr("ds4_generations_total{finish=\"length\"} 1\n"));
}

TEST_F(MetricsTest, ARequestWithoutTimeFailsWhenItWroteNothing) {
  const auto measured = sink();
  measured->expire();
  measured->on_events({Finished{FinishReason::kCancelled, {}}});
  ASSERT_TRUE(std::holds_alternative<Failed>(list_->events_.back()));
  EXPECT_THAT(std::get<Failed>(list_->events_.back()).error.message, HasSubstr("--request-timeout"));
  EXPECT_THAT(text(), HasSubstr("ds4_generations_total{finish=\"error\"} 1\n"));
}

TEST_F(MetricsTest, AClientThatLeftIsNoTimeout) {
  sink()->on_events({Finished{FinishReason::kCancelled, {}}});
  EXPECT_THAT(text(), HasSubstr("ds4_generations_total{finish=\"cancelled\"} 1\n"));
}

TEST_F(MetricsTest, RatesAreOverTheLastSeconds) {
  for (int i = 0; i <= 200; ++i) {
    metrics_->publish({.n_running = 1, .n_prefilled_tokens = 0, .n_decoded_tokens = static_cast<uint64_t>(2 * i)},
                      int64_t{i} * 100'000);
  }
  EXPECT_THAT(text(), HasSubstr("\nds4_decode_tokens_per_second 20\n"));
  metrics_->publish({.n_running = 0, .n_decoded_tokens = 400}, 20'000'000);
  EXPECT_THAT(text(), HasSubstr("\nds4_decode_tokens_per_second 0\n"));
}

TEST_F(MetricsTest, ShowsStoresOnlyWhereThereAreSome) {
  metrics_->publish({.kv_pages_used = 3, .kv_pages_total = 8}, 0);
  EXPECT_THAT(text(), HasSubstr("\nds4_kv_pages_used 3\n"));
  EXPECT_THAT(text(), Not(HasSubstr("ds4_checkpoints")));
  metrics_->publish({.sessions = SessionStatistics{.n_saved = 2}, .disk = DiskStoreStatistics{.disk_bytes = 77}}, 1);
  EXPECT_THAT(text(), HasSubstr("\nds4_checkpoints_saved_total 2\n"));
  EXPECT_THAT(text(), HasSubstr("\nds4_disk_store_bytes 77\n"));
}

// Every line is a comment or NAME{LABELS} NUMBER, and every name was announced.
TEST_F(MetricsTest, KeepsTheFormat) {
  metrics_->request_refused(400);
  metrics_->publish({.sessions = SessionStatistics{}, .disk = DiskStoreStatistics{}}, 1);
  std::istringstream lines(text());
  std::string name;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# TYPE ")) name = line.substr(7, line.find(' ', 7) - 7);
    if (line.starts_with('#')) continue;
    EXPECT_THAT(line, testing::StartsWith(name));
    EXPECT_THAT(line, testing::ContainsRegex("^[a-z0-9_]+([{][^}]*[}])? [-0-9.e+]+$"));
  }
}

TEST(TraceTest, WritesOneRecordPerGeneration) {
  std::string directory = (std::filesystem::temp_directory_path() / "ds4_trace_XXXXXX").string();
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  const std::string path = directory + "/trace";
  const auto list = std::make_shared<ListSink>();
  HandClock clock;
  {
    auto log = TraceLog::open(path);
    ASSERT_TRUE(log.ok()) << log.error().message;
    GenerateRequest request;
    request.prompt_tokens = {7, 8};
    TraceSink sink(list, request, nullptr, *log.value(), clock);
    clock.now_us_ = 1'500;
    sink.on_events({ReasoningDelta{"why"}, TextDelta{"a"}, TextDelta{"b"}, ToolCallBegin{0, "ls", "call_1"},
                    ToolCallArgumentsDelta{0, "{}"}});
    sink.on_events(
        {Finished{FinishReason::kToolCalls, {.prompt_tokens = 2, .cached_tokens = 1, .cached_on_disk = true}}});
    TraceSink failing(list, request, nullptr, *log.value(), clock);
    failing.on_events({Failed{make_error(ErrorCode::kInternal, "broken")}});
  }
  std::ostringstream read;
  read << std::ifstream(path).rdbuf();
  const std::string text = read.str();
  EXPECT_THAT(text, HasSubstr("===== generation 1 at "));
  EXPECT_THAT(text, HasSubstr("----- rendered prompt -----\n[7][8]\n"));
  EXPECT_THAT(text, HasSubstr("[1.5 ms] reasoning: why\n[1.5 ms] text: ab\n[1.5 ms] call 0 call_1 ls arguments: {}\n"));
  EXPECT_THAT(text, HasSubstr("finish: tool_calls\n"));
  EXPECT_THAT(text, HasSubstr("cached_tokens: 1\ncache_source: disk\n"));
  EXPECT_THAT(text, HasSubstr("===== generation 2 at "));
  EXPECT_THAT(text, HasSubstr("finish: error: broken\n"));
  EXPECT_EQ(list->events_.size(), 7U);
  std::filesystem::remove_all(directory);
  EXPECT_FALSE(TraceLog::open(directory + "/no/such").ok());
}

}  // namespace
}  // namespace ds4
