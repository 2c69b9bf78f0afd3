// How evenly a plan spreads over threads, from its integers alone: for machines that are not at hand.
#ifndef BNORM_BENCH_BALANCE_HPP
#define BNORM_BENCH_BALANCE_HPP

#include "plan/geometry.hpp"
#include "plan/schedule.hpp"

namespace bench {

// Items go in order, each to the thread that is free first, as the runtime's counter hands them out if all threads run
// at the same speed. Every pass ends when its last item ends.
struct Balance {
    double slowest; // what the busiest threads of all passes move, in multiples of an even share
    double bytes;   // the same in bytes
};

Balance balance(const bnorm::plan::Geometry& geometry, const bnorm::plan::Workload& workload,
                const bnorm::plan::Schedule& schedule);

} // namespace bench

#endif
