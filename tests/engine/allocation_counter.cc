#include "engine/allocation_counter.h"

#include <atomic>
#include <cstdlib>
#include <new>

#ifndef DS4_SANITIZED

namespace {

std::atomic<bool> is_counting = false;
std::atomic<int64_t> n_allocations = 0;

void* counted(void* memory) {
  if (is_counting.load(std::memory_order_relaxed)) n_allocations.fetch_add(1, std::memory_order_relaxed);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

namespace ds4::test {

void start_counting_allocations() {
  n_allocations = 0;
  is_counting = true;
}

int64_t stop_counting_allocations() {
  is_counting = false;
  return n_allocations;
}

}  // namespace ds4::test

// The library's other forms of new and delete end in these.
void* operator new(size_t size_bytes) { return counted(std::malloc(size_bytes == 0 ? 1 : size_bytes)); }
void* operator new(size_t size_bytes, std::align_val_t alignment) {
  const auto align = static_cast<size_t>(alignment);
  return counted(std::aligned_alloc(align, (size_bytes + align - 1) / align * align));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

#endif
