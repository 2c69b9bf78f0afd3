// Which way tensors take between memory, caches and cores: where what is read comes from and in which order, what is
// fetched ahead and into which cache, which outputs are stored past all of them. Results do not depend on it; each
// decision is a measurement (bench/decisions.md), of machines that Machine tells apart. Integers only.
#ifndef BNORM_PLAN_TRAFFIC_HPP
#define BNORM_PLAN_TRAFFIC_HPP

#include "plan/schedule.hpp"

namespace bnorm::plan {

// Sets what schedule.hpp says of that, for as many threads as the schedule has.
void set_traffic(const Geometry& geometry, const Workload& workload, const Machine& machine, Schedule& schedule);

// How far ahead planes are fetched that are applied in the order of memory; 0: not.
std::int64_t elements_ahead_in_order(const Workload& workload, const Machine& machine, const Schedule& schedule);

} // namespace bnorm::plan

#endif
