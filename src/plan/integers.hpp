#ifndef BNORM_PLAN_INTEGERS_HPP
#define BNORM_PLAN_INTEGERS_HPP

#include <cstdint>

namespace bnorm::plan {

constexpr std::int64_t divide_up(std::int64_t dividend, std::int64_t divisor) {
    return (dividend + divisor - 1) / divisor;
}
constexpr std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
    return divide_up(value, multiple) * multiple;
}

} // namespace bnorm::plan

#endif
