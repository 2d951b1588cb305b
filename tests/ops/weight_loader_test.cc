// Loading weights onto a device, with a device that is a piece of memory: what arrives, in which order, and what is
// said when something fails.

#include "backends/weight_loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>

#include "base/bulk_reader.h"
#include "base/file.h"
#include "gguf/writer.h"
#include "support/temporary_path.h"

namespace ds4::test {
namespace {

constexpr uint64_t kPartBytes = 1000;
constexpr uint64_t kTotal = 6 + 25'000 + 1000 + 2 + 4096 + 33'334;

// Keeps what was sent until it is waited for, as a bus does, and copies it only then.
class MemoryDevice final : public UploadDevice {
 public:
  MemoryDevice(std::span<const WeightToPlace> weights, size_t n_buffers) : weights_(weights), memory_(weights.size()) {
    for (size_t i = 0; i < n_buffers; ++i) buffers_.emplace_back(BulkReader::buffer_bytes(kPartBytes) + 4096);
    in_flight_.resize(n_buffers);
  }

  size_t n_buffers() const override { return buffers_.size(); }
  std::span<std::byte> buffer(size_t index) override {
    std::byte* data = buffers_[index].data();
    const auto address = reinterpret_cast<uintptr_t>(data);
    return {data + (4096 - address % 4096) % 4096, BulkReader::buffer_bytes(kPartBytes)};
  }
  Result<void> begin(size_t weight) override {
    log += fmt::format("b{} ", weight);
    memory_[weight].resize(weights_[weight].host.size_bytes());
    return {};
  }
  Result<void> upload(size_t buffer, std::span<const std::byte> bytes, const WeightPart& part) override {
    EXPECT_FALSE(in_flight_[buffer]) << "a buffer is sent twice";
    if (fails_at == n_uploads++) return make_error(ErrorCode::kInternal, "the bus broke");
    in_flight_[buffer] = Flight{bytes, part};
    return {};
  }
  Result<void> wait(size_t buffer) override {
    if (in_flight_[buffer]) {
      const Flight& flight = *in_flight_[buffer];
      std::memcpy(memory_[flight.part.weight].data() + flight.part.first, flight.bytes.data(), flight.bytes.size());
    }
    in_flight_[buffer].reset();
    return {};
  }
  Result<void> end(size_t weight) override {
    log += fmt::format("e{} ", weight);
    return {};
  }

  const std::vector<std::byte>& memory(size_t weight) const { return memory_[weight]; }
  std::string log;
  int n_uploads = 0;
  int fails_at = -1;

 private:
  struct Flight {
    std::span<const std::byte> bytes;
    WeightPart part;
  };
  std::span<const WeightToPlace> weights_;
  std::vector<std::vector<std::byte>> buffers_;
  std::vector<std::optional<Flight>> in_flight_;
  std::vector<std::vector<std::byte>> memory_;
};

class WeightLoaderTest : public ::testing::Test {
 protected:
  // Tensors of so many bytes, all even, in that order in the file.
  void write(std::initializer_list<int64_t> sizes) {
    path_ = temporary_path("weights");
    GgufWriter writer = GgufWriter::create(path_).take_value();
    int i = 0;
    for (const int64_t size : sizes)
      ASSERT_TRUE(writer.add_tensor(fmt::format("t{}", i++), DType::kF16, {size / 2}).ok());
    uint64_t value = 1;
    for (const int64_t size : sizes) {
      std::vector<std::byte> bytes(static_cast<size_t>(size));
      for (std::byte& byte : bytes) byte = static_cast<std::byte>((value = value * 6364136223846793005u + 1) >> 56);
      ASSERT_TRUE(writer.write_tensor_data(bytes).ok());
    }
    ASSERT_TRUE(writer.finish().ok());
    file_ = GgufFile::open(path_).take_value();
    // Asked for in another order than they lie in.
    for (size_t k = file_->tensors().size(); k-- > 0;)
      weights_.push_back({&file_->tensors()[k], file_->view(file_->tensors()[k])});
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::string path_;
  std::unique_ptr<GgufFile> file_;
  std::vector<WeightToPlace> weights_;
};

TEST_F(WeightLoaderTest, PartsCoverEveryByteInTheOrderOfTheFile) {
  write({6, 2500, 1000});
  const std::vector<WeightPart> parts = plan_parts(weights_, kPartBytes);
  const std::vector<WeightPart> expected{
      {2, 0, 6, true}, {1, 0, 1000, false}, {1, 1000, 1000, false}, {1, 2000, 500, true}, {0, 0, 1000, true}};
  EXPECT_EQ(parts, expected);
  EXPECT_TRUE(plan_parts({}, kPartBytes).empty());
}

TEST_F(WeightLoaderTest, EveryByteArrivesWhateverThreadsAndBuffers) {
  write({6, 25'000, 1000, 2, 4096, 33'334});
  const auto source = open_weight_source(*file_).take_value();
  for (const int n_threads : {1, 3, 8}) {
    for (const size_t n_buffers : {2, 3, 16}) {
      MemoryDevice device(weights_, n_buffers);
      std::vector<uint64_t> reported;
      const auto loaded = load_weights(
          weights_, *source, device,
          {.part_bytes = kPartBytes, .n_threads = n_threads, .progress = [&](uint64_t done, uint64_t total) {
             EXPECT_EQ(total, kTotal);
             reported.push_back(done);
           }});
      ASSERT_TRUE(loaded.ok()) << loaded.error().message;
      for (size_t i = 0; i < weights_.size(); ++i) {
        const TensorView& host = weights_[i].host;
        ASSERT_EQ(device.memory(i).size(), host.size_bytes());
        EXPECT_EQ(std::memcmp(device.memory(i).data(), host.data<std::byte>(), host.size_bytes()), 0) << i;
      }
      EXPECT_EQ(device.log, "b5 e5 b4 e4 b3 e3 b2 e2 b1 e1 b0 e0 ");
      EXPECT_TRUE(std::ranges::is_sorted(reported));
      EXPECT_EQ(reported.back(), kTotal);
    }
  }
}

TEST_F(WeightLoaderTest, NothingToLoadIsLoaded) {
  write({6});
  const auto source = open_weight_source(*file_).take_value();
  MemoryDevice device({}, 2);
  EXPECT_TRUE(load_weights({}, *source, device, {.part_bytes = kPartBytes, .n_threads = 2, .progress = {}}).ok());
}

TEST_F(WeightLoaderTest, AFileThatShrankIsNamedWithTensorAndPlace) {
  write({6, 25'000});
  const auto source = open_weight_source(*file_).take_value();
  const uint64_t end = file_->tensors()[1].offset_bytes + 10'500;
  std::filesystem::resize_file(path_, end);
  MemoryDevice device(weights_, 4);
  const auto loaded =
      load_weights(weights_, *source, device, {.part_bytes = kPartBytes, .n_threads = 3, .progress = {}});
  ASSERT_FALSE(loaded.ok());
  const std::string& message = loaded.error().message;
  EXPECT_NE(message.find("tensor t1"), std::string::npos) << message;
  EXPECT_NE(message.find(path_), std::string::npos) << message;
  EXPECT_NE(message.find(fmt::format("expected 1000 bytes at {}", end - 500)), std::string::npos) << message;
  EXPECT_NE(message.find("found 500"), std::string::npos) << message;
}

TEST_F(WeightLoaderTest, ADeviceThatFailsEndsTheLoad) {
  write({6, 250'000});
  const auto source = open_weight_source(*file_).take_value();
  for (const int at : {0, 1, 17}) {
    MemoryDevice device(weights_, 4);
    device.fails_at = at;
    const auto loaded =
        load_weights(weights_, *source, device, {.part_bytes = kPartBytes, .n_threads = 3, .progress = {}});
    ASSERT_FALSE(loaded.ok());
    EXPECT_EQ(loaded.error().message, "the bus broke");
    EXPECT_EQ(device.n_uploads, at + 1);
  }
}

TEST(PooledRunsTest, PartsAreThoseOfTheWhole) {
  std::vector<std::byte> pool(1000);
  for (size_t i = 0; i < pool.size(); ++i) pool[i] = static_cast<std::byte>(i * 31 + i / 100);
  const PooledRuns runs{.pool = pool, .seed = 42, .run_bytes = 96, .block_bytes = 6};
  std::vector<std::byte> whole(1234);
  runs.fill(0, whole);
  std::vector<std::byte> parts(whole.size());
  for (size_t first = 0; first < parts.size(); first += 77)
    runs.fill(first, std::span(parts).subspan(first, std::min<size_t>(77, parts.size() - first)));
  EXPECT_EQ(whole, parts);
  for (uint64_t run = 0; run < 12; ++run) {
    EXPECT_EQ(runs.start(run) % 6, 0u);
    EXPECT_EQ(std::memcmp(whole.data() + run * 96, pool.data() + runs.start(run), 96), 0) << run;
  }
}

}  // namespace
}  // namespace ds4::test
