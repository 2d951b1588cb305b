#pragma once

// A synthetic model in a temporary file, loaded on any backend, and ways to run token sequences through it. Shapes and
// tokens come from the golden vectors (tests/vectors/hf).

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "backends/backend.h"
#include "model/forward.h"
#include "model/synthetic.h"

namespace ds4::test {

// tests/vectors/hf/NAME.json and NAME.f32.
struct GoldenVectors {
  std::string name;
  SyntheticShape shape;
  std::vector<int32_t> tokens;
  std::vector<int32_t> positions;
  std::vector<int32_t> stream_positions;
  std::vector<int32_t> argmax_all;
  double logit_rms = 0;
  std::vector<float> logits;   // [positions, vocab]
  std::vector<float> streams;  // [layers + 1, stream_positions, 4, hidden]

  static GoldenVectors load(const std::string& name);
};

// A model file that is written once per program and shape, with the given type plan (empty: all F32).
std::string synthetic_file(const std::string& name, const SyntheticShape& shape, const std::vector<DType>& types = {});

enum class BackendKind { kReferenceDouble, kReferenceFloat, kCpu };
std::string backend_kind_name(BackendKind kind);
// kCpu: the device's where DS4_TEST_BACKEND=cuda (scripts/cuda_check.sh).
std::unique_ptr<Backend> make_backend(BackendKind kind, NumericProfile profile, int threads = 2);
bool tests_a_device();
// Null, with the reason: this program or machine has none.
std::unique_ptr<Backend> make_device_backend(NumericProfile profile, std::string& reason);

// Backend, model, cache and forward pass of one file.
struct LoadedModel {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<ForwardPass> forward;

  static LoadedModel load(const std::string& path, std::unique_ptr<Backend> backend, const KvLimits& kv,
                          const ForwardLimits& limits);

  // Logits [tokens, vocab] of appending `tokens` to kv in chunks of the given sizes (the last repeats).
  std::vector<float> run(KvState& kv, const std::vector<int32_t>& tokens, const std::vector<int32_t>& chunks) const;
  KvState new_sequence() const;
  // forward->streams(), wherever they are.
  std::vector<float> streams() const;
};

// A small shape with every kind of layer, for invariance tests.
SyntheticShape tiny_shape();
std::vector<int32_t> tiny_tokens(int32_t n, int32_t seed);

int32_t argmax(const float* logits, int32_t n);

}  // namespace ds4::test
