#pragma once

// What a replay gives, as a table for people, as JSON and as CSV with one line per request. Pure functions.

#include <string>

#include "tools/bench/agent_restore.h"
#include "tools/bench/agent_run.h"

namespace ds4 {

// Sums over some requests.
struct ReuseTotals {
  int64_t n_requests = 0;
  int64_t sent = 0;
  int64_t fresh = 0;
  int64_t prefilled = 0;
  int64_t excess = 0;
  int64_t answered = 0;
  int64_t first_token_us = 0;

  void add(const RequestRecord& record);
  double excess_of_fresh() const { return fresh > 0 ? static_cast<double>(excess) / static_cast<double>(fresh) : 0; }
  double excess_of_sent() const { return sent > 0 ? static_cast<double>(excess) / static_cast<double>(sent) : 0; }
};

std::string agent_report_text(const AgentResult& result);
std::string agent_report_json(const AgentResult& result);
std::string agent_report_csv(const AgentResult& result);
std::string restore_report_text(const RestoreResult& result);
std::string restore_report_json(const RestoreResult& result);

}  // namespace ds4
