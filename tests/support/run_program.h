#pragma once

// Runs one of our programs and waits for it: exit code and both outputs. stdin is empty unless given.

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/file.h"
#include "support/temporary_path.h"

namespace ds4::test {

struct ProgramResult {
  int exit_code = -1;  // -1: ended by a signal
  std::string standard_output;
  std::string standard_error;
};

// `arguments` as a shell reads them; `name` is a program of the build ("ds4").
inline ProgramResult run_program(const std::string& name, const std::string& arguments, const std::string& input = "") {
  const std::string base = temporary_path("run");
  EXPECT_TRUE(atomic_write(base + ".in", std::as_bytes(std::span(input))).ok());
  const std::string command = std::string(DS4_BINARY_DIR) + "/bin/" + name + " " + arguments + " <" + base + ".in >" +
                              base + ".out 2>" + base + ".err";
  const int status = std::system(command.c_str());
  ProgramResult result;
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  constexpr uint64_t kMaxOutputBytes = 64 << 20;
  result.standard_output = read_file(base + ".out", kMaxOutputBytes).take_value();
  result.standard_error = read_file(base + ".err", kMaxOutputBytes).take_value();
  for (const char* suffix : {".in", ".out", ".err"}) std::filesystem::remove(base + suffix);
  return result;
}

}  // namespace ds4::test
