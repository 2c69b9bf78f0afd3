// How evenly work that is cut into items spreads over threads. Integers only.
#ifndef BNORM_PLAN_ITEMS_HPP
#define BNORM_PLAN_ITEMS_HPP

#include <algorithm>
#include <cstdint>

#include "plan/integers.hpp"

namespace bnorm::plan {

constexpr std::int64_t kItemsPerThread = 4;
// Whatever number of threads is asked for, plans are made in microseconds.
constexpr std::int64_t kMostCandidates = 4096;

// What the busiest thread gets is bounded by its number of items, and by an even share plus one item (Graham 1966, list
// scheduling).
struct Items {
    std::int64_t count;
    std::int64_t largest;
    std::int64_t total;

    std::int64_t busiest(int threads) const {
        return std::min(divide_up(count, threads) * largest, (total + (threads - 1) * largest) / threads);
    }
    // Whether that is within so many percent of an even share. Totals reach 2^61: no product of them.
    bool within(std::int64_t percent, int threads) const {
        const std::int64_t share = total / threads;
        return busiest(threads) - share <= share / 100 * percent + share % 100 * percent / 100;
    }
    bool even(int threads) const { return within(15, threads); }

    static Items cut(std::int64_t total, std::int64_t step, std::int64_t repeats) {
        return {divide_up(total, step) * repeats, std::min(step, total), total * repeats};
    }
};

// The step in which `total`, `repeats` times, is cut into items: in whole units, at most `most` (but one unit), and the
// largest that spreads evenly, or else the one that spreads best.
inline std::int64_t even_step(std::int64_t total, std::int64_t most, std::int64_t unit, std::int64_t repeats,
                              int threads) {
    const std::int64_t least = std::max<std::int64_t>(1, divide_up(total, std::max(most / unit * unit, unit)));
    const std::int64_t candidates = std::min(threads * kItemsPerThread, kMostCandidates);
    std::int64_t best = 0;
    std::int64_t busiest = 0;
    for (std::int64_t count = least; count <= least + candidates; ++count) {
        const std::int64_t step = round_up(divide_up(total, count), unit);
        const Items items = Items::cut(total, step, repeats);
        // A little smaller may be much more even.
        if (count <= least + threads && items.within(2, threads)) {
            return step;
        }
        if (best == 0 || (items.busiest(threads) < busiest && !Items::cut(total, best, repeats).even(threads))) {
            best = step;
            busiest = items.busiest(threads);
        }
    }
    return best;
}

} // namespace bnorm::plan

#endif
