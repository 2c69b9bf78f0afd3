// The only way to more than one thread: oneTBB's, or those that a host lends.
#ifndef BNORM_RUNTIME_PARALLEL_HPP
#define BNORM_RUNTIME_PARALLEL_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "bnorm/bnorm.h"

namespace bnorm::runtime {

// How many threads the caller's oneTBB arena has; at least 1.
int available_threads();

// Whether a thread learns, while it is at an item, which one it takes up next. It then keeps one back from the others:
// at the end of the items that may cost as much as one of them takes.
enum class Lookahead { none, one_item };

enum class Direction { forwards, backwards };

// `direction` is that of each thread's own items.
struct ItemOrder {
    Lookahead lookahead = Lookahead::none;
    Direction direction = Direction::forwards;
};

// Items that need nothing from each other, but all that the phases before have done. At least one, unless it is the
// only phase.
struct Phase {
    std::int64_t items = 0;
    ItemOrder order;
};

constexpr std::size_t kMostPhases = 5;

// What threads do; `context` is handed to all.
struct ParallelWork {
    void (*body)(const void* context, int phase, std::int64_t item, std::int64_t next, int slot);
    void (*end)(const void* context);
    void (*finish)(const void* context, int phase);
    const void* context;
};

// Where threads come from, and how many of them are used.
struct Threads {
    int count = 1;
    bnorm_parallel_for host{}; // without a function: oneTBB
};

// How many of a phase's items are the share that the first thread, the caller's, begins with.
std::int64_t first_share(const Threads& threads, std::int64_t items);

// For one phase after the other, calls work.body(context, phase, item, next, slot) once for each of its items, on up to
// threads.count threads, then work.finish(context, phase) once, where slot 0 was; returns when all is done. Each thread
// begins with a share of neighbouring items, the first thread with the first of them, and then helps with those of
// others. `next` is the thread's next item, the number of items if there is none or no lookahead. `slot`, in [0,
// threads.count), is distinct among bodies that run at the same time. Each thread calls work.end(context) when it finds
// no item of a phase left. The caller's thread works from the first instant and can finish alone: whoever arrives late
// finds nothing left, and threads wait only for items that another is at, yielding their core, asleep if that takes
// long. Never throws; what it calls must not either.
void parallel_run(const Threads& threads, std::span<const Phase> phases, const ParallelWork& work) noexcept;

// work.body(phase, item, next, slot), work.end(), work.finish(phase)
template <class Work>
void parallel_phases(const Threads& threads, std::span<const Phase> phases, const Work& work) noexcept {
    static_assert(noexcept(work.body(0, 0, 0, 0)));
    static_assert(noexcept(work.end()));
    static_assert(noexcept(work.finish(0)));
    parallel_run(threads, phases,
                 {[](const void* context, int phase, std::int64_t item, std::int64_t next, int slot) {
                      static_cast<const Work*>(context)->body(phase, item, next, slot);
                  },
                  [](const void* context) { static_cast<const Work*>(context)->end(); },
                  [](const void* context, int phase) { static_cast<const Work*>(context)->finish(phase); }, &work});
}

// A single phase: body(item, next, slot), end()
template <class Body, class End>
void parallel_for(const Threads& threads, std::int64_t items, const ItemOrder& order, const Body& body,
                  const End& end) noexcept {
    struct Work {
        const Body& body_of_item;
        const End& end_of_items;

        void body(int, std::int64_t item, std::int64_t next, int slot) const
            noexcept(std::is_nothrow_invocable_v<const Body&, std::int64_t, std::int64_t, int>) {
            body_of_item(item, next, slot);
        }
        void end() const noexcept(std::is_nothrow_invocable_v<const End&>) { end_of_items(); }
        void finish(int) const noexcept {}
    };
    const Phase phase = {items, order};
    parallel_phases(threads, {&phase, 1}, Work{body, end});
}

} // namespace bnorm::runtime

#endif
