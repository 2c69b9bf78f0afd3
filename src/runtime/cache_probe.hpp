// Whether what is about to be read is in a cache.
#ifndef BNORM_RUNTIME_CACHE_PROBE_HPP
#define BNORM_RUNTIME_CACHE_PROBE_HPP

#include <cstddef>
#include <cstdint>
#include <span>

namespace bnorm::runtime {

struct CacheProbe {
    const char* line;
    // In the same page; read first, so that what is timed is the cache, not the way to the page. The line itself, if
    // there is nothing else: it is then found in cache.
    const char* neighbour;
};

// So many at a time: the more, the more lines of a cache that is far away take as long as one from memory.
constexpr std::size_t kCacheProbes = 4;

// Up to so many ticks of the time stamp counter all lines of a probe are taken to come from caches. It takes some 60 us
// to measure how long memory takes, on a machine that may be busier in the next moment.
std::uint64_t measure_most_ticks_of_caches();

// The same, measured by the first call of the process.
std::uint64_t most_ticks_of_caches();

// How long it takes to read a byte of each line, all at once, the way to their pages included: what was used last is
// nearer in either way. In ticks of the time stamp counter.
std::uint64_t ticks_to_read(std::span<const char* const, kCacheProbes> lines);

// Reads a byte of each line, all at once, and takes the time: some tens of nanoseconds if caches hold them all. False
// if one came from memory, and, rarely, if the thread was interrupted.
bool reads_from_cache(std::span<const CacheProbe, kCacheProbes> probes, std::uint64_t most_ticks);

} // namespace bnorm::runtime

#endif
