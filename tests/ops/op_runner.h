#pragma once

// Places the arrays of an op case on a backend, runs the op, and reads everything back. Arrays lie in one allocation
// with guards between them; damage() tells when the op wrote to a guard or to an input.

#include <memory>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "ops/cases.h"

namespace ds4::test {

// Bytes in host memory, as a mapped file would hold them.
class BytesBuffer final : public Buffer {
 public:
  explicit BytesBuffer(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}
  std::byte* host_data() const override { return const_cast<std::byte*>(bytes_.data()); }
  uint64_t size_bytes() const override { return bytes_.size(); }

 private:
  std::vector<std::byte> bytes_;
};

enum class OpForm : uint8_t { kFused, kComposed };
// kParts: the batch in the smallest parts whose results must not depend on the rest of the batch.
enum class BatchCut : uint8_t { kWhole, kParts };

class PlacedOp {
 public:
  PlacedOp(Backend& backend, const OpData& data);

  void run(OpForm form = OpForm::kFused, BatchCut cut = BatchCut::kWhole);
  // Of data.arrays[i], after the op.
  std::vector<std::byte> array(size_t i) const;
  std::string damage() const;

 private:
  void run_op(OpForm form, const OpViews& views);

  Backend& backend_;
  const OpData& data_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  TensorView all_;
  std::vector<TensorView> placed_;
  OpViews views_;
};

// Why the backend cannot run the case, or empty.
std::string unsupported(const Backend& backend, const OpData& data);

// Differences between two runs of a case as its arrays compare (or bitwise), each with the array's name.
enum class Comparing : uint8_t { kAsDeclared, kBitwise };
std::string differences(const OpData& data, const PlacedOp& expected, const PlacedOp& actual, Comparing comparing);

}  // namespace ds4::test
