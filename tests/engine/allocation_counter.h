#pragma once

// Counts what the whole program takes from operator new, which allocation_counter.cc replaces: for tests that a path
// allocates nothing. Sanitizers bring an operator of their own, so their builds have no counter. All threads count.

#include <cstdint>

namespace ds4::test {

#ifndef DS4_SANITIZED
void start_counting_allocations();
// How many there were since the start.
int64_t stop_counting_allocations();
#endif

}  // namespace ds4::test
