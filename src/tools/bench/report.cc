#include "tools/bench/report.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "tools/bench/svg_chart.h"
#include "tools/bench/version.h"

namespace ds4 {

namespace {

using Json = nlohmann::ordered_json;

constexpr double kGiga = 1e9;
constexpr double kBusyShare = 0.9;

double mib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

double part_of(double value, double limit) { return limit > 0 ? value / limit : 0; }

// "  61.2 % of 30.1 GB/s", or nothing without limits.
std::string percent(double value, double limit) {
  return limit > 0 ? fmt::format("{:5.1f} %", 100 * part_of(value, limit)) : "      -";
}

double read_limit(const BenchReport& report) { return report.limits ? report.limits->read_bytes_per_s : 0; }
double bf16_limit(const BenchReport& report) { return report.limits ? report.limits->peak("bf16") : 0; }
double int8_limit(const BenchReport& report) { return report.limits ? report.limits->peak("int8") : 0; }

Json spread_json(const Spread& spread) {
  return {{"median", spread.median}, {"p10", spread.p10},  {"p90", spread.p90},
          {"min", spread.least},     {"max", spread.most}, {"n", spread.n}};
}

// Bytes of the file by type of tensor.
std::map<std::string, uint64_t> bytes_by_type(const GgufFile& file) {
  std::map<std::string, uint64_t> bytes;
  for (const TensorInfo& tensor : file.tensors()) {
    if (tensor.type) bytes[std::string(dtype_name(*tensor.type))] += tensor.size_bytes;
  }
  return bytes;
}

Json machine_json(const BenchReport& report) {
  const MachineInfo& machine = report.machine;
  return {{"cpu", machine.cpu_model}, {"isa", instruction_sets()},
          {"cpus", machine.n_cpus},   {"memory_bytes", machine.memory_bytes},
          {"system", machine.system}, {"load_average", machine.load_average}};
}

Json limits_json(const MachineLimits& limits) {
  Json peaks = Json::array();
  for (const PeakRate& rate : limits.peaks) {
    peaks.push_back({{"kind", rate.kind}, {"isa", rate.isa}, {"gmacs_per_s", rate.macs_per_s / kGiga}});
  }
  return {{"threads", limits.n_threads},
          {"read_gb_per_s", limits.read_bytes_per_s / kGiga},
          {"peaks", peaks},
          {"cpu_share", limits.cpu_share}};
}

Json model_json(const Subject& subject) {
  const Hyperparams& h = subject.hyperparams();
  const ModelCost& cost = subject.cost;
  return {
      {"name", subject.name},
      {"file", subject.model->file->path()},
      {"recipe", subject.recipe},
      {"bytes", subject.model->file->file_size_bytes()},
      {"bytes_by_type", bytes_by_type(*subject.model->file)},
      {"layers", h.n_layer},
      {"embedding", h.n_embd},
      {"heads", h.n_head},
      {"head_dim", h.head_dim},
      {"experts", h.n_expert},
      {"experts_used", h.n_expert_used},
      {"expert_ff", h.expert_ff},
      {"vocabulary", h.n_vocab},
      {"dense_bytes", cost.dense.bytes + cost.head.bytes},
      {"bytes_per_token", cost.dense.bytes + cost.head.bytes + cost.row_bytes +
                              cost.expert.bytes * static_cast<uint64_t>(h.n_expert_used)},
      {"macs_per_token", cost.dense.macs + cost.head.macs + cost.expert.macs * static_cast<uint64_t>(h.n_expert_used)}};
}

Json prefill_json(const BenchReport& report, const PrefillResult& result) {
  return {{"tokens", result.n_tokens},
          {"tokens_per_s", spread_json(result.tokens_per_s)},
          {"first_token_ms", spread_json(result.first_token_ms)},
          {"macs_per_token", result.macs_per_token},
          {"gmacs_per_s", result.macs_per_s / kGiga},
          {"part_of_int8_peak", part_of(result.macs_per_s, int8_limit(report))},
          {"part_of_bf16_peak", part_of(result.macs_per_s, bf16_limit(report))}};
}

Json decode_json(const BenchReport& report, const DecodeResult& result) {
  return {{"sequences", result.n_sequences},
          {"ctx_tokens", result.ctx_tokens},
          {"gen_tokens", result.gen_tokens},
          {"tokens_per_s", spread_json(result.tokens_per_s)},
          {"steady_tokens_per_s", spread_json(result.steady_tokens_per_s)},
          {"step_ms", spread_json(result.step_ms)},
          {"distinct_experts", result.distinct_experts},
          {"bytes_per_step", result.bytes_per_step},
          {"macs_per_step", result.macs_per_step},
          {"gb_per_s", result.bytes_per_s / kGiga},
          {"gmacs_per_s", result.macs_per_s / kGiga},
          {"part_of_read_bandwidth", part_of(result.bytes_per_s, read_limit(report))},
          {"part_of_int8_peak", part_of(result.macs_per_s, int8_limit(report))},
          {"recorded_nodes", result.recorded_nodes},
          {"kv_filled", result.filled}};
}

Json sweep_json(const SweepRow& row) {
  return {{"ctx_tokens", row.ctx_tokens},
          {"prefill_tokens", row.prefill_tokens},
          {"prefill_tps", spread_json(row.prefill_tps)},
          {"gen_tokens", row.gen_tokens},
          {"gen_tps", spread_json(row.gen_tps)},
          {"gen_steady_tps", spread_json(row.gen_steady_tps)},
          {"kvcache_bytes", row.kvcache_bytes}};
}

Json profile_json(const OpTable& table) {
  Json ops = Json::array();
  for (const OpProfile& op : table.ops) {
    ops.push_back(
        {{"op", op.name}, {"calls", op.calls}, {"us", op.us}, {"weight_bytes", op.weight_bytes}, {"macs", op.macs}});
  }
  return {{"of", table.title}, {"ops", ops}};
}

std::string limits_text(const MachineLimits& limits) {
  std::string out = fmt::format("limits       read {:.1f} GB/s", limits.read_bytes_per_s / kGiga);
  for (const PeakRate& rate : limits.peaks) {
    out += fmt::format(" | {} {} {:.1f}", rate.kind, rate.isa, rate.macs_per_s / kGiga);
  }
  out += " Gmac/s\n";
  if (limits.cpu_share < kBusyShare) {
    out +=
        fmt::format("             BUSY: the threads had {:.0f} % of their processors; no figure here is worth much\n",
                    100 * limits.cpu_share);
  }
  return out;
}

std::string profile_text(const BenchReport& report, const OpTable& table) {
  int64_t total_us = 0;
  for (const OpProfile& op : table.ops) total_us += op.us;
  std::string out = fmt::format("\n{}: {:.1f} ms in ops\n{:<44} {:>7} {:>10} {:>7} {:>8} {:>8} {:>9} {:>8}\n",
                                table.title, static_cast<double>(total_us) * 1e-3, "op", "calls", "ms", "time", "GB/s",
                                "of read", "Gmac/s", "of int8");
  for (const OpProfile& op : table.ops) {
    const double seconds = static_cast<double>(std::max<int64_t>(op.us, 1)) * 1e-6;
    const double bytes_per_s = static_cast<double>(op.weight_bytes) / seconds;
    const double macs_per_s = static_cast<double>(op.macs) / seconds;
    out += fmt::format("{:<44} {:>7} {:>10.2f} {:>7}", op.name, op.calls, static_cast<double>(op.us) * 1e-3,
                       percent(static_cast<double>(op.us), static_cast<double>(total_us)));
    if (op.macs > 0) {
      out +=
          fmt::format(" {:>8.2f} {:>8} {:>9.1f} {:>8}", bytes_per_s / kGiga, percent(bytes_per_s, read_limit(report)),
                      macs_per_s / kGiga, percent(macs_per_s, int8_limit(report)));
    }
    out += "\n";
  }
  return out;
}

}  // namespace

std::string report_text(const BenchReport& report, const Subject& subject) {
  const ModelCost& cost = subject.cost;
  const auto n_used = static_cast<uint64_t>(subject.hyperparams().n_expert_used);
  const uint64_t token_bytes = cost.dense.bytes + cost.head.bytes + cost.row_bytes + cost.expert.bytes * n_used;
  std::string out = fmt::format(
      "machine      {} | {} of {} | {}\n"
      "model        {} | {:.2f} GiB | {:.1f} MB read per token | backend {}\n",
      report.machine.cpu_model, report.n_threads > 0 ? fmt::format("{} threads", report.n_threads) : "no threads",
      report.machine.n_cpus, fmt::join(instruction_sets(), " "), subject.name,
      mib(subject.model->file->file_size_bytes()) / 1024, static_cast<double>(token_bytes) * 1e-6,
      subject.backend->name());
  if (report.device_memory) {
    out += fmt::format("device       {}{}{:.2f} of {:.2f} GiB in use\n", report.device_name,
                       report.device_name.empty() ? "" : " | ",
                       mib(report.device_memory->total_bytes - report.device_memory->free_bytes) / 1024,
                       mib(report.device_memory->total_bytes) / 1024);
  }
  if (report.limits) out += limits_text(*report.limits);
  out += fmt::format("kv           {:.0f} bytes per token, {:.2f} MiB per sequence\n",
                     static_cast<double>(report.kv.page_bytes) / kPageTokens, mib(report.kv.frontier_bytes));
  const StartUp& start = report.start_up;
  out += fmt::format(
      "start-up     load {:.1f} ms{}, first token after {:.1f} ms, resident {:.0f} MiB, storage read {:.0f} MiB\n",
      static_cast<double>(subject.load_us) * 1e-3,
      subject.make_us > 0 ? fmt::format(" (made in {:.1f} s)", static_cast<double>(subject.make_us) * 1e-6) : "",
      start.first_token_ms, mib(start.resident_bytes), mib(start.storage_read_bytes));
  out += fmt::format("peak memory  {:.0f} MiB\n", mib(report.peak_memory_bytes));

  if (!report.prefill.empty()) {
    out += fmt::format("\n{:>8} {:>12} {:>20} {:>16} {:>10} {:>8} {:>8}\n", "prefill", "tokens/s", "p10..p90",
                       "first token ms", "Gmac/s", "of int8", "of bf16");
  }
  for (const PrefillResult& result : report.prefill) {
    const Spread& rate = result.tokens_per_s;
    out += fmt::format("{:>8} {:>12.2f} {:>20} {:>16.1f} {:>10.1f} {:>8} {:>8}\n", result.n_tokens, rate.median,
                       fmt::format("{:.2f}..{:.2f}", rate.p10, rate.p90), result.first_token_ms.median,
                       result.macs_per_s / kGiga, percent(result.macs_per_s, int8_limit(report)),
                       percent(result.macs_per_s, bf16_limit(report)));
  }
  if (!report.decode.empty()) {
    out += fmt::format("\n{:>8} {:>8} {:>12} {:>20} {:>16} {:>10} {:>8} {:>8} {:>8} {:>6}\n", "decode", "ctx",
                       "tokens/s", "p10..p90", "step ms p50..p90", "experts", "GB/s", "of read", "of int8", "nodes");
  }
  for (const DecodeResult& result : report.decode) {
    const Spread& rate = result.tokens_per_s;
    out += fmt::format("{:>8} {:>8} {:>12.2f} {:>20} {:>16} {:>10.1f} {:>8.2f} {:>8} {:>8} {:>6}\n", result.n_sequences,
                       fmt::format("{}{}", result.ctx_tokens, result.filled ? "f" : ""), rate.median,
                       fmt::format("{:.2f}..{:.2f}", rate.p10, rate.p90),
                       fmt::format("{:.2f}..{:.2f}", result.step_ms.median, result.step_ms.p90),
                       result.distinct_experts, result.bytes_per_s / kGiga,
                       percent(result.bytes_per_s, read_limit(report)), percent(result.macs_per_s, int8_limit(report)),
                       result.recorded_nodes > 0 ? fmt::to_string(result.recorded_nodes) : "-");
  }
  for (const OpTable& table : report.profiles) out += profile_text(report, table);
  return out;
}

std::string report_json(const BenchReport& report, const Subject& subject) {
  Json json{{"program", "ds4-bench"},
            {"version", kVersion},
            {"commit", kCommit},
            {"started", report.started},
            {"machine", machine_json(report)},
            {"threads", report.n_threads},
            {"backend", subject.backend->name()},
            {"prefill_chunk", report.chunk_tokens}};
  if (report.limits) json["limits"] = limits_json(*report.limits);
  if (report.device_memory) {
    json["device"] = {{"name", report.device_name},
                      {"total_bytes", report.device_memory->total_bytes},
                      {"free_bytes", report.device_memory->free_bytes}};
  }
  json["model"] = model_json(subject);
  const StartUp& start = report.start_up;
  json["start_up"] = {{"make_ms", static_cast<double>(subject.make_us) * 1e-3},
                      {"load_ms", static_cast<double>(subject.load_us) * 1e-3},
                      {"first_step_ms", start.first_step_ms},
                      {"first_token_ms", start.first_token_ms},
                      {"resident_bytes", start.resident_bytes},
                      {"storage_read_bytes", start.storage_read_bytes}};
  json["kv"] = {{"bytes_per_token", static_cast<double>(report.kv.page_bytes) / kPageTokens},
                {"bytes_per_sequence", report.kv.frontier_bytes}};
  json["peak_memory_bytes"] = report.peak_memory_bytes;
  for (const char* part : {"prefill", "decode", "sweep", "profiles"}) json[part] = Json::array();
  for (const PrefillResult& result : report.prefill) json["prefill"].push_back(prefill_json(report, result));
  for (const DecodeResult& result : report.decode) json["decode"].push_back(decode_json(report, result));
  for (const SweepRow& row : report.sweep) json["sweep"].push_back(sweep_json(row));
  for (const OpTable& table : report.profiles) json["profiles"].push_back(profile_json(table));
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string report_svg(const BenchReport& report, const Subject& subject) {
  ChartPanel sweep_prefill{"prefill, tokens/s", "context, tokens", {}};
  ChartPanel sweep_decode{"decode, tokens/s", "context, tokens", {}};
  ChartPanel prefill{"prefill, tokens/s", "prompt, tokens", {}};
  ChartPanel decode{"decode of all sequences, tokens/s", "sequences", {}};
  const auto add = [](ChartPanel& panel, double x, const Spread& spread) {
    panel.points.push_back({x, spread.median, spread.p10, spread.p90});
  };
  for (const SweepRow& row : report.sweep) {
    add(sweep_prefill, row.ctx_tokens, row.prefill_tps);
    if (row.gen_tokens > 0) add(sweep_decode, row.ctx_tokens, row.gen_tps);
  }
  for (const PrefillResult& result : report.prefill) add(prefill, result.n_tokens, result.tokens_per_s);
  for (const DecodeResult& result : report.decode) add(decode, result.n_sequences, result.tokens_per_s);
  const std::string title = fmt::format("{}, {} threads, {}", subject.name, report.n_threads, report.machine.cpu_model);
  return svg_chart(title, {sweep_prefill, sweep_decode, prefill, decode});
}

}  // namespace ds4
