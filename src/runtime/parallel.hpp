// The only way to more than one thread: oneTBB's, or those that a host lends.
#ifndef BNORM_RUNTIME_PARALLEL_HPP
#define BNORM_RUNTIME_PARALLEL_HPP

#include <cstdint>
#include <type_traits>

#include "bnorm/bnorm.h"

namespace bnorm::runtime {

// How many threads the caller's oneTBB arena has; at least 1.
int available_threads();

// What threads do; `context` is handed to both.
struct ParallelWork {
    void (*body)(const void* context, std::int64_t item, std::int64_t next, int slot);
    void (*end)(const void* context);
    const void* context;
};

// Whether a thread learns, while it is at an item, which one it takes up next. It then keeps one back from the others:
// at the end of the items that may cost as much as one of them takes.
enum class Lookahead { none, one_item };

enum class Direction { forwards, backwards };

// `direction` is that of each thread's own items. Lookahead is for forwards only.
struct ItemOrder {
    Lookahead lookahead = Lookahead::none;
    Direction direction = Direction::forwards;
};

// Where threads come from, and how many of them are used.
struct Threads {
    int count = 1;
    bnorm_parallel_for host{}; // without a function: oneTBB
};

// Calls work.body(context, item, next, slot) once for each item of [0, items), on up to threads.count threads, and
// returns when all are done. Each thread begins with a share of neighbouring items, the first thread with the first of
// them, and then helps with those of others. `next` is the thread's next item, `items` if there is none or no
// lookahead. `slot`, in [0, threads.count), is distinct among bodies that run at the same time. Each thread calls
// work.end(context) when it finds no item left. The caller's thread works from the first instant and can finish alone:
// whoever arrives late finds nothing left. Never throws; what it calls must not either.
void parallel_run(const Threads& threads, std::int64_t items, const ItemOrder& order,
                  const ParallelWork& work) noexcept;

// body(item, next, slot), end()
template <class Body, class End>
void parallel_for(const Threads& threads, std::int64_t items, const ItemOrder& order, const Body& body,
                  const End& end) noexcept {
    static_assert(std::is_nothrow_invocable_v<const Body&, std::int64_t, std::int64_t, int>);
    static_assert(std::is_nothrow_invocable_v<const End&>);
    struct Both {
        const Body& body;
        const End& end;
    };
    const Both both = {body, end};
    parallel_run(threads, items, order,
                 {[](const void* context, std::int64_t item, std::int64_t next, int slot) {
                      static_cast<const Both*>(context)->body(item, next, slot);
                  },
                  [](const void* context) { static_cast<const Both*>(context)->end(); }, &both});
}

} // namespace bnorm::runtime

#endif
