#include "runtime/cache_probe.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <x86intrin.h>

namespace bnorm::runtime {
namespace {

using Probes = std::span<const CacheProbe, kCacheProbes>;

void read_byte(const char* address) { static_cast<void>(*static_cast<const volatile char*>(address)); }

std::uint64_t ticks_of(Probes probes) {
    for (const CacheProbe& probe : probes) {
        read_byte(probe.neighbour);
    }
    _mm_lfence();
    const std::uint64_t start = __rdtsc();
    for (const CacheProbe& probe : probes) {
        read_byte(probe.line);
    }
    _mm_lfence(); // until all have come; RDTSCP would do the same, but not on every CPU that has SSE2
    return __rdtsc() - start;
}

void evict(Probes probes) {
    for (const CacheProbe& probe : probes) {
        _mm_clflush(probe.line);
        _mm_clflush(probe.neighbour);
    }
    _mm_mfence();
}

// A quarter of the times of lines from memory is below it: interruptions only make times longer, and so do lines of one
// bank of memory, which is why each time is that of other lines.
std::uint64_t ticks_of_memory() {
    constexpr std::size_t kPageBytes = 4096;
    constexpr std::size_t kLineBytes = 64;
    constexpr std::size_t kLinesOfHalfPage = kPageBytes / 2 / kLineBytes;
    alignas(kPageBytes) std::array<char, kCacheProbes * kPageBytes> pages{};
    std::array<CacheProbe, kCacheProbes> probes{};
    std::array<std::uint64_t, 33> ticks{};
    for (std::size_t time = 0; time < ticks.size(); ++time) {
        for (std::size_t page = 0; page < kCacheProbes; ++page) {
            const std::size_t index = (5 * time + 9 * page) % kLinesOfHalfPage;
            const char* line = pages.data() + page * kPageBytes + index * kLineBytes;
            probes[page] = {line, line + kPageBytes / 2};
        }
        evict(probes);
        ticks[time] = ticks_of(probes);
    }
    const auto quarter = ticks.begin() + ticks.size() / 4;
    std::nth_element(ticks.begin(), quarter, ticks.end());
    return *quarter;
}

} // namespace

// Measured, not written down: of the ticks that half of all reads from memory take on one machine, a far cache takes as
// many on another. In shares of what ticks_of_memory returns, the last level took a third on AMD and, where it is
// farther away, on one of Intel's servers, 45 to 92 % (nine of ten processes), the median from memory 102 % and more.
std::uint64_t measure_most_ticks_of_caches() { return ticks_of_memory() * 7 / 8; }

std::uint64_t most_ticks_of_caches() {
    static const std::uint64_t most = measure_most_ticks_of_caches();
    return most;
}

bool reads_from_cache(Probes probes, std::uint64_t most_ticks) { return ticks_of(probes) <= most_ticks; }

} // namespace bnorm::runtime
