// What a loader must do with files that are not as they should be, seen from whole files: every reason in one message,
// never a crash, and the variants that published files have.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "backends/cpu/cpu_backend.h"
#include "base/file.h"
#include "base/rng.h"
#include "gguf/dequantize.h"
#include "gguf/reader.h"
#include "gguf/writer.h"
#include "model/forward.h"
#include "model/model.h"
#include "model/synthetic.h"
#include "model/weight_table.h"
#include "quant/quant_support.h"
#include "quant/recipe.h"

namespace ds4 {
namespace {

// A file taken apart, to be changed and put together again.
struct EditableFile {
  struct Tensor {
    std::string name;
    DType type;
    Shape shape;
    std::vector<std::byte> bytes;
  };
  Metadata metadata;
  std::vector<Tensor> tensors;

  explicit EditableFile(const GgufFile& file) : metadata(file.metadata()) {
    for (const TensorInfo& info : file.tensors()) {
      const TensorView view = file.view(info);
      const auto* first = view.data<std::byte>();
      tensors.push_back({info.name, *info.type, info.shape, {first, first + view.size_bytes()}});
    }
  }
  Tensor& tensor(std::string_view name) {
    const auto found = std::ranges::find(tensors, name, &Tensor::name);
    CHECK(found != tensors.end(), "{}", name);
    return *found;
  }
  void resize(std::string_view name, DType type, const Shape& shape) {
    Tensor& changed = tensor(name);
    changed.type = type;
    changed.shape = shape;
    changed.bytes.resize(tensor_bytes(type, shape).value());
  }
  void write(const std::string& path) const {
    GgufWriter writer = GgufWriter::create(path).take_value();
    writer.metadata() = metadata;
    for (const Tensor& tensor : tensors) {
      ASSERT_TRUE(writer.add_tensor(tensor.name, tensor.type, tensor.shape).ok()) << tensor.name;
    }
    for (const Tensor& tensor : tensors) ASSERT_TRUE(writer.write_tensor_data(tensor.bytes).ok());
    ASSERT_TRUE(writer.finish().ok());
  }
};

class LoaderTest : public testing::Test {
 protected:
  std::string synthesize(SyntheticShape shape, bool mtp, std::string_view recipe = "f32") {
    shape.mtp = mtp;
    const Hyperparams h = synthetic_hyperparams(shape).value();
    SyntheticFile file;
    file.types = plan_types(expected_tensors(h), *find_recipe(recipe).value(), {}).value().types;
    const std::string path = folder_.path(std::string(recipe) + ".gguf");
    CHECK(write_synthetic_model(h, file, path).ok(), "{}", path);
    return path;
  }
  EditableFile edit(const std::string& path) { return EditableFile(*GgufFile::open(path).value()); }

  Result<std::unique_ptr<Model>> load(const std::string& path) {
    auto file = GgufFile::open(path);
    if (!file.ok()) return file.take_error();
    return Model::load(file.take_value(), *backend_);
  }
  std::string load_error(const std::string& path) {
    const auto model = load(path);
    return model.ok() ? "" : model.error().message;
  }
  std::string load_error(const EditableFile& file) {
    file.write(folder_.path("edited.gguf"));
    return load_error(folder_.path("edited.gguf"));
  }
  std::string load_error(const std::vector<std::byte>& bytes) {
    CHECK(atomic_write(folder_.path("edited.gguf"), bytes).ok(), "cannot write");
    return load_error(folder_.path("edited.gguf"));
  }
  static std::vector<std::byte> bytes_of(const std::string& path) {
    const std::string text = read_file(path, 1 << 28).value();
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
  }
  static void expect_parts(const std::string& message, std::initializer_list<std::string_view> parts) {
    for (const std::string_view part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << "no '" << part << "' in: " << message;
    }
  }

  // Logits of the last of some tokens.
  std::vector<float> run(const std::string& path) {
    const auto model = load(path).take_value();
    const auto cache = KvCache::create(*backend_, model->hyperparams, {.n_slots = 1, .ctx_tokens = 512}).take_value();
    const auto forward = ForwardPass::create(*backend_, *model, *cache, {}).take_value();
    KvState kv = cache->new_sequence().take_value();
    const std::vector<int32_t> tokens = synthetic_tokens("loader", 150, model->hyperparams.n_vocab);
    const SequenceInput input{&kv, tokens, LogitsWanted::kLast};
    const auto logits = forward->run(std::span(&input, 1)).value();
    return {logits.begin(), logits.end()};
  }

  ScratchFolder folder_;
  std::unique_ptr<Backend> backend_ = make_cpu_backend({.threads = 1, .profile = NumericProfile::kExact});
};

TEST_F(LoaderTest, TruncatedFilesAreRefusedAtEveryLength) {
  const std::vector<std::byte> whole = bytes_of(synthesize(small_shape(), false));
  Xorshift64Star random(7);
  std::set<size_t> lengths = {0, 1, 4, 23, 24, whole.size() - 1};
  for (int i = 0; i < 40; ++i) lengths.insert(random.next() % 8192);
  for (int i = 0; i < 20; ++i) lengths.insert(random.next() % whole.size());
  for (const size_t length : lengths) {
    const std::string message = load_error(std::vector<std::byte>(whole.begin(), whole.begin() + length));
    expect_parts(message, {"edited.gguf"});
  }
}

TEST_F(LoaderTest, FlippedBytesNeverCrash) {
  const std::vector<std::byte> whole = bytes_of(synthesize(small_shape(), true));
  Xorshift64Star random(11);
  size_t n_refused = 0;
  for (int i = 0; i < 80; ++i) {
    std::vector<std::byte> bytes = whole;
    for (int flip = 0; flip < 3; ++flip) bytes[random.next() % 12'000] ^= std::byte{1} << (random.next() % 8);
    n_refused += load_error(bytes).empty() ? 0 : 1;
  }
  EXPECT_GT(n_refused, 50u);  // most of the directory matters
}

TEST_F(LoaderTest, AbsurdCountsAreRefusedWithoutMemoryForThem) {
  const std::vector<std::byte> whole = bytes_of(synthesize(small_shape(), false));
  constexpr size_t kTensorCount = 8, kPairCount = 16, kFirstKeyLength = 24;
  for (const size_t at : {kTensorCount, kPairCount, kFirstKeyLength}) {
    for (const uint64_t count : {uint64_t{1} << 20, uint64_t{1} << 40, UINT64_MAX}) {
      std::vector<std::byte> bytes = whole;
      std::memcpy(bytes.data() + at, &count, sizeof(count));
      expect_parts(load_error(bytes), {"edited.gguf"});
    }
  }
}

TEST_F(LoaderTest, EveryWrongTensorIsReportedInOneMessage) {
  EditableFile file = edit(synthesize(small_shape(), true));
  std::erase_if(file.tensors, [](const auto& tensor) {
    return tensor.name == "output_norm.weight" || tensor.name == "blk.2.ffn_up_exps.weight";
  });
  file.resize("blk.0.attn_q_a.weight", DType::kF32, {32, 65});
  file.resize("blk.1.attn_sinks.weight", DType::kI32, {4});
  file.resize("blk.4.nextn.eh_proj.weight", DType::kF32, {64, 64});
  file.resize("blk.3.indexer.proj.weight", DType::kI32, {2, 64});
  const int32_t expert = 8;
  std::memcpy(file.tensor("blk.0.ffn_gate_tid2eid.weight").bytes.data() + 20, &expert, sizeof(expert));
  expect_parts(load_error(file),
               {"edited.gguf", "7 problems", "output_norm.weight is missing", "blk.2.ffn_up_exps.weight is missing",
                "blk.0.attn_q_a.weight: expected shape [32, 64], found [32, 65]", "blk.1.attn_sinks.weight",
                "blk.4.nextn.eh_proj.weight: expected shape [64, 128], found [64, 64]", "blk.3.indexer.proj.weight",
                "cpu", "found I32", "element 5: expected an expert below 8, found 8"});
}

TEST_F(LoaderTest, EveryWrongKeyIsReportedInOneMessage) {
  EditableFile file = edit(synthesize(small_shape(), false));
  file.metadata.set_string("deepseek4.expert_count", "many");
  file.metadata.set_u32("deepseek4.attention.key_length", 0);
  file.metadata.set_u32("deepseek4.attention.head_count_kv", 2);
  file.metadata.set_u32("deepseek4.expert_gating_func", 2);
  file.metadata.set_string("general.architecture", "llama");
  file.metadata.set_u64("deepseek4.vocab_size", uint64_t{1} << 40);
  expect_parts(load_error(file),
               {"edited.gguf", "6 problems", "deepseek4.expert_count", "attention.key_length",
                "head_count_kv: expected 1, found 2", "expert_gating_func", "\"llama\"", "vocab_size"});
}

TEST_F(LoaderTest, ARepeatedKeyIsReported) {
  EditableFile file = edit(synthesize(small_shape(), false));
  file.metadata.set_u32("test.key_a", 1);
  file.metadata.set_u32("test.key_b", 2);
  file.write(folder_.path("two.gguf"));
  std::vector<std::byte> bytes = bytes_of(folder_.path("two.gguf"));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const size_t at = text.find("test.key_b");
  ASSERT_NE(at, std::string_view::npos);
  bytes[at + 9] = std::byte{'a'};
  expect_parts(load_error(bytes), {"edited.gguf", "test.key_a"});
}

TEST_F(LoaderTest, IntegersMayHaveAnyWidth) {
  const std::string path = synthesize(small_shape(), true);
  const std::vector<float> wanted = run(path);
  for (const bool wide : {false, true}) {
    EditableFile file = edit(path);
    std::vector<MetadataEntry> entries(file.metadata.entries().begin(), file.metadata.entries().end());
    for (const MetadataEntry& entry : entries) {
      if (entry.value.type != GgufType::kU32) continue;
      const auto value = static_cast<uint32_t>(file.metadata.get_int(entry.key).value());
      if (wide) {
        file.metadata.set_u64(entry.key, value);
      } else {
        file.metadata.set_i32(entry.key, static_cast<int32_t>(value));
      }
    }
    file.write(folder_.path("integers.gguf"));
    EXPECT_EQ(run(folder_.path("integers.gguf")), wanted) << wide;
  }
}

TEST_F(LoaderTest, TheDraftLayerMayBeStoredOrAnnouncedOnly) {
  const std::string path = synthesize(small_shape(), true);
  const auto stored = load(path);
  ASSERT_TRUE(stored.ok()) << stored.error().message;
  EXPECT_EQ(stored.value()->hyperparams.n_layer, 4);
  EXPECT_EQ(stored.value()->hyperparams.n_nextn_layer, 1);
  const std::vector<float> wanted = run(path);

  // As files that keep it elsewhere: the keys speak of it, block_count does not.
  EditableFile file = edit(path);
  std::erase_if(file.tensors, [](const auto& tensor) { return tensor.name.starts_with("blk.4."); });
  file.metadata.set_u32("deepseek4.block_count", 4);
  file.write(folder_.path("elsewhere.gguf"));
  const auto elsewhere = load(folder_.path("elsewhere.gguf"));
  ASSERT_TRUE(elsewhere.ok()) << elsewhere.error().message;
  EXPECT_EQ(elsewhere.value()->hyperparams.n_nextn_layer, 0);
  EXPECT_EQ(run(folder_.path("elsewhere.gguf")), wanted);
}

// Every type mix gives what its own values say: the same file with each tensor widened to F32.
class TypeMixTest : public LoaderTest, public testing::WithParamInterface<const char*> {};

TEST_P(TypeMixTest, LogitsAreThoseOfTheWidenedFile) {
  SyntheticShape shape = wide_shape();
  shape.ratios = {4, 128};
  const std::string path = synthesize(shape, false, GetParam());
  EditableFile twin = edit(path);
  for (EditableFile::Tensor& tensor : twin.tensors) {
    if (!is_float_type(tensor.type)) continue;
    std::vector<float> values(static_cast<size_t>(tensor.shape.elements()));
    dequantize_row(tensor.type, tensor.bytes.data(), values.data(), tensor.shape.elements());
    tensor.type = DType::kF32;
    const auto bytes = std::as_bytes(std::span(values));
    tensor.bytes.assign(bytes.begin(), bytes.end());
  }
  twin.write(folder_.path("twin.gguf"));
  const std::vector<float> logits = run(path);
  const std::vector<float> wanted = run(folder_.path("twin.gguf"));
  ASSERT_EQ(logits.size(), wanted.size());
  double worst = 0, square = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    worst = std::max(worst, std::fabs(double{logits[i]} - wanted[i]));
    square += std::pow(wanted[i], 2);
  }
  EXPECT_LE(worst, 2e-4 * std::sqrt(square / static_cast<double>(logits.size())));
}

INSTANTIATE_TEST_SUITE_P(Recipes, TypeMixTest,
                         testing::Values("bf16", "f16", "q8_0", "stock", "antirez", "q4", "q2k", "mxfp4"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace ds4
