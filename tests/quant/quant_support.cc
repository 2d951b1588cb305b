#include "quant/quant_support.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

namespace ds4 {

SyntheticShape small_shape() {
  return {.hidden = 64,
          .heads = 4,
          .head_dim = 32,
          .rope = 16,
          .q_lora = 32,
          .o_groups = 2,
          .o_lora = 32,
          .experts = 8,
          .used = 2,
          .ff = 32,
          .idx_heads = 2,
          .idx_dim = 32,
          .topk = 4,
          .window = 8,
          .vocab = 288,
          .hash = 1,
          .ratios = {0, 4, 128, 4}};
}

SyntheticShape wide_shape() {
  SyntheticShape shape = small_shape();
  shape.hidden = 256;
  shape.head_dim = 256;
  shape.heads = 2;
  shape.q_lora = 256;
  shape.o_lora = 128;
  shape.ff = 256;
  shape.experts = 4;
  return shape;
}

ScratchFolder::ScratchFolder() {
  path_ = testing::TempDir() + "ds4-quant-XXXXXX";
  CHECK(mkdtemp(path_.data()) != nullptr, "no temporary folder at {}", path_);
}

ScratchFolder::~ScratchFolder() { std::filesystem::remove_all(path_); }

}  // namespace ds4
