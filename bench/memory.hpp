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
    // The least that operations of two passes do where no cache keeps anything for the second, which goes from the end
    // to the beginning. Each with stores through the cache and past it.
    read_then_copy, // training forward: reads x; reads x, writes y
    read_then_copy_nontemporal,
    read_then_add, // with a residual: reads x; reads x and the residual, writes y
    read_then_add_nontemporal,
    read_two_then_add, // backward: reads x and dy; reads both, writes dx
    read_two_then_add_nontemporal,
    read_two_then_split, // with a residual: reads x and dy; reads both, writes dx and dresidual
    read_two_then_split_nontemporal,
};
inline constexpr std::array kTraffic = {Traffic::read,
                                        Traffic::copy,
                                        Traffic::copy_nontemporal,
                                        Traffic::read_then_copy,
                                        Traffic::read_then_copy_nontemporal,
                                        Traffic::read_then_add,
                                        Traffic::read_then_add_nontemporal,
                                        Traffic::read_two_then_add,
                                        Traffic::read_two_then_add_nontemporal,
                                        Traffic::read_two_then_split,
                                        Traffic::read_two_then_split_nontemporal};

const char* traffic_name(Traffic traffic);

// Where a piece of each array begins; null where the traffic has none.
struct Arrays {
    const float* a;
    const float* b;
    float* to;
    float* second;
};

// Moves arrays of `elements` floats with the given number of threads, which share the work in pieces as bnorm's do.
class Memory {
  public:
    Memory(Traffic traffic, std::int64_t elements, int threads);
    ~Memory();
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    void run();
    double bytes() const; // of each array once
    using Kernel = void (*)(const Arrays& arrays, std::int64_t count);

  private:
    void pass(Kernel kernel, bool backwards);

    struct Threads; // keeps oneTBB out of this header
    Traffic traffic_;
    std::int64_t elements_;
    Floats a_, b_, to_, second_;
    std::unique_ptr<Threads> threads_;
};

} // namespace bench

#endif
