#include "quant/imatrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/ranges.h>

#include "base/bytes.h"
#include "base/file.h"
#include "gguf/reader.h"
#include "gguf/writer.h"

namespace ds4 {

namespace {

constexpr std::string_view kSumsSuffix = ".in_sum2";
constexpr std::string_view kCountsSuffix = ".counts";
constexpr std::string_view kGgufKind = "imatrix";
constexpr std::string_view kKindKey = "general.type";
constexpr std::string_view kDatasetsKey = "imatrix.datasets";
constexpr std::string_view kChunkCountKey = "imatrix.chunk_count";
constexpr std::string_view kChunkSizeKey = "imatrix.chunk_size";

bool is_statistic(double value) { return std::isfinite(value) && value >= 0; }

// Of slice `slice`; 1 where nothing was seen, as the legacy form has it.
float mean_of(const ImatrixEntry& entry, size_t slice, size_t index) {
  if (entry.counts.empty()) return entry.sums[index];
  const double count = entry.counts[slice];
  return count > 0 ? static_cast<float>(entry.sums[index] / count) : 1.0f;
}

std::vector<float> means_of(const ImatrixEntry& entry) {
  std::vector<float> means(entry.sums.size());
  const size_t n_columns = entry.counts.empty() ? means.size() : means.size() / entry.counts.size();
  for (size_t i = 0; i < means.size(); ++i) means[i] = mean_of(entry, i / n_columns, i);
  return means;
}

// Block-diagonal matrices: one slice with the sums of all.
ImatrixEntry joined(const ImatrixEntry& entry) {
  const size_t n_columns = entry.sums.size() / entry.counts.size();
  ImatrixEntry one{entry.tensor, std::vector<float>(n_columns), {0.0}};
  for (size_t i = 0; i < entry.sums.size(); ++i) one.sums[i % n_columns] += entry.sums[i];
  for (const double count : entry.counts) one.counts[0] += count;
  return one;
}

std::vector<float> read_floats(std::span<const std::byte> bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

// Returns which value cannot be a mean of squares or a number of inputs.
template <class Values>
std::optional<size_t> find_bad_value(const Values& values) {
  const auto bad = std::ranges::find_if_not(values, [](double value) { return is_statistic(value); });
  if (bad == values.end()) return std::nullopt;
  return static_cast<size_t>(bad - values.begin());
}

void check_values(const ImatrixEntry& entry, ProblemList& problems) {
  if (const auto i = find_bad_value(entry.sums)) {
    problems.add("{}: value {}: expected a finite number of at least 0, found {}", quoted_name(entry.tensor), *i,
                 entry.sums[*i]);
  }
  if (const auto i = find_bad_value(entry.counts)) {
    problems.add("{}: count {}: expected a finite number of at least 0, found {}", quoted_name(entry.tensor), *i,
                 entry.counts[*i]);
  }
}

// An F32 tensor's values, or nothing and a problem.
std::vector<float> float_tensor(const GgufFile& file, const TensorInfo& info, ProblemList& problems) {
  if (info.type != DType::kF32) {
    problems.add("tensor {}: expected type F32", quoted_name(info.name));
    return {};
  }
  const TensorView view = file.view(info);
  return read_floats({view.data<const std::byte>(), info.size_bytes});
}

void add_gguf_entry(const GgufFile& file, const TensorInfo& sums, ProblemList& problems, Imatrix& imatrix) {
  const std::string tensor = sums.name.substr(0, sums.name.size() - kSumsSuffix.size());
  const TensorInfo* counts = file.find(tensor + std::string(kCountsSuffix));
  if (counts == nullptr) {
    problems.add("tensor {} has no counts beside it", quoted_name(sums.name));
    return;
  }
  ImatrixEntry entry{tensor, float_tensor(file, sums, problems), {}};
  const std::vector<float> count_values = float_tensor(file, *counts, problems);
  entry.counts.assign(count_values.begin(), count_values.end());
  if (entry.sums.empty() || entry.counts.empty()) return;
  if (entry.sums.size() % entry.counts.size() != 0) {
    problems.add("tensor {}: {} values for {} slices", quoted_name(sums.name), entry.sums.size(), entry.counts.size());
    return;
  }
  check_values(entry, problems);
  imatrix.entries.push_back(std::move(entry));
}

Result<Imatrix> from_gguf(const GgufFile& file) {
  const Metadata& metadata = file.metadata();
  const auto kind = metadata.get_string(kKindKey);
  if (!kind.ok() || kind.value() != kGgufKind) {
    return make_error(ErrorCode::kCorrupt, "{}: no importance matrix: key {} is not '{}'", file.path(), kKindKey,
                      kGgufKind);
  }
  Imatrix imatrix;
  ProblemList problems;
  if (metadata.contains(kDatasetsKey)) {
    const auto datasets = metadata.get_string_array(kDatasetsKey);
    if (datasets.ok()) imatrix.datasets.assign(datasets.value().begin(), datasets.value().end());
    if (!datasets.ok()) problems.add("{}", datasets.error().message);
  }
  for (const auto& [key, member] :
       {std::pair(kChunkCountKey, &Imatrix::n_chunks), std::pair(kChunkSizeKey, &Imatrix::chunk_tokens)}) {
    if (!metadata.contains(key)) continue;
    const auto value = metadata.get_int(key);
    if (value.ok() && value.value() >= 0 && value.value() <= UINT32_MAX) {
      imatrix.*member = value.value();
    } else {
      problems.add("key {}: expected an integer from 0 to {}", key, UINT32_MAX);
    }
  }
  for (const TensorInfo& info : file.tensors()) {
    if (info.name.ends_with(kSumsSuffix)) add_gguf_entry(file, info, problems, imatrix);
  }
  TRY(problems.to_result(ErrorCode::kCorrupt, file.path()));
  return imatrix;
}

Result<ImatrixEntry> read_legacy_entry(ByteReader& reader, std::string_view path) {
  const auto name_bytes = TRY(reader.read<int32_t>("length of a name"));
  if (name_bytes <= 0) {
    return make_error(ErrorCode::kCorrupt, "{}: byte {}: expected the length of a name, found {}", path,
                      reader.offset() - sizeof(int32_t), name_bytes);
  }
  ImatrixEntry entry;
  entry.tensor = TRY(reader.read_text(static_cast<uint64_t>(name_bytes), "name"));
  const auto n_calls = TRY(reader.read<int32_t>("number of calls"));
  const auto n_values = TRY(reader.read<int32_t>("number of values"));
  if (n_calls <= 0 || n_values <= 0) {
    return make_error(ErrorCode::kCorrupt, "{}: {}: expected calls and values, found {} and {}", path,
                      quoted_name(entry.tensor), n_calls, n_values);
  }
  entry.sums = read_floats(TRY(reader.read_span(static_cast<uint64_t>(n_values) * sizeof(float), "values")));
  for (float& value : entry.sums) value /= static_cast<float>(n_calls);
  return entry;
}

Result<Imatrix> from_legacy(std::span<const std::byte> bytes, const std::string& path) {
  ByteReader reader(bytes, path);
  const auto n_entries = TRY(reader.read<int32_t>("number of entries"));
  if (n_entries <= 0) {
    return make_error(ErrorCode::kCorrupt, "{}: no importance matrix: expected a number of entries, found {}", path,
                      n_entries);
  }
  Imatrix imatrix;
  ProblemList problems;
  for (int32_t i = 0; i < n_entries; ++i) {
    imatrix.entries.push_back(TRY(read_legacy_entry(reader, path)));
    check_values(imatrix.entries.back(), problems);
  }
  TRY(problems.to_result(ErrorCode::kCorrupt, path));
  if (reader.remaining() == 0) return imatrix;  // older writers end here
  imatrix.n_chunks = std::max(0, TRY(reader.read<int32_t>("number of chunks")));
  const auto dataset_bytes = TRY(reader.read<int32_t>("length of the dataset's name"));
  if (dataset_bytes < 0 || static_cast<size_t>(dataset_bytes) != reader.remaining()) {
    return make_error(ErrorCode::kCorrupt, "{}: {} bytes after the length of the dataset's name, which says {}", path,
                      reader.remaining(), dataset_bytes);
  }
  if (dataset_bytes > 0) {
    imatrix.datasets.emplace_back(TRY(reader.read_text(static_cast<uint64_t>(dataset_bytes), "dataset")));
  }
  return imatrix;
}

bool is_gguf(std::span<const std::byte> bytes) {
  uint32_t magic = 0;
  if (bytes.size() < sizeof(magic)) return false;
  std::memcpy(&magic, bytes.data(), sizeof(magic));
  return magic == kGgufMagic;
}

std::string joined_datasets(const Imatrix& imatrix) { return fmt::format("{}", fmt::join(imatrix.datasets, ", ")); }

}  // namespace

std::span<const float> ColumnImportance::of_row(int64_t row) const {
  if (means.empty()) return {};
  const int64_t slice = row / rows_per_slice;
  return std::span(means).subspan(static_cast<size_t>(slice * n_columns), static_cast<size_t>(n_columns));
}

const ImatrixEntry* Imatrix::find(std::string_view tensor) const {
  const auto found = std::ranges::find(entries, tensor, &ImatrixEntry::tensor);
  return found == entries.end() ? nullptr : &*found;
}

bool Imatrix::has_counts() const {
  return std::ranges::none_of(entries, [](const ImatrixEntry& entry) { return entry.counts.empty(); });
}

Result<ColumnImportance> Imatrix::importance(std::string_view tensor, const Shape& shape) const {
  const ImatrixEntry* entry = find(tensor);
  if (entry == nullptr) return ColumnImportance{};
  const int64_t n_columns = shape.rank() == 0 ? 0 : shape.back();
  const auto n_values = static_cast<int64_t>(entry->sums.size());
  const int64_t n_rows = n_columns == 0 ? 0 : shape.elements() / n_columns;
  const int64_t n_slices = n_columns == 0 ? 0 : n_values / n_columns;
  const bool has_right_slices = n_slices > 0 && n_slices * n_columns == n_values && n_rows % n_slices == 0 &&
                                (shape.rank() < 3 || n_slices == 1 || n_slices == shape[0]) &&
                                (entry->counts.empty() || std::ssize(entry->counts) == n_slices);
  if (!has_right_slices) {
    return make_error(ErrorCode::kInvalidArgument, "importance of {}: {} values do not fit a tensor of shape {}",
                      quoted_name(tensor), n_values, shape.to_string());
  }
  return ColumnImportance{n_columns, n_rows / n_slices, means_of(*entry)};
}

Result<void> Imatrix::merge(const Imatrix& other) {
  if (!has_counts() || !other.has_counts()) {
    return make_error(ErrorCode::kInvalidArgument, "means without counts, as .dat files have them, cannot be merged");
  }
  ProblemList problems;
  for (const ImatrixEntry& entry : other.entries) {
    const ImatrixEntry* mine = find(entry.tensor);
    if (mine == nullptr) continue;
    if (mine->sums.size() != entry.sums.size() || mine->counts.size() != entry.counts.size()) {
      problems.add("{}: {} values in {} slices, the other has {} in {}", quoted_name(entry.tensor), mine->sums.size(),
                   mine->counts.size(), entry.sums.size(), entry.counts.size());
    }
  }
  TRY(problems.to_result(ErrorCode::kInvalidArgument, "merge"));
  for (const ImatrixEntry& entry : other.entries) {
    const auto mine = std::ranges::find(entries, entry.tensor, &ImatrixEntry::tensor);
    if (mine == entries.end()) {
      entries.push_back(entry);
      continue;
    }
    std::ranges::transform(mine->sums, entry.sums, mine->sums.begin(), std::plus<>());
    std::ranges::transform(mine->counts, entry.counts, mine->counts.begin(), std::plus<>());
  }
  for (const std::string& dataset : other.datasets) {
    if (std::ranges::find(datasets, dataset) == datasets.end()) datasets.push_back(dataset);
  }
  n_chunks += other.n_chunks;
  if (chunk_tokens != other.chunk_tokens) chunk_tokens = 0;
  return {};
}

Result<Imatrix> read_imatrix(const std::string& path) {
  const std::unique_ptr<MappedFile> file = TRY(MappedFile::open(path));
  if (!is_gguf(file->bytes())) return from_legacy(file->bytes(), path);
  return from_gguf(*TRY(GgufFile::open(path)));
}

Result<Imatrix> parse_imatrix(std::span<const std::byte> bytes, const std::string& name) {
  if (!is_gguf(bytes)) return from_legacy(bytes, name);
  return from_gguf(*TRY(GgufFile::from_bytes(bytes, name)));
}

Result<void> write_imatrix(const Imatrix& imatrix, const std::string& path) {
  CHECK(imatrix.has_counts(), "means without counts");
  GgufWriter writer = TRY(GgufWriter::create(path));
  writer.metadata().set_string(kKindKey, kGgufKind);
  writer.metadata().set_string_array(kDatasetsKey, imatrix.datasets);
  writer.metadata().set_u32(kChunkCountKey, static_cast<uint32_t>(imatrix.n_chunks));
  writer.metadata().set_u32(kChunkSizeKey, static_cast<uint32_t>(imatrix.chunk_tokens));
  for (const ImatrixEntry& entry : imatrix.entries) {
    const auto n_slices = std::ssize(entry.counts);
    TRY(writer.add_tensor(entry.tensor + std::string(kSumsSuffix), DType::kF32,
                          {n_slices, std::ssize(entry.sums) / n_slices}));
    TRY(writer.add_tensor(entry.tensor + std::string(kCountsSuffix), DType::kF32, {n_slices, 1}));
  }
  for (const ImatrixEntry& entry : imatrix.entries) {
    const std::vector<float> counts(entry.counts.begin(), entry.counts.end());
    TRY(writer.write_tensor_data(std::as_bytes(std::span(entry.sums))));
    TRY(writer.write_tensor_data(std::as_bytes(std::span(counts))));
  }
  return writer.finish();
}

Result<void> write_legacy_imatrix(const Imatrix& imatrix, const std::string& path) {
  CHECK(imatrix.has_counts(), "means without counts");
  AtomicFileWriter file = TRY(AtomicFileWriter::create(path));
  ByteWriter out;
  out.write(static_cast<int32_t>(imatrix.entries.size()));
  for (const ImatrixEntry& entry : imatrix.entries) {
    const bool has_experts = entry.tensor.find("_exps.") != std::string::npos;
    const std::vector<float> means = means_of(has_experts ? entry : joined(entry));
    out.write(static_cast<int32_t>(entry.tensor.size()));
    out.write_text(entry.tensor);
    out.write(int32_t{1});
    out.write(static_cast<int32_t>(means.size()));
    TRY(file.append(out.bytes()));
    TRY(file.append(std::as_bytes(std::span(means))));
    out = {};
  }
  const std::string datasets = joined_datasets(imatrix);
  out.write(static_cast<int32_t>(imatrix.n_chunks));
  out.write(static_cast<int32_t>(datasets.size()));
  out.write_text(datasets);
  TRY(file.append(out.bytes()));
  return file.commit();
}

}  // namespace ds4
