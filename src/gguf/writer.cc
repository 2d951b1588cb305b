#include "gguf/writer.h"

#include <array>
#include <utility>

#include "base/bytes.h"
#include "gguf/format.h"

namespace ds4 {

namespace {

uint64_t align_up(uint64_t value, uint64_t alignment) { return (value + alignment - 1) / alignment * alignment; }

void write_string(ByteWriter& out, std::string_view text) {
  out.write(uint64_t{text.size()});
  out.write_text(text);
}

void write_pair(ByteWriter& out, const MetadataEntry& entry) {
  write_string(out, entry.key);
  out.write(static_cast<uint32_t>(entry.value.type));
  if (entry.value.type == GgufType::kString) {
    write_string(out, entry.value.bytes);
    return;
  }
  if (entry.value.type == GgufType::kArray) {
    out.write(static_cast<uint32_t>(entry.value.element_type));
    out.write(entry.value.count);
  }
  out.write_text(entry.value.bytes);
}

}  // namespace

Result<void> GgufDirectory::add_tensor(std::string_view name, DType type, const Shape& shape) {
  const auto ggml_type = dtype_to_ggml(type);
  if (!ggml_type) {
    return make_error(ErrorCode::kUnsupported, "tensor {}: GGUF has no type {}", quoted_name(name), dtype_name(type));
  }
  auto size_bytes = tensor_bytes(type, shape);
  if (!size_bytes.ok()) return with_context(size_bytes.take_error(), "tensor " + quoted_name(name));
  if (size_bytes.value() == 0) {
    return make_error(ErrorCode::kInvalidArgument, "tensor {} of shape {} is empty", quoted_name(name),
                      shape.to_string());
  }
  if (!index_.try_emplace(std::string(name), tensors_.size()).second) {
    return make_error(ErrorCode::kInvalidArgument, "tensor {} is added twice", quoted_name(name));
  }
  tensors_.push_back({std::string(name), *ggml_type, shape, size_bytes.value()});
  return {};
}

Result<GgufDirectory::Layout> GgufDirectory::layout() const {
  const uint32_t alignment = TRY(gguf_alignment(metadata_));
  ByteWriter out;
  out.write(kGgufMagic);
  out.write(kGgufVersion);
  out.write(uint64_t{tensors_.size()});
  out.write(uint64_t{metadata_.entries().size()});
  for (const MetadataEntry& entry : metadata_.entries()) write_pair(out, entry);
  Layout layout;
  uint64_t offset_bytes = 0;
  for (const Entry& tensor : tensors_) {
    write_string(out, tensor.name);
    out.write(static_cast<uint32_t>(tensor.shape.rank()));
    for (int axis = tensor.shape.rank() - 1; axis >= 0; --axis) out.write(static_cast<uint64_t>(tensor.shape[axis]));
    out.write(tensor.ggml_type);
    out.write(offset_bytes);
    layout.tensors.push_back({offset_bytes, tensor.size_bytes});
    offset_bytes = align_up(offset_bytes + tensor.size_bytes, alignment);
  }
  layout.header = out.take();
  layout.header.resize(align_up(layout.header.size(), alignment));
  for (Extent& extent : layout.tensors) extent.offset_bytes += layout.header.size();
  layout.file_size_bytes = layout.header.size() + offset_bytes;
  return layout;
}

Result<GgufWriter> GgufWriter::create(const std::string& path) {
  return GgufWriter(TRY(AtomicFileWriter::create(path)));
}

Metadata& GgufWriter::metadata() {
  CHECK(!layout_, "the header is written already");
  return directory_.metadata();
}

Result<void> GgufWriter::add_tensor(std::string_view name, DType type, const Shape& shape) {
  CHECK(!layout_, "the header is written already");
  return directory_.add_tensor(name, type, shape);
}

Result<void> GgufWriter::write_header() {
  layout_ = TRY(directory_.layout());
  return file_.append(layout_->header);
}

Result<void> GgufWriter::pad_to(uint64_t offset_bytes) {
  return file_.append(std::vector<std::byte>(offset_bytes - file_.size_bytes()));
}

Result<void> GgufWriter::write_tensor_data(std::span<const std::byte> bytes) {
  if (!layout_) TRY(write_header());
  const std::vector<GgufDirectory::Extent>& tensors = layout_->tensors;
  CHECK(current_ < tensors.size(), "data for tensor {} of {}", current_ + 1, tensors.size());
  const uint64_t size_bytes = tensors[current_].size_bytes;
  CHECK(bytes.size() <= size_bytes - current_bytes_, "{}: {} bytes after {} of {}", directory_.tensor_name(current_),
        bytes.size(), current_bytes_, size_bytes);
  TRY(file_.append(bytes));
  current_bytes_ += bytes.size();
  if (current_bytes_ < size_bytes) return {};
  ++current_;
  current_bytes_ = 0;
  return pad_to(current_ < tensors.size() ? tensors[current_].offset_bytes : layout_->file_size_bytes);
}

Result<void> GgufWriter::finish() {
  if (!layout_) TRY(write_header());
  CHECK(current_ == layout_->tensors.size(), "finished at tensor {} of {}", current_ + 1, layout_->tensors.size());
  return file_.commit();
}

}  // namespace ds4
