#include "runtime/parallel.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/partitioner.h>
#include <oneapi/tbb/task_arena.h>

namespace bnorm::runtime {
namespace {

int threads_of(const Threads& threads, const Phase& phase) {
    return static_cast<int>(std::min<std::int64_t>(threads.count, phase.items));
}

// Where `part` of `parts` begins.
std::int64_t begin_of(std::int64_t items, int part, int parts) {
    return items / parts * part + items % parts * part / parts;
}

// More threads than that begin with a share that others have begun.
constexpr int kMostShares = 128;

// Each thread has a share of neighbouring items, the same in every phase of as many, so that it finds in its own
// caches what it has read, and what hardware fetches beyond one item is of its next. Handed out by a counter a share: a
// thread that finds nothing left of its own takes from the others', and one that comes late, or is taken off its core,
// delays nobody but by the item that it is at.
class PhaseQueue {
  public:
    PhaseQueue(std::span<const Phase> phases, int threads, const ParallelWork& work)
        : phases_(phases), shares_(std::min(threads, kMostShares)), work_(work) {
        for (std::size_t phase = 0; phase < phases.size(); ++phase) {
            left_[phase].store(phases[phase].items, std::memory_order_relaxed);
        }
    }

    // Phase by phase, with the other threads. All return early if one of them has waited for a while: the thread that
    // it waits for may be off its core, and oneTBB knows how to sleep until it is back.
    void work(int slot) noexcept {
        std::size_t phase = begun();
        while (!given_up_.load(std::memory_order_relaxed)) {
            work_at(phase, slot);
            if (++phase == phases_.size()) {
                return;
            }
            if (!(slot == 0 ? finishes_soon(phase - 1) : begins_soon(phase))) {
                given_up_.store(true, std::memory_order_relaxed);
            }
        }
    }

    // What is left of a phase that has begun. Waits for nobody.
    void work_at(std::size_t phase, int slot) noexcept {
        const std::int64_t done = run_items(phase, slot);
        work_.end(work_.context);
        left_[phase].fetch_sub(done, std::memory_order_release);
    }

    // When all threads have returned, before they are called again.
    void close() noexcept {
        given_up_.store(false, std::memory_order_relaxed);
        if (all_done(begun())) {
            finish(begun());
        }
    }

    std::size_t begun() const noexcept { return begun_.load(std::memory_order_acquire); }

  private:
    // One a share, for every phase.
    struct alignas(64) Counters {
        std::array<std::atomic<std::int64_t>, kMostPhases> taken{};
    };

    // Returns how many.
    std::int64_t run_items(std::size_t phase, int slot) noexcept {
        const std::int64_t items = phases_[phase].items;
        const bool looks_ahead = phases_[phase].order.lookahead == Lookahead::one_item;
        int finished = 0;
        std::int64_t done = 0;
        for (std::int64_t item = take(phase, slot, finished); item < items; ++done) {
            const std::int64_t next = looks_ahead ? take(phase, slot, finished) : items;
            work_.body(work_.context, static_cast<int>(phase), item, next, slot);
            item = looks_ahead ? next : take(phase, slot, finished);
        }
        return done;
    }

    // From the share of `slot` or those after it, `finished` of which have none left; the number of items if no share
    // has.
    std::int64_t take(std::size_t phase, int slot, int& finished) noexcept {
        const std::int64_t items = phases_[phase].items;
        for (; finished < shares_; ++finished) {
            const int share = (slot % shares_ + finished) % shares_;
            const std::int64_t begin = begin_of(items, share, shares_);
            const std::int64_t end = begin_of(items, share + 1, shares_);
            auto& taken = counters_[static_cast<std::size_t>(share)].taken[phase];
            const std::int64_t index = taken.fetch_add(1, std::memory_order_relaxed);
            if (index < end - begin) {
                return phases_[phase].order.direction == Direction::backwards ? end - 1 - index : begin + index;
            }
        }
        return items;
    }

    bool all_done(std::size_t phase) const noexcept { return left_[phase].load(std::memory_order_acquire) == 0; }

    void finish(std::size_t phase) noexcept {
        work_.finish(work_.context, static_cast<int>(phase));
        begun_.store(phase + 1, std::memory_order_release);
    }

    // By one thread all the time, whose caches hold what that reads and writes.
    bool finishes_soon(std::size_t phase) noexcept {
        if (!waits_for([&] { return all_done(phase); })) {
            return false;
        }
        finish(phase);
        return true;
    }

    bool begins_soon(std::size_t phase) const noexcept {
        return waits_for([&] { return begun() >= phase; });
    }

    // While others do the items that they are at. Gives its core to whoever else wants it, the thread that it waits for
    // perhaps.
    template <class Condition>
    static bool waits_for(const Condition& condition) noexcept {
        using Clock = std::chrono::steady_clock;
        constexpr auto kPatience = std::chrono::microseconds(20);
        for (const Clock::time_point start = Clock::now(); !condition() && Clock::now() - start < kPatience;) {
            std::this_thread::yield();
        }
        return condition();
    }

    std::span<const Phase> phases_;
    int shares_;
    ParallelWork work_;
    std::array<Counters, kMostShares> counters_;
    alignas(64) std::array<std::atomic<std::int64_t>, kMostPhases> left_{};
    alignas(64) std::atomic<std::size_t> begun_{0};
    std::atomic<bool> given_up_{false};
};

void run_alone(std::span<const Phase> phases, const ParallelWork& work) {
    for (std::size_t phase = 0; phase < phases.size(); ++phase) {
        const std::int64_t items = phases[phase].items;
        const ItemOrder& order = phases[phase].order;
        const auto at = [&](std::int64_t index) {
            return index < items && order.direction == Direction::backwards ? items - 1 - index : index;
        };
        for (std::int64_t index = 0; index < items; ++index) {
            const std::int64_t next = order.lookahead == Lookahead::one_item ? at(index + 1) : items;
            work.body(work.context, static_cast<int>(phase), at(index), next, 0);
        }
        work.end(work.context);
        work.finish(work.context, static_cast<int>(phase));
    }
}

// Isolated: while the caller waits here, it takes up no other work of its arena, which might wait for the caller in
// turn.
void run_on_arena(int threads, PhaseQueue& queue) {
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

// Phase by phase: the host is promised tasks that do not wait for each other. It may run them one after the other, or
// forget some: each one finishes whatever is left, and the caller looks last.
void run_on_host(const Threads& threads, std::span<const Phase> phases, PhaseQueue& queue) {
    struct Task {
        PhaseQueue& queue;
        std::size_t phase;
    };
    for (std::size_t phase = 0; phase < phases.size(); ++phase) {
        const int count = threads_of(threads, phases[phase]);
        Task task = {queue, phase};
        if (count > 1) {
            threads.host.run(
                threads.host.context, count,
                [](void* argument, std::int32_t slot) {
                    const Task& part = *static_cast<const Task*>(argument);
                    part.queue.work_at(part.phase, slot);
                },
                &task);
        }
        queue.work_at(phase, 0);
        queue.close();
    }
}

} // namespace

std::int64_t first_share(const Threads& threads, std::int64_t items) {
    return begin_of(items, 1, std::min(threads.count, kMostShares));
}

int available_threads() { return std::max(1, tbb::this_task_arena::max_concurrency()); }

void parallel_run(const Threads& threads, std::span<const Phase> phases, const ParallelWork& work) noexcept {
    int most = 0;
    for (const Phase& phase : phases) {
        most = std::max(most, threads_of(threads, phase));
    }
    if (most <= 1) {
        run_alone(phases, work);
        return;
    }
    PhaseQueue queue(phases, most, work);
    if (threads.host.run != nullptr) {
        run_on_host(threads, phases, queue);
        return;
    }
    for (std::size_t phase = 0; phase < phases.size(); phase = queue.begun()) {
        try {
            run_on_arena(most, queue);
        } catch (...) {
            // oneTBB had no memory for its tasks. It has waited for those that ran.
        }
        queue.close();
        if (queue.begun() == phase) { // none ran; also where the caller's own tasks have been cancelled
            queue.work(0);
            queue.close();
        }
    }
}

} // namespace bnorm::runtime
