// Of whole channels: which are summed beside the outputs of others, or stay in L1 from one pass to the other. Integers
// only.
#ifndef BNORM_PLAN_BESIDE_HPP
#define BNORM_PLAN_BESIDE_HPP

#include "plan/schedule.hpp"

namespace bnorm::plan {

// So many at a time; 0: none do.
std::int64_t channels_in_l1(const Geometry& geometry, const Workload& workload, const Machine& machine,
                            const Schedule& schedule);

// Sets unit_beside and what belongs to it, if it gains.
void set_beside(const Geometry& geometry, const Workload& workload, const Machine& machine, Schedule& schedule);

} // namespace bnorm::plan

#endif
