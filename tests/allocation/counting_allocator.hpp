// A malloc that counts, and fails on request: this program's own replaces the C library's, for the libraries it loads
// too.
#ifndef BNORM_TESTS_ALLOCATION_COUNTING_ALLOCATOR_HPP
#define BNORM_TESTS_ALLOCATION_COUNTING_ALLOCATOR_HPP

namespace tests {

// Allocations of all threads since the program started.
long allocations();

// The k-th allocation from now on, of any thread, fails (k >= 1); 0: none does.
void fail_allocation(long k);

// Whether the one that fail_allocation announced has come.
bool allocation_has_failed();

} // namespace tests

#endif
