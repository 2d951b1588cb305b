#pragma once

// Paths for files of a test, removed when the test program ends.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <string>
#include <system_error>

namespace ds4::test {

// The same name gives the same path.
inline std::string temporary_path(const std::string& name) {
  struct Paths {
    std::set<std::string> all;
    ~Paths() {
      std::error_code ignored;
      for (const std::string& path : all) std::filesystem::remove(path, ignored);
    }
  };
  static Paths paths;
  return *paths.all.insert(testing::TempDir() + "ds4-" + std::to_string(getpid()) + "-" + name).first;
}

}  // namespace ds4::test
