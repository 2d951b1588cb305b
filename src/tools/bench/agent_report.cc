#include "tools/bench/agent_report.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/memory_plan.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kWorst = 8;

std::string_view row_name(const RequestRecord& record) {
  return record.after_restart ? "after-restart" : request_kind_name(record.kind);
}

double per(double value, double count) { return count > 0 ? value / count : 0; }

// Tokens that were computed for the first time: of prompts and of answers.
int64_t computed_once(const ReuseTotals& all) { return all.fresh + all.answered - all.n_requests; }

struct Summary {
  std::map<std::string_view, ReuseTotals> rows;
  ReuseTotals all;

  explicit Summary(const AgentResult& result) {
    for (const RequestRecord& record : result.requests) {
      rows[row_name(record)].add(record);
      all.add(record);
    }
    // What was run twice within a request is excess as well.
    all.excess += result.recomputed_tokens;
    all.prefilled += result.recomputed_tokens;
  }
};

std::string line_of(std::string_view name, const ReuseTotals& totals) {
  return fmt::format("{:>13} {:8} {:9} {:9} {:9} {:8} {:9.2f} {:9.2f} {:9.1f}\n", name, totals.n_requests, totals.sent,
                     totals.prefilled, totals.fresh, totals.excess, 100 * totals.excess_of_fresh(),
                     100 * totals.excess_of_sent(),
                     per(static_cast<double>(totals.first_token_us) * 1e-3, static_cast<double>(totals.n_requests)));
}

std::string worst_text(const AgentResult& result) {
  std::vector<const RequestRecord*> worst;
  for (const RequestRecord& record : result.requests) worst.push_back(&record);
  const size_t n = std::min(kWorst, worst.size());
  std::partial_sort(worst.begin(), worst.begin() + static_cast<std::ptrdiff_t>(n), worst.end(),
                    [](const auto* a, const auto* b) { return a->excess() > b->excess(); });
  std::string text = "\nlargest excess\n";
  for (size_t i = 0; i < n; ++i) {
    const RequestRecord& record = *worst[i];
    text += fmt::format(
        "  client {} turn {:3} {:13} sent {:7}, new {:6}, prefilled {:6}, excess {:6}, {:6} known of its turn\n",
        record.client, record.turn, row_name(record), record.sent, record.fresh, record.prefilled, record.excess(),
        record.since_turn);
  }
  return text;
}

std::string memory_text(const AgentResult& result, const ReuseTotals& all) {
  const SessionStatistics& s = result.sessions;
  const auto n_saved = static_cast<double>(s.n_saved);
  std::string text = fmt::format(
      "\ncheckpoints  {} taken, {} each on average, {} at most beside pages; {:.2f} ms each, {:.2f} % of {:.1f} s\n"
      "in memory    {} checkpoints, {} of at most {} beside pages\n"
      "restored     {} times, {:.2f} ms each; {} of them from disk\n",
      s.n_saved, format_bytes(static_cast<uint64_t>(per(static_cast<double>(s.saved_frontier_bytes), n_saved))),
      format_bytes(s.most_frontier_bytes), per(static_cast<double>(s.save_us) * 1e-3, n_saved),
      100 * per(static_cast<double>(s.save_us), static_cast<double>(result.wall_us)),
      static_cast<double>(result.wall_us) * 1e-6, result.n_in_memory, format_bytes(result.in_memory_bytes),
      format_bytes(result.checkpoint_budget_bytes), s.n_restored,
      per(static_cast<double>(s.restore_us) * 1e-3, static_cast<double>(s.n_restored)), s.n_loaded);
  if (result.written_bytes == 0) return text;
  const double thousands = static_cast<double>(computed_once(all)) * 1e-3;
  const auto page_bytes = static_cast<double>(result.written_bytes - result.written_checkpoint_bytes);
  text += fmt::format(
      "disk         {} written: {:.2f} MB per 1,000 new tokens, pages {:.2f}, {} checkpoints {:.2f}; {} there now\n",
      format_bytes(result.written_bytes), per(static_cast<double>(result.written_bytes) * 1e-6, thousands),
      per(page_bytes * 1e-6, thousands), result.n_written_checkpoints,
      per(static_cast<double>(result.written_checkpoint_bytes) * 1e-6, thousands), format_bytes(result.disk_bytes));
  return text;
}

Json totals_json(const ReuseTotals& totals) {
  return {{"requests", totals.n_requests},
          {"sent_tokens", totals.sent},
          {"prefilled_tokens", totals.prefilled},
          {"reused_tokens", totals.sent - totals.prefilled},
          {"new_tokens", totals.fresh},
          {"excess_tokens", totals.excess},
          {"answered_tokens", totals.answered},
          {"excess_of_new", totals.excess_of_fresh()},
          {"excess_of_sent", totals.excess_of_sent()},
          {"first_token_ms",
           per(static_cast<double>(totals.first_token_us) * 1e-3, static_cast<double>(totals.n_requests))}};
}

Json request_json(const RequestRecord& record) {
  return {{"client", record.client},
          {"turn", record.turn},
          {"kind", request_kind_name(record.kind)},
          {"after_restart", record.after_restart},
          {"sent_tokens", record.sent},
          {"prefilled_tokens", record.prefilled},
          {"reused_tokens", record.reused()},
          {"new_tokens", record.fresh},
          {"excess_tokens", record.excess()},
          {"known_of_turn_tokens", record.since_turn},
          {"answered_tokens", record.answered},
          {"first_token_ms", static_cast<double>(record.first_token_us) * 1e-3},
          {"total_ms", static_cast<double>(record.total_us) * 1e-3}};
}

}  // namespace

void ReuseTotals::add(const RequestRecord& record) {
  ++n_requests;
  sent += record.sent;
  fresh += record.fresh;
  prefilled += record.prefilled;
  excess += record.excess();
  answered += record.answered;
  first_token_us += record.first_token_us;
}

std::string agent_report_text(const AgentResult& result) {
  const Summary summary(result);
  std::string text = fmt::format(
      "model        {} | {} slots | {:.2f} bytes of text per token\n"
      "kv           {:.0f} bytes per token in pages of {}, frontier {}\n\n"
      "         kind requests      sent prefilled       new   excess  % of new % of sent  first ms\n",
      result.model, result.n_slots, result.bytes_per_token, static_cast<double>(result.kv.page_bytes) / kPageTokens,
      format_bytes(result.kv.page_bytes), format_bytes(result.kv.frontier_bytes));
  for (const auto& [name, totals] : summary.rows) text += line_of(name, totals);
  text += line_of("all", summary.all);
  text += worst_text(result);
  text += memory_text(result, summary.all);
  text += fmt::format("tool calls   {} turns came back as they were sampled, {} in the canonical form\n",
                      result.n_replayed, result.n_canonical);
  if (result.n_preemptions > 0 || result.recomputed_tokens > 0) {
    text += fmt::format("gave way     {} times, {} tokens run again\n", result.n_preemptions, result.recomputed_tokens);
  }
  if (result.n_restarts > 0) {
    text += fmt::format("restarts     {}, {:.0f} ms each\n", result.n_restarts,
                        per(static_cast<double>(result.restart_us) * 1e-3, static_cast<double>(result.n_restarts)));
  }
  return text;
}

std::string agent_report_json(const AgentResult& result) {
  const Summary summary(result);
  const SessionStatistics& s = result.sessions;
  Json json{{"program", "ds4-bench agent"},
            {"model", result.model},
            {"slots", result.n_slots},
            {"text_bytes_per_token", result.bytes_per_token},
            {"kv",
             {{"bytes_per_token", static_cast<double>(result.kv.page_bytes) / kPageTokens},
              {"page_bytes", result.kv.page_bytes},
              {"frontier_bytes", result.kv.frontier_bytes}}},
            {"total", totals_json(summary.all)}};
  Json& kinds = json["kinds"] = Json::object();
  for (const auto& [name, totals] : summary.rows) kinds[std::string(name)] = totals_json(totals);
  json["replayed_turns"] = result.n_replayed;
  json["canonical_turns"] = result.n_canonical;
  json["recomputed_tokens"] = result.recomputed_tokens;
  json["preemptions"] = result.n_preemptions;
  json["restarts"] = result.n_restarts;
  json["restart_ms"] = static_cast<double>(result.restart_us) * 1e-3;
  json["wall_ms"] = static_cast<double>(result.wall_us) * 1e-3;
  json["model_ms"] = static_cast<double>(result.run_us) * 1e-3;
  json["checkpoints"] = {
      {"taken", s.n_saved},
      {"mean_bytes", per(static_cast<double>(s.saved_frontier_bytes), static_cast<double>(s.n_saved))},
      {"most_bytes", s.most_frontier_bytes},
      {"ms", static_cast<double>(s.save_us) * 1e-3},
      {"in_memory", result.n_in_memory},
      {"in_memory_bytes", result.in_memory_bytes},
      {"budget_bytes", result.checkpoint_budget_bytes},
      {"restored", s.n_restored},
      {"from_disk", s.n_loaded},
      {"restore_ms", static_cast<double>(s.restore_us) * 1e-3}};
  json["disk"] = {{"written_bytes", result.written_bytes},
                  {"written_checkpoint_bytes", result.written_checkpoint_bytes},
                  {"written_checkpoints", result.n_written_checkpoints},
                  {"bytes_per_1000_new_tokens", per(static_cast<double>(result.written_bytes),
                                                    static_cast<double>(computed_once(summary.all)) * 1e-3)},
                  {"bytes", result.disk_bytes}};
  Json& requests = json["requests"] = Json::array();
  for (const RequestRecord& record : result.requests) requests.push_back(request_json(record));
  return json.dump(1) + "\n";
}

std::string agent_report_csv(const AgentResult& result) {
  std::string text =
      "client,turn,kind,after_restart,sent,prefilled,reused,new,excess,answered,first_token_ms,total_ms\n";
  for (const RequestRecord& r : result.requests) {
    text += fmt::format("{},{},{},{:d},{},{},{},{},{},{},{:.3f},{:.3f}\n", r.client, r.turn, request_kind_name(r.kind),
                        r.after_restart, r.sent, r.prefilled, r.reused(), r.fresh, r.excess(), r.answered,
                        static_cast<double>(r.first_token_us) * 1e-3, static_cast<double>(r.total_us) * 1e-3);
  }
  return text;
}

std::string restore_report_text(const RestoreResult& result) {
  const auto rate = [&](int64_t us) { return per(static_cast<double>(result.bytes) * 1e-3, static_cast<double>(us)); };
  return fmt::format(
      "tokens       {}, {}\n"
      "save         {:.1f} ms, on disk {:.1f} ms later\n"
      "copy         {:.1f} ms, {:.2f} GB/s\n"
      "from disk    {:.1f} ms, {:.2f} GB/s: {:.0f} % of the copy\n"
      "from memory  {:.2f} ms\n",
      result.n_tokens, format_bytes(result.bytes), static_cast<double>(result.save_us) * 1e-3,
      static_cast<double>(result.flush_us) * 1e-3, static_cast<double>(result.copy_us) * 1e-3, rate(result.copy_us),
      static_cast<double>(result.load_us) * 1e-3, rate(result.load_us), 100 * result.share_of_copy(),
      static_cast<double>(result.memory_us) * 1e-3);
}

std::string restore_report_json(const RestoreResult& result) {
  const Json json{{"program", "ds4-bench agent"},
                  {"restore_tokens", result.n_tokens},
                  {"bytes", result.bytes},
                  {"save_ms", static_cast<double>(result.save_us) * 1e-3},
                  {"flush_ms", static_cast<double>(result.flush_us) * 1e-3},
                  {"open_ms", static_cast<double>(result.open_us) * 1e-3},
                  {"copy_ms", static_cast<double>(result.copy_us) * 1e-3},
                  {"from_disk_ms", static_cast<double>(result.load_us) * 1e-3},
                  {"from_memory_ms", static_cast<double>(result.memory_us) * 1e-3},
                  {"share_of_copy", result.share_of_copy()}};
  return json.dump(1) + "\n";
}

}  // namespace ds4
