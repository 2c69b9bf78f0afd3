#include "runtime/parallel.hpp"

#include <algorithm>
#include <array>
#include <atomic>

#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/partitioner.h>
#include <oneapi/tbb/task_arena.h>

namespace bnorm::runtime {
namespace {

// Where `part` of `parts` begins.
std::int64_t begin_of(std::int64_t items, int part, int parts) {
    return items / parts * part + items % parts * part / parts;
}

// More threads than that begin with a share that others have begun.
constexpr int kMostShares = 128;

// Each thread has a share of neighbouring items, the same in every pass over as many, so that it finds in its own
// caches what it has read, and what hardware fetches beyond one item is of its next. Handed out by a counter a share: a
// thread that finds nothing left of its own takes from the others', and one that comes late, or is taken off its core,
// delays nobody.
class ItemQueue {
  public:
    ItemQueue(std::int64_t items, int threads, const ItemOrder& order, const ParallelWork& work)
        : items_(items), shares_(std::min(threads, kMostShares)), order_(order), work_(work) {}

    void work(int slot) noexcept {
        int finished = 0;
        std::int64_t item = take(slot, finished);
        while (item < items_) {
            if (order_.lookahead == Lookahead::one_item) {
                const std::int64_t next = take(slot, finished);
                work_.body(work_.context, item, next, slot);
                item = next;
            } else {
                work_.body(work_.context, item, items_, slot);
                item = take(slot, finished);
            }
        }
        work_.end(work_.context);
    }

  private:
    struct alignas(64) Counter {
        std::atomic<std::int64_t> taken{0};
    };

    // From the share of `slot` or those after it, `finished` of which have none left; items_ if no share has.
    std::int64_t take(int slot, int& finished) noexcept {
        for (; finished < shares_; ++finished) {
            const int share = (slot % shares_ + finished) % shares_;
            const std::int64_t begin = begin_of(items_, share, shares_);
            const std::int64_t end = begin_of(items_, share + 1, shares_);
            const std::int64_t index =
                counters_[static_cast<std::size_t>(share)].taken.fetch_add(1, std::memory_order_relaxed);
            if (index < end - begin) {
                return order_.direction == Direction::backwards ? end - 1 - index : begin + index;
            }
        }
        return items_;
    }

    std::int64_t items_;
    int shares_;
    ItemOrder order_;
    ParallelWork work_;
    std::array<Counter, kMostShares> counters_;
};

// Isolated: while the caller waits here, it takes up no other work of its arena, which might wait for the caller in
// turn.
void run_on_arena(int threads, ItemQueue& queue) {
    tbb::this_task_arena::isolate([&] {
        tbb::parallel_for(
            tbb::blocked_range<int>(0, threads, 1),
            [&queue](const tbb::blocked_range<int>& slots) {
                for (int slot = slots.begin(); slot != slots.end(); ++slot) {
                    queue.work(slot);
                }
            },
            tbb::static_partitioner()); // the same thread for the same slot, if it can be had
    });
}

// The host may run the tasks one after the other, or forget some: each one finishes whatever is left.
void run_on_host(const bnorm_parallel_for& host, int threads, ItemQueue& queue) {
    host.run(
        host.context, threads, [](void* argument, std::int32_t slot) { static_cast<ItemQueue*>(argument)->work(slot); },
        &queue);
}

} // namespace

int available_threads() { return std::max(1, tbb::this_task_arena::max_concurrency()); }

void parallel_run(const Threads& threads, std::int64_t items, const ItemOrder& order,
                  const ParallelWork& work) noexcept {
    const int count = static_cast<int>(std::min<std::int64_t>(threads.count, items));
    if (count <= 1) {
        for (std::int64_t index = 0; index < items; ++index) {
            const std::int64_t item = order.direction == Direction::backwards ? items - 1 - index : index;
            work.body(work.context, item, order.lookahead == Lookahead::one_item ? item + 1 : items, 0);
        }
        work.end(work.context);
        return;
    }
    ItemQueue queue(items, count, order, work);
    try {
        if (threads.host.run != nullptr) {
            run_on_host(threads.host, count, queue);
        } else {
            run_on_arena(count, queue);
        }
    } catch (...) {
        // oneTBB had no memory for its tasks. It has waited for those that ran; what they left is done here.
    }
    queue.work(0);
}

} // namespace bnorm::runtime
