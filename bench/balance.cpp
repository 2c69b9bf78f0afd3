#include "balance.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <queue>
#include <vector>

namespace bench {
namespace {

using namespace bnorm::plan;

// The elements of each item, in the order in which they are handed out.
using Items = std::vector<std::int64_t>;

Items pieces(std::int64_t total, std::int64_t step, std::int64_t elements) {
    Items items;
    for (std::int64_t i = 0; i < total; i += step) {
        items.push_back(std::min(step, total - i) * elements);
    }
    return items;
}

std::int64_t part_elements(const Geometry& geometry, const Schedule& schedule, std::int64_t part) {
    const std::int64_t first = part * schedule.blocks_per_part;
    const std::int64_t last = std::min(first + schedule.blocks_per_part, geometry.grid.count());
    std::int64_t elements = 0;
    for (std::int64_t i = first; i < last; ++i) {
        const Block block = geometry.grid.at(i);
        elements += block.rows * block.columns;
    }
    return elements;
}

Items reduction_items(const Geometry& geometry, const Schedule& schedule) {
    Items parts;
    for (std::int64_t part = 0; part < schedule.parts; ++part) {
        parts.push_back(part_elements(geometry, schedule, part));
    }
    Items items;
    if (geometry.kind == MatrixKind::planes) {
        for (std::int64_t channel = 0; channel < geometry.channels; ++channel) {
            items.insert(items.end(), parts.begin(), parts.end());
        }
        return items;
    }
    for (const std::int64_t elements : parts) {
        const Items panels = pieces(geometry.row_length, schedule.panel_columns, elements / geometry.row_length);
        items.insert(items.end(), panels.begin(), panels.end());
    }
    return items;
}

Items apply_items(const Geometry& geometry, const Schedule& schedule) {
    if (geometry.kind == MatrixKind::columns) {
        Items items = pieces(geometry.rows, schedule.apply_rows, geometry.row_length);
        std::reverse(items.begin(), items.end());
        return items;
    }
    const bool in_order = schedule.apply_channels > 0;
    const BlockGrid grid =
        in_order ? BlockGrid{geometry.rows, geometry.channels, schedule.apply_rows, schedule.apply_channels}
                 : BlockGrid{geometry.rows, geometry.columns_per_channel, schedule.apply_rows, schedule.apply_columns};
    Items items;
    for (std::int64_t repeat = 0; repeat < (in_order ? 1 : geometry.channels); ++repeat) {
        for (std::int64_t i = 0; i < grid.count(); ++i) {
            const Block block = grid.at(i);
            items.push_back(block.rows * block.columns * (in_order ? geometry.columns_per_channel : 1));
        }
    }
    return items;
}

double busiest_thread(const Items& items, int threads) {
    std::priority_queue<std::int64_t, std::vector<std::int64_t>, std::greater<>> loads;
    for (int i = 0; i < threads; ++i) {
        loads.push(0);
    }
    std::int64_t most = 0;
    for (const std::int64_t item : items) {
        const std::int64_t load = loads.top() + item;
        loads.pop();
        loads.push(load);
        most = std::max(most, load);
    }
    return static_cast<double>(most);
}

class Sum {
  public:
    Sum(const Geometry& geometry, const Schedule& schedule) : geometry_(geometry), schedule_(schedule) {}

    // A pass that moves so many tensors.
    void add(const Items& items, int tensors) {
        const double bytes = 4.0 * tensors;
        busiest_ += bytes * busiest_thread(items, schedule_.threads);
        even_ += bytes * static_cast<double>(geometry_.elements()) / schedule_.threads;
    }
    Balance result() const { return {busiest_ / even_, busiest_}; }

  private:
    const Geometry& geometry_;
    const Schedule& schedule_;
    double busiest_ = 0.0;
    double even_ = 0.0;
};

} // namespace

Balance balance(const Geometry& geometry, const Workload& workload, const Schedule& schedule) {
    Sum sum(geometry, schedule);
    if (schedule.strategy == Strategy::by_channels) {
        const std::int64_t channels =
            schedule.channels_beside > 0 ? schedule.channels_beside : schedule.channels_per_item;
        sum.add(pieces(geometry.channels, channels, geometry.elements_per_channel), workload.streams);
        return sum.result();
    }
    for (int i = 0; i < workload.reductions; ++i) {
        sum.add(reduction_items(geometry, schedule), workload.cached_tensors);
    }
    if (workload.applies) {
        sum.add(apply_items(geometry, schedule), workload.streams);
    }
    return sum.result();
}

} // namespace bench
