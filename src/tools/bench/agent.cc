#include "tools/bench/agent.h"

#include <cstdio>

#include "base/file.h"
#include "tools/bench/agent_report.h"

namespace ds4 {
namespace {

Result<void> write_text(const std::string& path, const std::string& text) {
  if (path.empty()) return {};
  if (path != "-") return atomic_write(path, std::as_bytes(std::span(text)));
  std::fwrite(text.data(), 1, text.size(), stdout);
  return {};
}

}  // namespace

Result<void> run_agent_bench(const AgentOptions& options, const Clock& clock) {
  const bool measures_restore = options.restore_tokens > 0;
  const auto model = TRY(load_agent_model(options.subject, !options.no_compute && !measures_restore, clock));
  std::FILE* const table = options.json_path == "-" || options.csv_path == "-" ? stderr : stdout;
  if (measures_restore) {
    const RestoreResult result = TRY(measure_restore(options, *model, clock));
    fmt::print(table, "{}", restore_report_text(result));
    return write_text(options.json_path, restore_report_json(result));
  }
  const AgentResult result = TRY(run_agents(options, *model, clock));
  fmt::print(table, "{}", agent_report_text(result));
  TRY(write_text(options.json_path, agent_report_json(result)));
  return write_text(options.csv_path, agent_report_csv(result));
}

}  // namespace ds4
