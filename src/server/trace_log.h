#pragma once

// The file of --trace: one record per generation, appended whole by a thread of its own, so that neither the engine nor
// a client waits for the disk. It holds prompts and answers in clear text, but nothing of a request's head: no keys.
// Records that the disk does not take in time are counted and left out. Any thread.

#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/error.h"

namespace ds4 {

class TraceLog {
 public:
  // The file is made readable by its owner only; what it holds is kept.
  static Result<std::unique_ptr<TraceLog>> open(const std::string& path);
  // Writes what is queued.
  ~TraceLog();
  TraceLog(const TraceLog&) = delete;
  TraceLog& operator=(const TraceLog&) = delete;

  void append(const std::string& record);
  // Numbers records, from 1.
  uint64_t next_number();

 private:
  TraceLog(std::FILE* file, std::string path);
  void run();

  std::FILE* const file_;
  const std::string path_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::string queue_;
  uint64_t n_records_ = 0;
  uint64_t n_dropped_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace ds4
