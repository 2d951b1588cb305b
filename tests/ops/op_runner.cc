#include "ops/op_runner.h"

#include <algorithm>

namespace ds4::test {

namespace {

constexpr uint64_t kGuardBytes = 64;
constexpr std::byte kGuard{0xFF};

TensorView raw(const Buffer& buffer, uint64_t offset_bytes, uint64_t size_bytes) {
  return {&buffer, offset_bytes, DType::kU8, {static_cast<int64_t>(size_bytes)}};
}

}  // namespace

PlacedOp::PlacedOp(Backend& backend, const OpData& data) : backend_(backend), data_(data) {
  uint64_t end = kGuardBytes;
  for (const OpArray& array : data.arrays) {
    TensorView view{nullptr, end, array.type, array.shape};
    CHECK(view.size_bytes() == array.bytes.size(), "{} has {} bytes", array.name, array.bytes.size());
    if (!array.weight_use) end += (array.bytes.size() + 2 * kGuardBytes - 1) / kGuardBytes * kGuardBytes;
    placed_.push_back(view);
  }
  buffers_.push_back(backend.allocate(end).take_value());
  all_ = raw(*buffers_.front(), 0, end);
  std::vector<std::byte> bytes(end, kGuard);
  for (size_t i = 0; i < placed_.size(); ++i) {
    const OpArray& array = data.arrays[i];
    TensorView& view = placed_[i];
    if (array.weight_use) {
      buffers_.push_back(std::make_unique<BytesBuffer>(array.bytes));
      view = backend.place_weight({buffers_.back().get(), 0, array.type, array.shape}).value();
    } else {
      view.buffer = all_.buffer;
      std::ranges::copy(array.bytes, bytes.begin() + static_cast<std::ptrdiff_t>(view.offset_bytes));
    }
    views_.add(array, view);
  }
  views_.set_spans(data.spans);
  backend.upload(bytes, all_);
}

void PlacedOp::run_op(OpForm form, const OpViews& views) {
  form == OpForm::kFused ? data_.run(backend_.ops(), views) : data_.run_composed(backend_.ops(), views);
  const Result<void> finished = backend_.finish();
  CHECK(finished.ok(), "{}", finished.error().message);
}

void PlacedOp::run(OpForm form, BatchCut cut) {
  if (cut == BatchCut::kWhole) return run_op(form, views_);
  if (data_.splits_by_span) {
    for (const SequenceSpan& span : data_.spans) run_op(form, views_.rows(span.first_row, span.n_rows));
    return;
  }
  for (int32_t row = 0; row < data_.n_rows; ++row) run_op(form, views_.rows(row, 1));
}

std::vector<std::byte> PlacedOp::array(size_t i) const {
  if (data_.arrays[i].weight_use) return data_.arrays[i].bytes;
  std::vector<std::byte> bytes(data_.arrays[i].bytes.size());
  backend_.download(placed_[i], bytes);
  return bytes;
}

std::string PlacedOp::damage() const {
  std::vector<std::byte> bytes(all_.size_bytes());
  backend_.download(all_, bytes);
  for (size_t i = 0; i < placed_.size(); ++i) {
    const OpArray& array = data_.arrays[i];
    if (array.weight_use) continue;
    const std::span part(bytes.data() + placed_[i].offset_bytes, array.bytes.size());
    if (array.use == ArrayUse::kInput && !std::ranges::equal(part, array.bytes)) return array.name + " was written";
    std::ranges::fill(part, kGuard);
  }
  const auto found = std::ranges::find_if(bytes, [](std::byte b) { return b != kGuard; });
  if (found == bytes.end()) return {};
  const auto offset = static_cast<uint64_t>(found - bytes.begin());
  for (size_t i = placed_.size(); i-- > 0;) {
    if (!data_.arrays[i].weight_use && placed_[i].offset_bytes <= offset) {
      return fmt::format("byte {} of {} [{} bytes] was written", offset - placed_[i].offset_bytes, data_.arrays[i].name,
                         data_.arrays[i].bytes.size());
    }
  }
  return "memory before the first array was written";
}

std::string unsupported(const Backend& backend, const OpData& data) {
  for (const OpArray& array : data.arrays) {
    if (array.weight_use && !backend.supports(*array.weight_use, array.type))
      return fmt::format("{} does not take {} for {}", backend.name(), dtype_name(array.type), array.name);
  }
  return {};
}

std::string differences(const OpData& data, const PlacedOp& expected, const PlacedOp& actual, Comparing comparing) {
  std::string text;
  for (size_t i = 0; i < data.arrays.size(); ++i) {
    const OpArray& array = data.arrays[i];
    if (array.use != ArrayUse::kOutput && array.use != ArrayUse::kInOut) continue;
    const std::vector<std::byte> want = expected.array(i);
    const std::vector<std::byte> got = actual.array(i);
    const bool is_declared = comparing == Comparing::kAsDeclared && array.compare;
    const std::string difference = is_declared ? array.compare(data, want, got) : compare_bytes(array, want, got);
    if (!difference.empty()) text += fmt::format("{}: {}\n", array.name, difference);
  }
  return text;
}

}  // namespace ds4::test
