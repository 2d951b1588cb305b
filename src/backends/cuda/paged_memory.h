#pragma once

// One range of device addresses whose pages lie on the card or in the process's pinned memory, page by page: kernels
// read both the same way, the second over the bus. Two pages can change places without a change of address, so neither
// kernels nor recorded steps know where a page lies. Used by one thread.

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "base/error.h"

namespace ds4::cuda {

class PagedMemory {
 public:
  // Smallest unit of placement, of every device so far; create() checks.
  static constexpr uint64_t kPageBytes = 2U << 20;

  // Whether the device and its driver can do this.
  static bool is_supported();
  // Page p lies on the card where on_card[p]. What was in the memory is not defined. Error: kOutOfMemory for the card
  // or for the machine, kUnsupported.
  static Result<std::unique_ptr<PagedMemory>> create(const std::vector<bool>& on_card);
  ~PagedMemory();
  PagedMemory(const PagedMemory&) = delete;
  PagedMemory& operator=(const PagedMemory&) = delete;

  std::byte* device_data() const { return reinterpret_cast<std::byte*>(address_); }
  uint64_t size_bytes() const { return pages_.size() * kPageBytes; }
  bool is_on_card(size_t page) const { return pages_[page].on_card; }

  // A page of the card and one of the machine exchange their memory; both keep address and contents. `spare` is device
  // memory of kPageBytes. Precondition: nothing that uses them is enqueued any more. After an error the memory must not
  // be used again.
  Result<void> exchange(size_t card_page, size_t machine_page, std::byte* spare, cudaStream_t stream);

 private:
  struct Page {
    CUmemGenericAllocationHandle memory = 0;
    bool on_card = false;
    bool is_mapped = false;
  };
  PagedMemory() = default;
  CUdeviceptr address_of(size_t page) const { return address_ + page * kPageBytes; }
  Result<void> map(size_t page);
  Result<void> make_reachable(size_t first_page, size_t n_pages);

  CUdeviceptr address_ = 0;
  int device_ = 0;
  std::vector<Page> pages_;
};

}  // namespace ds4::cuda
