#pragma once

// The results of a run, and their three forms: a table for people, JSON that describes machine, model and program as
// well as the figures, and an SVG chart. Pure functions.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/bench/limits.h"
#include "tools/bench/machine.h"
#include "tools/bench/runner.h"
#include "tools/bench/subject.h"
#include "tools/bench/sweep.h"

namespace ds4 {

struct StartUp {
  double first_token_ms = 0;  // from the program's start, making and saving a synthetic model excluded
  double first_step_ms = 0;
  uint64_t resident_bytes = 0;      // after it
  uint64_t storage_read_bytes = 0;  // until then
};

struct OpTable {
  std::string title;  // "prefill 2048"
  std::vector<OpProfile> ops;
};

struct BenchReport {
  std::string started;  // UTC
  MachineInfo machine;
  int n_threads = 0;
  int32_t chunk_tokens = 0;
  std::optional<MachineLimits> limits;
  std::string device_name;                    // empty: the CPU, or not asked for
  std::optional<DeviceMemory> device_memory;  // with everything in place
  StartUp start_up;
  KvLayout kv;
  std::vector<PrefillResult> prefill;
  std::vector<DecodeResult> decode;
  std::vector<SweepRow> sweep;
  std::vector<OpTable> profiles;
  uint64_t peak_memory_bytes = 0;
};

std::string report_text(const BenchReport& report, const Subject& subject);
std::string report_json(const BenchReport& report, const Subject& subject);
std::string report_svg(const BenchReport& report, const Subject& subject);

}  // namespace ds4
