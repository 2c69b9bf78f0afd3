// What this machine's memory gives: the limit that every kernel is measured against.
#ifndef BNORM_BENCH_MEMORY_HPP
#define BNORM_BENCH_MEMORY_HPP

#include <cstdint>
#include <memory>

#include "case.hpp"

namespace bench {

enum class Traffic {
    read,             // one stream
    copy,             // two streams, stores through the cache (which reads each line before it is written)
    copy_nontemporal, // two streams, stores past the cache
    // The least that operations of two passes do where no cache keeps anything for the second:
    read_then_copy,    // training forward: reads x; reads x, writes y
    read_two_then_add, // backward: reads x and dy; reads both, writes dx
};
inline constexpr std::array kTraffic = {Traffic::read, Traffic::copy, Traffic::copy_nontemporal,
                                        Traffic::read_then_copy, Traffic::read_two_then_add};

const char* traffic_name(Traffic traffic);

// Moves arrays of `elements` floats with the given number of threads, which share the work in pieces as bnorm's do.
class Memory {
  public:
    Memory(Traffic traffic, std::int64_t elements, int threads);
    ~Memory();
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    void run();
    double bytes() const; // of each array once
    using Kernel = void (*)(const float* a, const float* b, float* to, std::int64_t count);

  private:
    void pass(Kernel kernel);

    struct Threads; // keeps oneTBB out of this header
    Traffic traffic_;
    std::int64_t elements_;
    Floats a_, b_, to_;
    std::unique_ptr<Threads> threads_;
};

} // namespace bench

#endif
