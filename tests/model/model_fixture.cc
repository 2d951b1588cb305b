#include "model/model_fixture.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "backends/cpu/cpu_backend.h"
#ifdef DS4_WITH_CUDA
#include "backends/cuda/cuda_backend.h"
#endif
#include "backends/host_backend.h"
#include "base/file.h"
#include "quant/model_json.h"

namespace ds4::test {

namespace {

std::string read_text(const std::string& path) {
  auto text = read_file(path, uint64_t{1} << 30);
  if (!text.ok()) ADD_FAILURE() << text.error().message;
  return text.ok() ? text.take_value() : std::string();
}

// Model files of this program, removed when it ends.
class TemporaryFiles {
 public:
  ~TemporaryFiles() {
    for (const std::string& path : paths_) std::filesystem::remove(path);
  }
  bool add(const std::string& path) {
    if (std::ranges::find(paths_, path) != paths_.end()) return false;
    paths_.push_back(path);
    return true;
  }

 private:
  std::vector<std::string> paths_;
};

}  // namespace

GoldenVectors GoldenVectors::load(const std::string& name) {
  const std::string base = std::string(DS4_SOURCE_DIR) + "/tests/vectors/hf/" + name;
  const std::string text = read_text(base + ".json");
  const auto json = nlohmann::json::parse(text);
  GoldenVectors golden;
  golden.name = name;
  golden.shape = parse_synthetic_shape(text, name).value();
  golden.tokens = json["tokens"].get<std::vector<int32_t>>();
  golden.positions = json["positions"].get<std::vector<int32_t>>();
  golden.stream_positions = json["stream_positions"].get<std::vector<int32_t>>();
  golden.argmax_all = json["argmax_all"].get<std::vector<int32_t>>();
  golden.logit_rms = json["logit_rms"].get<double>();
  const std::string raw = read_text(base + ".f32");
  std::vector<float> values(raw.size() / sizeof(float));
  std::memcpy(values.data(), raw.data(), raw.size());
  const auto n_logits = static_cast<std::ptrdiff_t>(golden.positions.size()) * golden.shape.vocab;
  golden.logits.assign(values.begin(), values.begin() + n_logits);
  golden.streams.assign(values.begin() + n_logits, values.end());
  return golden;
}

std::string synthetic_file(const std::string& name, const SyntheticShape& shape, const std::vector<DType>& types) {
  const std::string path = ::testing::TempDir() + "/ds4_" + std::to_string(getpid()) + "_" + name + ".gguf";
  static TemporaryFiles files;
  if (!files.add(path)) return path;
  const auto hyperparams = synthetic_hyperparams(shape);
  EXPECT_TRUE(hyperparams.ok()) << hyperparams.error().message;
  const auto written = write_synthetic_model(hyperparams.value(), {.types = types, .metadata = {}}, path);
  EXPECT_TRUE(written.ok()) << written.error().message;
  return path;
}

std::string backend_kind_name(BackendKind kind) {
  switch (kind) {
    case BackendKind::kReferenceDouble: return "ReferenceDouble";
    case BackendKind::kReferenceFloat: return "ReferenceFloat";
    case BackendKind::kCpu: return "Cpu";
  }
  return "";
}

bool tests_a_device() {
  const char* name = std::getenv("DS4_TEST_BACKEND");
  return name != nullptr && std::string_view(name) == "cuda";
}

std::unique_ptr<Backend> make_device_backend(NumericProfile profile, std::string& reason) {
#ifdef DS4_WITH_CUDA
  Result<std::unique_ptr<Backend>> made = make_cuda_backend({.device = 0, .profile = profile});
  if (made.ok()) return made.take_value();
  reason = made.error().message;
#else
  (void)profile;
  reason = "built without CUDA";
#endif
  return nullptr;
}

std::unique_ptr<Backend> make_backend(BackendKind kind, NumericProfile profile, int threads) {
  switch (kind) {
    case BackendKind::kReferenceDouble: return make_reference_backend(ReferenceReal::kDouble, profile);
    case BackendKind::kReferenceFloat: return make_reference_backend(ReferenceReal::kFloat, profile);
    case BackendKind::kCpu:
      if (tests_a_device()) {
        std::string reason;
        std::unique_ptr<Backend> device = make_device_backend(profile, reason);
        CHECK(device != nullptr, "{}", reason);
        return device;
      }
      return make_cpu_backend({.threads = threads, .profile = profile});
  }
  return nullptr;
}

LoadedModel LoadedModel::load(const std::string& path, std::unique_ptr<Backend> backend, const KvLimits& kv,
                              const ForwardLimits& limits) {
  LoadedModel loaded;
  loaded.backend = std::move(backend);
  auto file = GgufFile::open(path);
  CHECK(file.ok(), "{}", file.error().message);
  auto model = Model::load(file.take_value(), *loaded.backend);
  CHECK(model.ok(), "{}", model.error().message);
  loaded.model = model.take_value();
  loaded.cache = KvCache::create(*loaded.backend, loaded.model->hyperparams, kv).take_value();
  loaded.forward = ForwardPass::create(*loaded.backend, *loaded.model, *loaded.cache, limits).take_value();
  return loaded;
}

std::vector<float> LoadedModel::run(KvState& kv, const std::vector<int32_t>& tokens,
                                    const std::vector<int32_t>& chunks) const {
  std::vector<float> logits;
  size_t done = 0;
  for (size_t chunk = 0; done < tokens.size(); ++chunk) {
    const auto wanted = static_cast<size_t>(chunks[std::min(chunk, chunks.size() - 1)]);
    const size_t n = std::min(wanted, tokens.size() - done);
    const SequenceInput input{&kv, std::span(tokens).subspan(done, n), LogitsWanted::kAll};
    const auto rows = forward->run(std::span(&input, 1));
    CHECK(rows.ok(), "{}", rows.error().message);
    logits.insert(logits.end(), rows.value().begin(), rows.value().end());
    done += n;
  }
  return logits;
}

std::vector<float> LoadedModel::streams() const {
  const TensorView view = forward->streams();
  std::vector<float> values(static_cast<size_t>(view.elements()));
  backend->download(view, std::as_writable_bytes(std::span(values)));
  return values;
}

KvState LoadedModel::new_sequence() const { return cache->new_sequence().take_value(); }

SyntheticShape tiny_shape() {
  return {.hidden = 64,
          .heads = 4,
          .head_dim = 96,
          .rope = 32,
          .q_lora = 32,
          .o_groups = 2,
          .o_lora = 32,
          .experts = 8,
          .used = 3,
          .ff = 32,
          .idx_heads = 4,
          .idx_dim = 32,
          .topk = 8,
          .window = 16,
          .vocab = 300,
          .hash = 1,
          .ratios = {0, 4, 128, 4},
          .mtp = false};
}

std::vector<int32_t> tiny_tokens(int32_t n, int32_t seed) {
  return synthetic_tokens("invariance" + std::to_string(seed), n, tiny_shape().vocab);
}

int32_t argmax(const float* logits, int32_t n) {
  return static_cast<int32_t>(std::max_element(logits, logits + n) - logits);
}

}  // namespace ds4::test
