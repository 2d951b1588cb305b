#include "backends/cuda/paged_memory.h"

#include <utility>

#include "backends/cuda/device_memory.h"

namespace ds4::cuda {
namespace {

// The driver's functions, found at run time: nothing links the driver, which machines without a device lack.
struct Driver {
  decltype(&cuGetErrorString) get_error_string = nullptr;
  decltype(&cuDeviceGetAttribute) get_attribute = nullptr;
  decltype(&cuMemGetAllocationGranularity) get_granularity = nullptr;
  decltype(&cuMemCreate) create = nullptr;
  decltype(&cuMemRelease) release = nullptr;
  decltype(&cuMemAddressReserve) reserve = nullptr;
  decltype(&cuMemAddressFree) free = nullptr;
  decltype(&cuMemMap) map = nullptr;
  decltype(&cuMemUnmap) unmap = nullptr;
  decltype(&cuMemSetAccess) set_access = nullptr;
  bool is_complete = true;

  template <class Function>
  void find(const char* name, Function& function) {
    constexpr unsigned kSince = 12020;  // placement on a node of the machine
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    if (cudaGetDriverEntryPointByVersion(name, &found, kSince, cudaEnableDefault, &result) != cudaSuccess ||
        result != cudaDriverEntryPointSuccess) {
      (void)cudaGetLastError();
      is_complete = false;
      return;
    }
    function = reinterpret_cast<Function>(found);
  }

  Driver() {
    find("cuGetErrorString", get_error_string);
    find("cuDeviceGetAttribute", get_attribute);
    find("cuMemGetAllocationGranularity", get_granularity);
    find("cuMemCreate", create);
    find("cuMemRelease", release);
    find("cuMemAddressReserve", reserve);
    find("cuMemAddressFree", free);
    find("cuMemMap", map);
    find("cuMemUnmap", unmap);
    find("cuMemSetAccess", set_access);
  }
};

const Driver& driver() {
  static const Driver loaded;
  return loaded;
}

Error driver_error(CUresult result, std::string_view what) {
  const char* text = nullptr;
  (void)driver().get_error_string(result, &text);
  const ErrorCode code = result == CUDA_ERROR_OUT_OF_MEMORY ? ErrorCode::kOutOfMemory : ErrorCode::kInternal;
  return make_error(code, "{}: {}", what, text != nullptr ? text : "unknown error");
}

CUmemAllocationProp properties(int device, bool on_card) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = on_card ? CU_MEM_LOCATION_TYPE_DEVICE : CU_MEM_LOCATION_TYPE_HOST_NUMA;
  properties.location.id = device;
  if (on_card) return properties;
  int node = -1;
  (void)driver().get_attribute(&node, CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID, device);
  properties.location.id = node < 0 ? 0 : node;
  return properties;
}

bool has_page_size(int device, bool on_card) {
  const CUmemAllocationProp wanted = properties(device, on_card);
  size_t granularity = 0;
  return driver().get_granularity(&granularity, &wanted, CU_MEM_ALLOC_GRANULARITY_MINIMUM) == CUDA_SUCCESS &&
         granularity != 0 && PagedMemory::kPageBytes % granularity == 0;
}

}  // namespace

bool PagedMemory::is_supported() {
  int device = 0;
  int manages_both = 0;
  return driver().is_complete && cudaGetDevice(&device) == cudaSuccess &&
         driver().get_attribute(&manages_both, CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
                                device) == CUDA_SUCCESS &&
         manages_both != 0 && has_page_size(device, true) && has_page_size(device, false);
}

Result<std::unique_ptr<PagedMemory>> PagedMemory::create(const std::vector<bool>& on_card) {
  if (!is_supported()) {
    return make_error(
        ErrorCode::kUnsupported,
        "weights in the machine's memory need a driver for CUDA 12.2 or newer that can place pages there");
  }
  std::unique_ptr<PagedMemory> memory(new PagedMemory());
  (void)cudaGetDevice(&memory->device_);
  memory->pages_.resize(on_card.size());
  const uint64_t size_bytes = on_card.size() * kPageBytes;
  if (const CUresult result = driver().reserve(&memory->address_, size_bytes, kPageBytes, 0, 0); result != CUDA_SUCCESS)
    return driver_error(result, fmt::format("{} bytes of device addresses", size_bytes));
  for (size_t page = 0; page < on_card.size(); ++page) {
    Page& own = memory->pages_[page];
    own.on_card = on_card[page];
    const CUmemAllocationProp wanted = properties(memory->device_, own.on_card);
    if (const CUresult result = driver().create(&own.memory, kPageBytes, &wanted, 0); result != CUDA_SUCCESS) {
      return driver_error(result, fmt::format("page {} of {} for weights, {}", page + 1, on_card.size(),
                                              own.on_card ? "on the card" : "in the machine's memory"));
    }
    TRY(memory->map(page));
  }
  TRY(memory->make_reachable(0, on_card.size()));
  return memory;
}

PagedMemory::~PagedMemory() {
  for (size_t page = 0; page < pages_.size(); ++page) {
    if (pages_[page].is_mapped) (void)driver().unmap(address_of(page), kPageBytes);
    if (pages_[page].memory != 0) (void)driver().release(pages_[page].memory);
  }
  if (address_ != 0) (void)driver().free(address_, size_bytes());
}

Result<void> PagedMemory::map(size_t page) {
  if (const CUresult result = driver().map(address_of(page), kPageBytes, 0, pages_[page].memory, 0);
      result != CUDA_SUCCESS)
    return driver_error(result, "mapping a page of weights");
  pages_[page].is_mapped = true;
  return {};
}

Result<void> PagedMemory::make_reachable(size_t first_page, size_t n_pages) {
  if (n_pages == 0) return {};
  CUmemAccessDesc access{};
  access.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device_}};
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  if (const CUresult result = driver().set_access(address_of(first_page), n_pages * kPageBytes, &access, 1);
      result != CUDA_SUCCESS)
    return driver_error(result, "giving the device access to weights");
  return {};
}

Result<void> PagedMemory::exchange(size_t card_page, size_t machine_page, std::byte* spare, cudaStream_t stream) {
  CHECK(pages_[card_page].on_card && !pages_[machine_page].on_card, "pages {} and {}", card_page, machine_page);
  const auto at = [&](size_t page) { return device_data() + page * kPageBytes; };
  const auto copy = [&](std::byte* to, const std::byte* from) {
    return cudaMemcpyAsync(to, from, kPageBytes, cudaMemcpyDefault, stream);
  };
  cudaError_t error = copy(spare, at(card_page));
  if (error == cudaSuccess) error = copy(at(card_page), at(machine_page));
  if (error == cudaSuccess) error = copy(at(machine_page), spare);
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
  if (error != cudaSuccess) return device_error(error, "moving a page of weights");
  for (const size_t page : {card_page, machine_page}) {
    if (const CUresult result = driver().unmap(address_of(page), kPageBytes); result != CUDA_SUCCESS)
      return driver_error(result, "unmapping a page of weights");
    pages_[page].is_mapped = false;
  }
  std::swap(pages_[card_page].memory, pages_[machine_page].memory);
  std::swap(pages_[card_page].on_card, pages_[machine_page].on_card);
  for (const size_t page : {card_page, machine_page}) {
    TRY(map(page));
    TRY(make_reachable(page, 1));
  }
  return {};
}

}  // namespace ds4::cuda
