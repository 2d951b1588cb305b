#pragma once

// A synthetic model with every kind of layer and a byte-level vocabulary, for tests of the engine and what stands on
// it. The file is written once per program.

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "model/synthetic.h"
#include "support/temporary_path.h"
#include "text/vocabulary_metadata.h"

namespace ds4::test {

inline SyntheticShape tiny_model_shape() {
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
          .ratios = {0, 4, 128, 4},
          .mtp = false};
}

inline std::string write_tiny_model(const std::string& name, const Metadata& metadata) {
  const std::string path = temporary_path(name + ".gguf");
  if (std::filesystem::exists(path)) return path;
  const Result<Hyperparams> hyperparams = synthetic_hyperparams(tiny_model_shape());
  EXPECT_TRUE(hyperparams.ok()) << hyperparams.error().message;
  const Result<void> written = write_synthetic_model(hyperparams.value(), {.types = {}, .metadata = metadata}, path);
  EXPECT_TRUE(written.ok()) << written.error().message;
  return path;
}

inline Metadata tiny_vocabulary() {
  Metadata metadata;
  store_vocabulary(byte_level_vocabulary(static_cast<size_t>(tiny_model_shape().vocab)), metadata);
  return metadata;
}

inline std::string tiny_model_path() { return write_tiny_model("tiny", tiny_vocabulary()); }
inline std::string tiny_model_path_without_vocabulary() { return write_tiny_model("no-vocabulary", {}); }

}  // namespace ds4::test
