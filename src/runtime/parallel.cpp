#include "runtime/parallel.hpp"

#include <algorithm>
#include <atomic>

#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/partitioner.h>
#include <oneapi/tbb/task_arena.h>

namespace bnorm::runtime {
namespace {

// Items are handed out by a counter rather than split beforehand, so that a thread that comes late, or is taken off its
// core, delays nobody.
class ItemQueue {
  public:
    ItemQueue(std::int64_t items, Lookahead lookahead, const ParallelWork& work)
        : items_(items), lookahead_(lookahead), work_(work) {}

    void work(int slot) noexcept {
        std::int64_t item = take();
        while (item < items_) {
            if (lookahead_ == Lookahead::one_item) {
                const std::int64_t next = take();
                work_.body(work_.context, item, std::min(next, items_), slot);
                item = next;
            } else {
                work_.body(work_.context, item, items_, slot);
                item = take();
            }
        }
        work_.end(work_.context);
    }

  private:
    std::int64_t take() noexcept { return next_.fetch_add(1, std::memory_order_relaxed); }

    alignas(64) std::atomic<std::int64_t> next_{0};
    alignas(64) std::int64_t items_;
    Lookahead lookahead_;
    ParallelWork work_;
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
            tbb::simple_partitioner());
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

void parallel_run(const Threads& threads, std::int64_t items, Lookahead lookahead, const ParallelWork& work) noexcept {
    const int count = static_cast<int>(std::min<std::int64_t>(threads.count, items));
    if (count <= 1) {
        for (std::int64_t item = 0; item < items; ++item) {
            work.body(work.context, item, lookahead == Lookahead::one_item ? item + 1 : items, 0);
        }
        work.end(work.context);
        return;
    }
    ItemQueue queue(items, lookahead, work);
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
