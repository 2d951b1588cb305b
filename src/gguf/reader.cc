#include "gguf/reader.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"
#include "gguf/format.h"
#include "gguf/weight_source.h"

namespace ds4 {

namespace {

class OwnedBytes final : public Buffer {
 public:
  explicit OwnedBytes(std::span<const std::byte> bytes) : bytes_(bytes.begin(), bytes.end()) {}
  std::byte* host_data() const override { return const_cast<std::byte*>(bytes_.data()); }
  uint64_t size_bytes() const override { return bytes_.size(); }

 private:
  std::vector<std::byte> bytes_;
};

uint64_t min_encoded_bytes(GgufType type) {
  if (type == GgufType::kString) return kGgufMinStringBytes;
  if (type == GgufType::kArray) return kGgufMinArrayBytes;
  return gguf_type_bytes(type);
}

static_assert(kGgufMaxDirectoryBytes == uint64_t{64} << 20, "the message below says so");

// Reads the directory into `metadata` and `tensors`. A returned error means that the bytes could not be
// followed any further; everything else that is wrong goes into `problems`.
class DirectoryParser {
 public:
  DirectoryParser(std::span<const std::byte> file, ProblemList& problems)
      : file_bytes_(file.size()),
        bytes_(file.first(std::min<uint64_t>(file.size(), kGgufMaxDirectoryBytes))),
        in_(bytes_, bytes_.size() == file.size() ? "directory" : "directory (limited to 64 MiB)"),
        problems_(problems) {}

  Result<void> run();

  Metadata metadata;
  std::vector<TensorInfo> tensors;

 private:
  struct ArrayHead {
    GgufType element_type;
    uint64_t count;
  };

  Result<void> read_header();
  Result<void> check_count(std::string_view what, uint64_t count, uint64_t limit, uint64_t min_bytes) const;
  Result<std::string_view> read_name(std::string_view field);
  Result<GgufType> read_type(std::string_view field);
  Result<void> read_pair();
  Result<MetadataValue> read_value(std::string_view key);
  Result<ArrayHead> read_array_head();
  Result<void> skip_string();
  Result<void> skip_array(ArrayHead head);
  Result<void> read_tensor_info();
  Shape check_shape(const TensorInfo& tensor, std::span<const uint64_t> file_extents);
  void place_tensors(uint64_t alignment);
  void place_tensor(TensorInfo& tensor, uint64_t data_start, uint64_t alignment);
  void report_duplicates();
  void report_overlaps();

  uint64_t file_bytes_;
  std::span<const std::byte> bytes_;  // as much of the file as a directory may take
  ByteReader in_;
  ProblemList& problems_;
  uint64_t n_tensors_ = 0;
  uint64_t n_pairs_ = 0;
};

Result<void> DirectoryParser::run() {
  TRY(read_header());
  for (uint64_t i = 0; i < n_pairs_; ++i) {
    auto pair = read_pair();
    if (!pair.ok()) return with_context(pair.take_error(), fmt::format("metadata pair {} of {}", i + 1, n_pairs_));
  }
  tensors.reserve(n_tensors_);
  for (uint64_t i = 0; i < n_tensors_; ++i) {
    auto tensor = read_tensor_info();
    if (!tensor.ok()) return with_context(tensor.take_error(), fmt::format("tensor {} of {}", i + 1, n_tensors_));
  }
  auto alignment = gguf_alignment(metadata);
  if (!alignment.ok()) problems_.add("{}", alignment.error().message);
  place_tensors(alignment.ok() ? alignment.value() : kGgufDefaultAlignment);
  report_duplicates();
  report_overlaps();
  return {};
}

Result<void> DirectoryParser::read_header() {
  const auto magic = TRY(in_.read<uint32_t>("magic"));
  if (magic != kGgufMagic) {
    return make_error(ErrorCode::kCorrupt, "not a GGUF file: it starts with {:#010x}, expected {:#010x} (\"GGUF\")",
                      magic, kGgufMagic);
  }
  const auto version = TRY(in_.read<uint32_t>("version"));
  if (version == __builtin_bswap32(kGgufVersion)) {
    return make_error(ErrorCode::kUnsupported, "a big-endian GGUF file; only little-endian files are accepted");
  }
  if (version != kGgufVersion) {
    return make_error(ErrorCode::kUnsupported, "GGUF version {}; only version {} is accepted", version, kGgufVersion);
  }
  n_tensors_ = TRY(in_.read<uint64_t>("tensor count"));
  n_pairs_ = TRY(in_.read<uint64_t>("metadata count"));
  TRY(check_count("metadata pairs", n_pairs_, kGgufMaxPairs, kGgufMinPairBytes));
  return check_count("tensors", n_tensors_, kGgufMaxTensors, kGgufMinTensorInfoBytes);
}

// Refuses a count before memory or time is spent on it.
Result<void> DirectoryParser::check_count(std::string_view what, uint64_t count, uint64_t limit,
                                          uint64_t min_bytes) const {
  if (count > limit) return make_error(ErrorCode::kCorrupt, "{} {}, at most {} are accepted", count, what, limit);
  if (count > in_.remaining() / min_bytes) {
    return make_error(ErrorCode::kCorrupt, "{} {} of at least {} bytes do not fit into the {} bytes left", count, what,
                      min_bytes, in_.remaining());
  }
  return {};
}

Result<std::string_view> DirectoryParser::read_name(std::string_view field) {
  const auto length = TRY(in_.read<uint64_t>(field));
  if (length > kGgufMaxNameBytes) {
    return make_error(ErrorCode::kCorrupt, "a {} of {} bytes, at most {} are accepted", field, length,
                      kGgufMaxNameBytes);
  }
  const std::string_view name = TRY(in_.read_text(length, field));
  if (name.empty()) problems_.add("an empty {} at byte {}", field, in_.offset());
  return name;
}

Result<GgufType> DirectoryParser::read_type(std::string_view field) {
  const auto id = TRY(in_.read<uint32_t>(field));
  const auto type = gguf_type_from_id(id);
  if (!type) return make_error(ErrorCode::kCorrupt, "{} {} is not known (0 to 12 are)", field, id);
  return *type;
}

Result<void> DirectoryParser::read_pair() {
  const std::string_view key = TRY(read_name("key"));
  auto value = read_value(key);
  if (!value.ok()) return with_context(value.take_error(), "key " + quoted_name(key));
  if (metadata.contains(key))
    problems_.add("metadata key {} occurs twice", quoted_name(key));
  else
    metadata.set_value(key, value.take_value());
  return {};
}

Result<MetadataValue> DirectoryParser::read_value(std::string_view key) {
  MetadataValue value;
  value.type = TRY(read_type("value type"));
  size_t start = in_.offset();
  if (value.type == GgufType::kString) {
    const auto length = TRY(in_.read<uint64_t>("string length"));
    start = in_.offset();
    TRY(in_.skip(length, "string"));
  } else if (value.type == GgufType::kArray) {
    const ArrayHead head = TRY(read_array_head());
    value.element_type = head.element_type;
    value.count = head.count;
    start = in_.offset();
    TRY(skip_array(head));
  } else {
    const auto bytes = TRY(in_.read_span(gguf_type_bytes(value.type), "value"));
    if (value.type == GgufType::kBool && bytes[0] > std::byte{1}) {
      problems_.add("metadata key {} is a bool of value {}, expected 0 or 1", quoted_name(key),
                    static_cast<int>(bytes[0]));
    }
  }
  value.bytes.assign(reinterpret_cast<const char*>(bytes_.data()) + start, in_.offset() - start);
  return value;
}

Result<DirectoryParser::ArrayHead> DirectoryParser::read_array_head() {
  const GgufType type = TRY(read_type("array element type"));
  const auto count = TRY(in_.read<uint64_t>("array length"));
  TRY(check_count("array elements", count, UINT64_MAX, min_encoded_bytes(type)));
  return ArrayHead{type, count};
}

Result<void> DirectoryParser::skip_string() {
  const auto length = TRY(in_.read<uint64_t>("string length"));
  return in_.skip(length, "string");
}

// Moves past the elements of an array whose head was read. Nested arrays are walked with a stack of their
// remaining counts, so that depth is bounded and nothing recurses on input.
Result<void> DirectoryParser::skip_array(ArrayHead head) {
  std::vector<ArrayHead> open = {head};
  while (!open.empty()) {
    ArrayHead& top = open.back();
    if (top.element_type == GgufType::kArray && top.count > 0) {
      if (open.size() == kGgufMaxArrayDepth) {
        return make_error(ErrorCode::kCorrupt, "arrays nested deeper than {}", kGgufMaxArrayDepth);
      }
      --top.count;
      open.push_back(TRY(read_array_head()));
      continue;
    }
    if (top.element_type == GgufType::kString) {
      for (uint64_t i = 0; i < top.count; ++i) TRY(skip_string());
    } else {
      TRY(in_.skip(top.count * gguf_type_bytes(top.element_type), "array"));
    }
    open.pop_back();
  }
  return {};
}

Result<void> DirectoryParser::read_tensor_info() {
  TensorInfo tensor;
  tensor.name = TRY(read_name("tensor name"));
  const auto rank = TRY(in_.read<uint32_t>("rank"));
  std::array<uint64_t, kMaxDims> extents{};
  if (rank >= 1 && rank <= kMaxDims) {
    for (uint32_t axis = 0; axis < rank; ++axis) extents[axis] = TRY(in_.read<uint64_t>("extent"));
  } else {
    problems_.add("tensor {} has {} dimensions, expected 1 to {}", quoted_name(tensor.name), rank, kMaxDims);
    TRY(in_.skip(uint64_t{rank} * sizeof(uint64_t), "extents"));
  }
  tensor.ggml_type = TRY(in_.read<uint32_t>("type"));
  tensor.type = dtype_from_ggml(tensor.ggml_type);
  tensor.offset_bytes = TRY(in_.read<uint64_t>("offset"));
  if (rank >= 1 && rank <= kMaxDims) tensor.shape = check_shape(tensor, std::span(extents).first(rank));
  tensors.push_back(std::move(tensor));
  return {};
}

// Our order of the extents, or an empty shape when they make no sense.
Shape DirectoryParser::check_shape(const TensorInfo& tensor, std::span<const uint64_t> file_extents) {
  std::array<int64_t, kMaxDims> extents{};
  int64_t elements = 1;
  for (size_t axis = 0; axis < file_extents.size(); ++axis) {
    const uint64_t extent = file_extents[axis];
    if (extent == 0 || extent > INT64_MAX ||
        __builtin_mul_overflow(elements, static_cast<int64_t>(extent), &elements)) {
      problems_.add(
          "tensor {} has the extents [{}] (innermost first), expected positive numbers whose product fits 63 bits",
          quoted_name(tensor.name), fmt::join(file_extents, ", "));
      return {};
    }
    extents[file_extents.size() - 1 - axis] = static_cast<int64_t>(extent);
  }
  return Shape(std::span<const int64_t>(extents).first(file_extents.size()));
}

void DirectoryParser::place_tensors(uint64_t alignment) {
  const uint64_t data_start = (in_.offset() + alignment - 1) / alignment * alignment;
  for (TensorInfo& tensor : tensors) place_tensor(tensor, data_start, alignment);
}

// Makes the offset absolute and fills the size.
void DirectoryParser::place_tensor(TensorInfo& tensor, uint64_t data_start, uint64_t alignment) {
  const uint64_t relative = tensor.offset_bytes;
  if (relative % alignment != 0) {
    problems_.add("tensor {} has the offset {}, which is no multiple of the alignment {}", quoted_name(tensor.name),
                  relative, alignment);
  }
  if (tensor.type && tensor.shape.rank() > 0) {
    auto size = tensor_bytes(*tensor.type, tensor.shape);
    if (!size.ok()) {
      problems_.add("tensor {}: {}", quoted_name(tensor.name), size.error().message);
      return;
    }
    tensor.size_bytes = size.value();
  }
  if (__builtin_add_overflow(data_start, relative, &tensor.offset_bytes) || tensor.offset_bytes > file_bytes_ ||
      tensor.size_bytes > file_bytes_ - tensor.offset_bytes) {
    problems_.add("tensor {} needs {} bytes at {} + {}, but the file has {} bytes", quoted_name(tensor.name),
                  tensor.size_bytes, data_start, relative, file_bytes_);
  }
}

void DirectoryParser::report_duplicates() {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorInfo& tensor : tensors) names.push_back(tensor.name);
  std::ranges::sort(names);
  for (auto name = std::ranges::adjacent_find(names); name != names.end();) {
    const auto next = std::upper_bound(name, names.end(), *name);
    problems_.add("tensor {} occurs {} times", quoted_name(*name), next - name);
    name = std::adjacent_find(next, names.end());
  }
}

void DirectoryParser::report_overlaps() {
  std::vector<const TensorInfo*> by_offset;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.size_bytes > 0 && tensor.offset_bytes <= file_bytes_) by_offset.push_back(&tensor);
  }
  std::ranges::sort(by_offset, {}, [](const TensorInfo* tensor) { return std::pair(tensor->offset_bytes, tensor); });
  const TensorInfo* reaching = nullptr;  // of the tensors so far, the one that ends last
  for (const TensorInfo* tensor : by_offset) {
    if (reaching != nullptr && tensor->offset_bytes - reaching->offset_bytes < reaching->size_bytes) {
      problems_.add("tensors {} and {} overlap", quoted_name(reaching->name), quoted_name(tensor->name));
      if (tensor->size_bytes <= reaching->size_bytes - (tensor->offset_bytes - reaching->offset_bytes)) continue;
    }
    reaching = tensor;
  }
}

}  // namespace

GgufFile::GgufFile(std::string path, std::unique_ptr<Buffer> buffer, Metadata metadata, std::vector<TensorInfo> tensors)
    : path_(std::move(path)), buffer_(std::move(buffer)), metadata_(std::move(metadata)), tensors_(std::move(tensors)) {
  for (size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

Result<std::unique_ptr<GgufFile>> GgufFile::open(const std::string& path) {
  std::unique_ptr<MappedFile> mapping = TRY(MappedFile::open(path));
  std::unique_ptr<GgufFile> file = TRY(parse(path, std::move(mapping)));
  file->is_mapped_ = true;
  return file;
}

GgufFile::~GgufFile() = default;

void GgufFile::set_generator(std::unique_ptr<const WeightGenerator> generator) { generator_ = std::move(generator); }

Result<std::unique_ptr<GgufFile>> GgufFile::from_bytes(std::span<const std::byte> bytes, std::string name) {
  return parse(std::move(name), std::make_unique<OwnedBytes>(bytes));
}

Result<std::unique_ptr<GgufFile>> GgufFile::parse(std::string path, std::unique_ptr<Buffer> buffer) {
  ProblemList problems;
  DirectoryParser parser({buffer->host_data(), buffer->size_bytes()}, problems);
  auto followed = parser.run();
  if (!followed.ok()) {
    if (problems.empty()) return with_context(followed.take_error(), path);
    problems.add("{}", followed.error().message);
  }
  TRY(problems.to_result(ErrorCode::kCorrupt, path));
  return std::make_unique<GgufFile>(std::move(path), std::move(buffer), std::move(parser.metadata),
                                    std::move(parser.tensors));
}

const TensorInfo* GgufFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

TensorView GgufFile::view(const TensorInfo& tensor) const {
  CHECK(tensor.type.has_value(), "tensor {} has the unknown type {}", tensor.name, ggml_type_name(tensor.ggml_type));
  return {.buffer = buffer_.get(), .offset_bytes = tensor.offset_bytes, .type = *tensor.type, .shape = tensor.shape};
}

}  // namespace ds4
