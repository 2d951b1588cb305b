#include "quant/safetensors.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/bytes.h"
#include "base/file.h"
#include "gguf/format.h"

namespace ds4 {

namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference reader
constexpr uint64_t kMaxIndexBytes = 100'000'000;
constexpr std::string_view kMetadataKey = "__metadata__";
constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::string_view kSingleName = "model.safetensors";

struct SourceTypeInfo {
  std::string_view name;
  uint32_t bytes;
};

// Indexed by SourceType.
constexpr std::array<SourceTypeInfo, 9> kTypes = {{
    {"F32", 4},
    {"F16", 2},
    {"BF16", 2},
    {"F8_E4M3", 1},
    {"F8_E8M0", 1},
    {"I8", 1},
    {"U8", 1},
    {"I32", 4},
    {"I64", 8},
}};

std::optional<SourceType> source_type_from_name(std::string_view name) {
  for (size_t i = 0; i < kTypes.size(); ++i) {
    if (kTypes[i].name == name) return static_cast<SourceType>(i);
  }
  return std::nullopt;
}

// Parses JSON whose outermost object must not repeat a key: nlohmann keeps the last of equal keys in silence.
Json parse_with_unique_keys(std::string_view text, ProblemList& problems) {
  std::set<std::string> keys;
  const auto see = [&](int depth, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::key && depth == 1 && !keys.insert(value.get<std::string>()).second) {
      problems.add("key {} appears twice", quoted_name(value.get_ref<const std::string&>()));
    }
    return true;
  };
  Json json = Json::parse(text, see, false);
  if (json.is_discarded()) problems.add("not valid JSON");
  if (!json.is_discarded() && !json.is_object()) problems.add("expected a JSON object, found {}", json.type_name());
  return json;
}

// One entry of the header: dtype, shape and data_offsets are checked alone and against each other.
class EntryReader {
 public:
  EntryReader(std::span<const std::byte> data, ProblemList& problems) : data_(data), problems_(problems) {}

  std::optional<SourceTensor> read(const std::string& name, const Json& entry) {
    subject_ = quoted_name(name);
    if (!entry.is_object()) {
      problems_.add("{}: expected an object, found {}", subject_, entry.type_name());
      return std::nullopt;
    }
    const auto type = read_type(entry);
    const auto shape = read_integers(entry, "shape", kMaxDims);
    const auto offsets = read_integers(entry, "data_offsets", 2);
    if (!type || !shape || !offsets) return std::nullopt;
    if (offsets->size() != 2 || (*offsets)[0] > (*offsets)[1] || (*offsets)[1] > data_.size()) {
      problems_.add("{}: data_offsets: expected begin and end within {} bytes, found [{}]", subject_, data_.size(),
                    fmt::join(*offsets, ", "));
      return std::nullopt;
    }
    const uint64_t n_bytes = (*offsets)[1] - (*offsets)[0];
    const auto wanted_bytes = tensor_size(*type, *shape);
    if (wanted_bytes != n_bytes) {
      problems_.add("{}: {} [{}] does not take the {} bytes that data_offsets give it", subject_,
                    source_type_name(*type), fmt::join(*shape, ", "), n_bytes);
      return std::nullopt;
    }
    std::vector<int64_t> extents(shape->begin(), shape->end());
    return SourceTensor{name, *type, Shape(std::span<const int64_t>(extents)), data_.subspan((*offsets)[0], n_bytes)};
  }

 private:
  std::optional<SourceType> read_type(const Json& entry) {
    const auto found = entry.find("dtype");
    if (found == entry.end() || !found->is_string()) {
      problems_.add("{}: dtype: expected a text", subject_);
      return std::nullopt;
    }
    const auto& name = found->get_ref<const std::string&>();
    const auto type = source_type_from_name(name);
    if (!type) {
      std::string known;
      for (const SourceTypeInfo& info : kTypes) known += fmt::format("{}{}", known.empty() ? "" : ", ", info.name);
      problems_.add("{}: dtype: expected one of {}, found {}", subject_, known, quoted_name(name));
    }
    return type;
  }

  std::optional<std::vector<uint64_t>> read_integers(const Json& entry, const char* key, size_t max_count) {
    const auto found = entry.find(key);
    std::vector<uint64_t> values;
    bool good = found != entry.end() && found->is_array() && found->size() <= max_count;
    if (good) {
      for (const Json& value : *found) {
        good = good && value.is_number_unsigned();
        values.push_back(good ? value.get<uint64_t>() : 0);
      }
    }
    if (good) return values;
    problems_.add("{}: {}: expected an array of at most {} integers", subject_, key, max_count);
    return std::nullopt;
  }

  // Nothing when the size, or an extent, is beyond 63 bits.
  static std::optional<uint64_t> tensor_size(SourceType type, const std::vector<uint64_t>& shape) {
    int64_t n_bytes = source_type_bytes(type);
    for (const uint64_t extent : shape) {
      if (extent > INT64_MAX || __builtin_mul_overflow(n_bytes, static_cast<int64_t>(extent), &n_bytes)) {
        return std::nullopt;
      }
    }
    return static_cast<uint64_t>(n_bytes);
  }

  std::span<const std::byte> data_;
  ProblemList& problems_;
  std::string subject_;
};

// Neighbours in memory order must touch.
void check_coverage(const std::vector<SourceTensor>& tensors, std::span<const std::byte> data, ProblemList& problems) {
  std::vector<const SourceTensor*> order;
  for (const SourceTensor& tensor : tensors) order.push_back(&tensor);
  std::ranges::sort(order, {}, [](const SourceTensor* tensor) {
    return std::pair(tensor->bytes.data(), tensor->bytes.data() + tensor->bytes.size());
  });
  const std::byte* end = data.data();
  for (const SourceTensor* tensor : order) {
    const std::byte* begin = tensor->bytes.data();
    if (begin < end) problems.add("{} overlaps the tensor before it", quoted_name(tensor->name));
    if (begin > end) problems.add("{} bytes before {} belong to no tensor", begin - end, quoted_name(tensor->name));
    end = std::max(end, begin + tensor->bytes.size());
  }
  const auto covered_bytes = static_cast<uint64_t>(end - data.data());
  if (covered_bytes != data.size()) {
    problems.add("the last {} bytes belong to no tensor", data.size() - covered_bytes);
  }
}

bool is_plain_file_name(std::string_view name) {
  return !name.empty() && name.size() < 256 && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

}  // namespace

std::string_view source_type_name(SourceType type) { return kTypes[static_cast<size_t>(type)].name; }
uint32_t source_type_bytes(SourceType type) { return kTypes[static_cast<size_t>(type)].bytes; }

Result<std::vector<SourceTensor>> parse_safetensors(std::span<const std::byte> bytes, std::string_view subject) {
  ByteReader reader(bytes, subject);
  const auto header_bytes = TRY(reader.read<uint64_t>("header length"));
  if (header_bytes > kMaxHeaderBytes || header_bytes > reader.remaining()) {
    return make_error(ErrorCode::kCorrupt, "{}: header length: expected at most {} bytes, found {}", subject,
                      std::min<uint64_t>(kMaxHeaderBytes, reader.remaining()), header_bytes);
  }
  const std::string_view header = TRY(reader.read_text(header_bytes, "header"));
  const std::span<const std::byte> data = bytes.subspan(reader.offset());

  ProblemList problems;
  const Json json = parse_with_unique_keys(header, problems);
  if (!json.is_object()) return problems.to_result(ErrorCode::kCorrupt, subject).error();
  std::vector<SourceTensor> tensors;
  EntryReader entries(data, problems);
  for (const auto& [name, entry] : json.items()) {
    if (name == kMetadataKey) continue;
    if (auto tensor = entries.read(name, entry)) tensors.push_back(std::move(*tensor));
  }
  // With an entry unread its bytes would only look like a gap.
  if (problems.empty()) check_coverage(tensors, data, problems);
  TRY(problems.to_result(ErrorCode::kCorrupt, subject));
  return tensors;
}

Result<std::map<std::string, std::string>> parse_safetensors_index(std::string_view json, std::string_view subject) {
  ProblemList problems;
  const Json root = parse_with_unique_keys(json, problems);
  std::map<std::string, std::string> files;
  if (root.is_object()) {
    const auto found = root.find("weight_map");
    if (found == root.end() || !found->is_object()) {
      problems.add("weight_map: expected an object");
    } else {
      for (const auto& [name, file] : found->items()) {
        if (file.is_string() && is_plain_file_name(file.get_ref<const std::string&>())) {
          files[name] = file.get<std::string>();
        } else {
          problems.add("weight_map: {}: expected a file name without folders", quoted_name(name));
        }
      }
    }
  }
  TRY(problems.to_result(ErrorCode::kCorrupt, subject));
  return files;
}

const SourceTensor* Checkpoint::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

std::string_view Checkpoint::plain_name(std::string_view name) {
  constexpr std::string_view kPrefix = "model.";
  return name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : name;
}

void Checkpoint::add_file(const std::string& name, ProblemList& problems) {
  const std::string path = folder_ + "/" + name;
  auto file = MappedFile::open(path);
  if (!file.ok()) return problems.add("{}", file.error().message);
  auto tensors = parse_safetensors(file.value()->bytes(), path);
  if (!tensors.ok()) return problems.add("{}", tensors.error().message);
  files_.push_back(file.take_value());
  for (SourceTensor& tensor : tensors.value()) {
    tensor.name = std::string(plain_name(tensor.name));
    const std::string key = tensor.name;
    if (!tensors_.try_emplace(key, std::move(tensor)).second) {
      problems.add("tensor {} is stored twice, the second time in {}", quoted_name(key), name);
    }
  }
}

Result<Checkpoint> Checkpoint::open(const std::string& folder) {
  Checkpoint checkpoint;
  checkpoint.folder_ = folder;
  const std::string index_path = fmt::format("{}/{}", folder, kIndexName);
  const std::string single_path = fmt::format("{}/{}", folder, kSingleName);
  std::map<std::string, std::string> index;
  std::set<std::string> names;
  if (file_exists(index_path)) {
    const std::string text = TRY(read_file(index_path, kMaxIndexBytes));
    index = TRY(parse_safetensors_index(text, index_path));
    for (const auto& [tensor, file] : index) names.insert(file);
  } else if (file_exists(single_path)) {
    names.emplace(kSingleName);
  } else {
    return make_error(ErrorCode::kNotFound, "{}: expected a folder with {} or {}", folder, kIndexName, kSingleName);
  }
  ProblemList problems;
  for (const std::string& name : names) checkpoint.add_file(name, problems);
  // Without all files most of the index would only repeat that.
  if (problems.empty()) {
    for (const auto& [tensor, file] : index) {
      if (checkpoint.find(plain_name(tensor)) == nullptr) {
        problems.add("{} is not in {}, where {} puts it", quoted_name(tensor), file, kIndexName);
      }
    }
  }
  TRY(problems.to_result(ErrorCode::kCorrupt, folder));
  return checkpoint;
}

}  // namespace ds4
