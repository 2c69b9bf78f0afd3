#include "runtime/cache_probe.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <x86intrin.h>

#include "runtime/workspace.hpp"

namespace bnorm::runtime {

using Probes = std::span<const CacheProbe, kCacheProbes>;

namespace {

void read_byte(const char* address) { static_cast<void>(*static_cast<const volatile char*>(address)); }

} // namespace

std::uint64_t ticks_to_read(std::span<const char* const, kCacheProbes> lines) {
    _mm_lfence();
    const std::uint64_t start = __rdtsc();
    for (const char* line : lines) {
        read_byte(line);
    }
    _mm_lfence(); // until all have come; RDTSCP would do the same, but not on every CPU that has SSE2
    return __rdtsc() - start;
}

namespace {

std::uint64_t ticks_of(Probes probes) {
    std::array<const char*, kCacheProbes> lines{};
    for (std::size_t i = 0; i < kCacheProbes; ++i) {
        lines[i] = probes[i].line;
        read_byte(probes[i].neighbour);
    }
    return ticks_to_read(lines);
}

void evict(Probes probes) {
    for (const CacheProbe& probe : probes) {
        _mm_clflush(probe.line);
        _mm_clflush(probe.neighbour);
    }
    _mm_mfence();
}

constexpr std::size_t kPageBytes = 4096;

struct alignas(kPageBytes) Page {
    std::array<char, kPageBytes> bytes;
};

constexpr std::size_t kPages = 16;
using Pages = std::span<const Page, kPages>;

// No two of a time are of the same page, and what hardware fetches along with one time's lines is not of the next
// one's pages: 3*i and 3*i + 5 agree for no two i (modulo 16).
std::array<CacheProbe, kCacheProbes> lines_of_time(Pages pages, std::size_t time) {
    constexpr std::size_t kLinesOfHalfPage = kPageBytes / 2 / kCacheLine;
    std::array<CacheProbe, kCacheProbes> probes{};
    for (std::size_t i = 0; i < kCacheProbes; ++i) {
        const std::size_t line = (5 * time + 9 * i) % kLinesOfHalfPage;
        const char* address = pages[(5 * time + 3 * i) % kPages].bytes.data() + line * kCacheLine;
        probes[i] = {address, address + kPageBytes / 2};
    }
    return probes;
}

void evict(Pages pages) {
    for (const Page& page : pages) {
        for (std::size_t byte = 0; byte < kPageBytes; byte += kCacheLine) {
            _mm_clflush(page.bytes.data() + byte);
        }
    }
    _mm_mfence();
}

// A quarter of the times of lines from memory is below it: interruptions only make times longer, and so do lines of one
// bank of memory, which is why each time is that of other lines. Those are as a tensor's are: not written to memory
// just before they are read, nor evicted in that moment.
std::uint64_t ticks_of_memory(Pages pages) {
    std::array<std::uint64_t, 33> ticks{};
    evict(pages);
    for (std::size_t time = 0; time < ticks.size(); ++time) {
        evict(lines_of_time(pages, time + 1));
        ticks[time] = ticks_of(lines_of_time(pages, time));
    }
    const auto quarter = ticks.begin() + ticks.size() / 4;
    std::nth_element(ticks.begin(), quarter, ticks.end());
    return *quarter;
}

} // namespace

// Measured, not written down: of the ticks that half of all reads from memory take on one machine, a far cache takes as
// many on another. In shares of what ticks_of_memory returns, the last level took a third on AMD and, where it is
// farther away, on one of Intel's servers, 45 to 92 % (nine of ten processes), the median from memory 102 % and more.
std::uint64_t measure_most_ticks_of_caches() {
    const std::unique_ptr<Page[]> pages(new (std::nothrow) Page[kPages]()); // written: each in memory of its own
    if (pages == nullptr) {
        return std::numeric_limits<std::uint64_t>::max();
    }
    return ticks_of_memory(Pages(pages.get(), kPages)) * 7 / 8;
}

std::uint64_t most_ticks_of_caches() {
    static const std::uint64_t most = measure_most_ticks_of_caches();
    return most;
}

bool reads_from_cache(Probes probes, std::uint64_t most_ticks) { return ticks_of(probes) <= most_ticks; }

} // namespace bnorm::runtime
