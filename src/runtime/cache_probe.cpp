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

// A quarter of the times of lines from memory is below it; interruptions only make times longer.
std::uint64_t ticks_of_memory() {
    constexpr std::size_t kPageBytes = 4096;
    alignas(kPageBytes) std::array<char, kCacheProbes * kPageBytes> pages{};
    std::array<CacheProbe, kCacheProbes> probes{};
    for (std::size_t i = 0; i < kCacheProbes; ++i) {
        const char* line = pages.data() + i * kPageBytes + kPageBytes / 8;
        probes[i] = {line, line + kPageBytes / 2};
    }
    std::array<std::uint64_t, 33> ticks{};
    for (std::uint64_t& each : ticks) {
        evict(probes);
        each = ticks_of(probes);
    }
    const auto quarter = ticks.begin() + ticks.size() / 4;
    std::nth_element(ticks.begin(), quarter, ticks.end());
    return *quarter;
}

// Measured on this machine, not written down: between two machines with the same CPU, memory differs by more than it
// differs from a far cache on one of them. Of that quarter's time (100 %), caches have taken at most 30 % on AMD, and
// on one of Intel's servers, whose last level is farther away, 40 to 75 %; nine of ten times of memory are above 85 %.
std::uint64_t most_ticks_of_caches() {
    static const std::uint64_t most = ticks_of_memory() * 4 / 5;
    return most;
}

} // namespace

bool reads_from_cache(Probes probes) { return ticks_of(probes) <= most_ticks_of_caches(); }

} // namespace bnorm::runtime
