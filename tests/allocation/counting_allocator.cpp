#include "counting_allocator.hpp"

#include <atomic>
#include <cerrno>
#include <cstddef>

// glibc's own names of the functions that are replaced here, and parameters named otherwise than its headers do.
// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name)
#ifdef __clang__
#pragma clang diagnostic ignored "-Wreserved-identifier"
#endif
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* old, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* memory);
}

namespace tests {
namespace {

std::atomic<long> count{0};
std::atomic<long> failing{0}; // the value of count at which to fail

bool refuse() {
    const long now = count.fetch_add(1) + 1;
    return now == failing.load();
}

} // namespace

long allocations() { return count.load(); }
void fail_allocation(long k) { failing.store(k == 0 ? 0 : count.load() + k); }
bool allocation_has_failed() { return failing.load() != 0 && count.load() >= failing.load(); }

} // namespace tests

extern "C" {

void* malloc(std::size_t size) { return tests::refuse() ? nullptr : __libc_malloc(size); }
void* calloc(std::size_t n, std::size_t size) { return tests::refuse() ? nullptr : __libc_calloc(n, size); }
void* realloc(void* old, std::size_t size) { return tests::refuse() ? nullptr : __libc_realloc(old, size); }
void* memalign(std::size_t alignment, std::size_t size) {
    return tests::refuse() ? nullptr : __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
    void* result = memalign(alignment, size);
    if (result == nullptr) {
        return ENOMEM;
    }
    *memory = result;
    return 0;
}
void free(void* memory) { __libc_free(memory); }
}
// NOLINTEND(readability-inconsistent-declaration-parameter-name)
