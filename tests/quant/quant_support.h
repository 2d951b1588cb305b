#pragma once

// What the tests of quant/ share: a small shape with every kind of layer, and a folder that goes away.

#include <string>

#include "model/synthetic.h"

namespace ds4 {

// Four layers (ratios 0, 4, 128, 4), the first hash-routed; every row is a multiple of 32.
SyntheticShape small_shape();
// The same structure with every row of every matrix a multiple of 256, for the types with large blocks.
SyntheticShape wide_shape();

class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string path(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

}  // namespace ds4
