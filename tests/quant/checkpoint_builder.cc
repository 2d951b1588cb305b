#include "quant/checkpoint_builder.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/file.h"
#include "base/float_formats.h"
#include "base/rng.h"
#include "model/weight_table.h"

namespace ds4 {

namespace {

constexpr int64_t kFp8Tile = 128;
constexpr int64_t kFp4Block = 32;

std::string_view vendor_type(const WeightSpec& spec, bool quantized) {
  const std::string_view name = spec.name;
  const auto contains = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  if (spec.use == WeightUse::kTokenTable) return "I64";
  if (contains("hc_") || contains("_ape") || contains("sinks") || contains("exp_probs")) return "F32";
  if (!quantized || spec.use == WeightUse::kVector || spec.use == WeightUse::kEmbedding) return "BF16";
  if (spec.use == WeightUse::kExperts) return "I8";
  const bool stays = contains("compressor") || contains("proj") || contains("gate_inp") || name == "output.weight";
  return stays ? "BF16" : "F8_E4M3";
}

}  // namespace

BuilderTensor make_tensor(std::string_view dtype, std::vector<int64_t> shape, uint64_t seed) {
  int64_t n = 1;
  for (const int64_t extent : shape) n *= extent;
  Xorshift64Star random(seed * 2 + 1);
  ByteWriter bytes;
  for (int64_t i = 0; i < n; ++i) {
    const float value = random.next_unit() - 0.5f;
    const auto code = static_cast<uint8_t>(random.next() >> 56);
    if (dtype == "F32") bytes.write(value);
    if (dtype == "F16") bytes.write(f32_to_f16(value));
    if (dtype == "BF16") bytes.write(f32_to_bf16(value));
    if (dtype == "F8_E4M3") bytes.write(static_cast<uint8_t>((code & 0x7F) == 0x7F ? 0 : code));
    if (dtype == "F8_E8M0") bytes.write(static_cast<uint8_t>(118 + code % 8));
    if (dtype == "I8") bytes.write(code);
    if (dtype == "I64") bytes.write(static_cast<int64_t>(code % 4));
  }
  return {std::string(dtype), std::move(shape), bytes.take()};
}

void CheckpointBuilder::add_matrix(const std::string& name, const Shape& shape, std::string_view dtype) {
  const int64_t n = shape.back();
  const int64_t n_rows = shape.elements() / n;
  const uint64_t seed = fnv1a64(name);
  const std::string scale = name.substr(0, name.rfind(".weight")) + ".scale";
  std::vector<int64_t> extents(shape.extents().begin(), shape.extents().end());
  if (dtype == "I8") {
    extents = {n_rows, n / 2};
    tensors[scale] = make_tensor("F8_E8M0", {n_rows, n / kFp4Block}, seed + 1);
  } else if (dtype == "F8_E4M3") {
    const auto tiles = [](int64_t extent) { return (extent + kFp8Tile - 1) / kFp8Tile; };
    tensors[scale] = make_tensor("F8_E8M0", {tiles(n_rows), tiles(n)}, seed + 1);
  }
  tensors[name] = make_tensor(dtype, std::move(extents), seed);
}

CheckpointBuilder::CheckpointBuilder(const Hyperparams& h, bool quantized) {
  for (const ExpectedTensor& tensor : expected_tensors(h)) {
    const std::string prefix = tensor.layer < 0            ? ""
                               : tensor.layer >= h.n_layer ? std::string("mtp.0.")
                                                           : fmt::format("layers.{}.", tensor.layer);
    const std::string name = prefix + std::string(tensor.spec->native);
    const std::string_view dtype = vendor_type(*tensor.spec, quantized);
    if (tensor.spec->use == WeightUse::kExperts) {
      for (int64_t expert = 0; expert < tensor.shape[0]; ++expert) {
        std::string expert_name = name;
        expert_name.replace(name.find("{}"), 2, std::to_string(expert));
        add_matrix(expert_name, {tensor.shape[1], tensor.shape[2]}, dtype);
      }
    } else if (tensor.spec->native.empty()) {
      for (const char* half : {"e_proj.weight", "h_proj.weight"}) {
        add_matrix(prefix + half, {tensor.shape[0], tensor.shape[1] / 2}, quantized ? "F8_E4M3" : "BF16");
      }
    } else {
      add_matrix(name, tensor.shape, dtype);
    }
  }
}

std::vector<std::byte> safetensors_bytes(std::string_view header, std::span<const std::byte> data) {
  ByteWriter bytes;
  bytes.write(uint64_t{header.size()});
  bytes.write_text(header);
  bytes.write_bytes(data);
  return bytes.take();
}

std::vector<std::byte> safetensors_bytes(const std::map<std::string, BuilderTensor>& tensors) {
  nlohmann::ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
  ByteWriter data;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.dtype},
                    {"shape", tensor.shape},
                    {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data.write_bytes(tensor.bytes);
  }
  return safetensors_bytes(header.dump(), data.bytes());
}

void write_bytes(const std::string& path, std::span<const std::byte> bytes) {
  const auto written = atomic_write(path, bytes);
  CHECK(written.ok(), "{}", written.error().message);
}

void CheckpointBuilder::write(const std::string& folder, size_t n_files) const {
  if (n_files == 1) return write_bytes(folder + "/model.safetensors", safetensors_bytes(tensors));
  std::vector<std::map<std::string, BuilderTensor>> parts(n_files);
  nlohmann::json index;
  size_t i = 0;
  for (const auto& [name, tensor] : tensors) {
    const size_t part = i++ % n_files;
    parts[part][name] = tensor;
    index["weight_map"][name] = fmt::format("part-{}.safetensors", part);
  }
  for (size_t part = 0; part < n_files; ++part) {
    write_bytes(fmt::format("{}/part-{}.safetensors", folder, part), safetensors_bytes(parts[part]));
  }
  const std::string text = index.dump();
  write_bytes(folder + "/model.safetensors.index.json", std::as_bytes(std::span(text)));
}

}  // namespace ds4
