// The scratch memory of one range of channels, as plan::RangeScratch lays it out.
#ifndef BNORM_OPS_RANGE_SCRATCH_HPP
#define BNORM_OPS_RANGE_SCRATCH_HPP

#include <cstddef>

#include "ops/operation.hpp"

namespace bnorm::ops {

struct RangeScratch {
    ChannelRange range;
    Coefficients column_coefficients; // of the range's columns; may be range.coefficients
    std::array<double*, 2> column_sums;
    std::array<double*, 2> tail_sums;
};

template <class T>
T* at_offset(std::byte* base, std::int64_t offset) {
    return reinterpret_cast<T*>(base + offset);
}

inline RangeScratch range_scratch(const plan::RangeScratch& layout, std::byte* base, std::int64_t first,
                                  std::int64_t count) {
    RangeScratch scratch{};
    scratch.range.first = scratch.range.next_first = first;
    scratch.range.count = count;
    for (std::size_t i = 0; i < layout.sums.size(); ++i) {
        scratch.range.sums[i] = {at_offset<double>(base, layout.sums[i][0]),
                                 at_offset<double>(base, layout.sums[i][1])};
    }
    scratch.range.inv_std = at_offset<double>(base, layout.inv_std);
    for (std::size_t i = 0; i < layout.coefficients.size(); ++i) {
        scratch.range.coefficients[i] = at_offset<float>(base, layout.coefficients[i]);
        scratch.column_coefficients[i] = at_offset<float>(base, layout.column_coefficients[i]);
    }
    for (std::size_t i = 0; i < 2; ++i) {
        scratch.column_sums[i] = at_offset<double>(base, layout.column_sums[i]);
        scratch.tail_sums[i] = at_offset<double>(base, layout.tail_sums[i]);
    }
    return scratch;
}

} // namespace bnorm::ops

#endif
