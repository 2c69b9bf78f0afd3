// Which thread takes which items: each once, its own share first, whatever the threads do.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <thread>
#include <vector>

#include <oneapi/tbb/task_group.h>

#include "runtime/parallel.hpp"

using namespace bnorm::runtime;

namespace {

constexpr Lookahead kLookaheads[] = {Lookahead::none, Lookahead::one_item};
constexpr Direction kDirections[] = {Direction::forwards, Direction::backwards};

// Tasks one after the other, in the order of `slots`, of which some may be missing.
struct InTurn {
    std::vector<int> slots;

    Threads lend(int threads) {
        return {threads,
                {[](void* context, std::int32_t, bnorm_task task, void* argument) {
                     for (const int slot : static_cast<InTurn*>(context)->slots) {
                         task(argument, slot);
                     }
                 },
                 this, threads}};
    }
};

// A thread for each task.
void run_on_threads(void*, std::int32_t count, bnorm_task task, void* argument) {
    std::vector<std::thread> threads;
    threads.reserve(static_cast<std::size_t>(count));
    for (std::int32_t slot = 0; slot < count; ++slot) {
        threads.emplace_back(task, argument, slot);
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

std::vector<std::int64_t> range(std::int64_t begin, std::int64_t end) {
    std::vector<std::int64_t> result(static_cast<std::size_t>(end - begin));
    std::iota(result.begin(), result.end(), begin);
    return result;
}

struct Taken {
    std::vector<std::int64_t> items;
    std::vector<std::int64_t> next;
    int ends = 0;
};

// By one thread at a time.
Taken taken(const Threads& threads, std::int64_t items, const ItemOrder& order) {
    Taken result;
    parallel_for(
        threads, items, order,
        [&](std::int64_t item, std::int64_t next, int) noexcept {
            result.items.push_back(item);
            result.next.push_back(next);
        },
        [&]() noexcept { ++result.ends; });
    return result;
}

} // namespace

TEST_CASE("a single thread takes items as they lie, or backwards") {
    CHECK(taken({1, {}}, 5, {}).items == range(0, 5));
    CHECK(taken({1, {}}, 5, {Lookahead::none, Direction::backwards}).items == std::vector<std::int64_t>{4, 3, 2, 1, 0});
    CHECK(taken({1, {}}, 5, {Lookahead::one_item, Direction::forwards}).next == range(1, 6));
    CHECK(taken({1, {}}, 5, {Lookahead::one_item, Direction::backwards}).next ==
          std::vector<std::int64_t>{3, 2, 1, 0, 5});
    CHECK(taken({1, {}}, 5, {}).next == std::vector<std::int64_t>(5, 5));
    CHECK(taken({1, {}}, 0, {}).ends == 1);
}

TEST_CASE("whoever comes first takes its own share first, then those after it") {
    InTurn host{{1}};
    CHECK(taken(host.lend(3), 9, {}).items == std::vector<std::int64_t>{3, 4, 5, 6, 7, 8, 0, 1, 2});
    CHECK(taken(host.lend(3), 9, {Lookahead::none, Direction::backwards}).items ==
          std::vector<std::int64_t>{5, 4, 3, 8, 7, 6, 2, 1, 0});
    CHECK(taken(host.lend(3), 9, {Lookahead::one_item, Direction::forwards}).next ==
          std::vector<std::int64_t>{4, 5, 6, 7, 8, 0, 1, 2, 9});
    CHECK(taken(host.lend(3), 9, {Lookahead::one_item, Direction::backwards}).next ==
          std::vector<std::int64_t>{4, 3, 8, 7, 6, 2, 1, 0, 9});
    SUBCASE("shares of a different number of items") {
        CHECK(taken(host.lend(3), 8, {}).items == std::vector<std::int64_t>{2, 3, 4, 5, 6, 7, 0, 1});
    }
    SUBCASE("nobody comes but the caller") {
        host.slots = {};
        CHECK(taken(host.lend(3), 9, {}).items == range(0, 9));
    }
}

TEST_CASE("the caller's share is what it takes before it helps others") {
    for (const int threads : {1, 2, 3, 7, 200}) {
        for (const std::int64_t items : {1, 2, 7, 100, 1000}) {
            CAPTURE(threads);
            CAPTURE(items);
            InTurn host{{0}};
            const std::vector<std::int64_t> backwards =
                taken(host.lend(threads), items, {Lookahead::none, Direction::backwards}).items;
            const std::int64_t share = first_share(host.lend(threads), items);
            if (share > 0) {
                CHECK(backwards.front() == share - 1);
            }
            CHECK(share <= items);
        }
    }
}

TEST_CASE("each item once, for any number of threads, items and tasks that come") {
    for (const Lookahead lookahead : kLookaheads) {
        for (const Direction direction : kDirections) {
            for (const int threads : {2, 3, 7, 64, 200, 1000}) {
                for (const std::int64_t items : {0, 1, 2, 3, 63, 64, 65, 129, 1000, 4096}) {
                    InTurn host{{threads - 1, threads / 2, 0, 1}};
                    for (int& slot : host.slots) { // parallel_run lends no more tasks than there are items
                        slot =
                            static_cast<int>(std::clamp<std::int64_t>(slot, 0, std::max<std::int64_t>(items, 1) - 1));
                    }
                    CAPTURE(threads);
                    CAPTURE(items);
                    Taken all = taken(host.lend(threads), items, {lookahead, direction});
                    std::sort(all.items.begin(), all.items.end());
                    CHECK(all.items == range(0, items));
                }
            }
        }
    }
}

TEST_CASE("threads at the same time: each begins with its own share, and all items are taken once") {
    constexpr int kThreads = 4;
    constexpr std::int64_t kItems = 1001;
    for (const Direction direction : kDirections) {
        std::vector<std::atomic<int>> times(kItems);
        std::vector<std::atomic<std::int64_t>> first(kThreads);
        for (auto& item : first) {
            item = -1;
        }
        std::barrier all_begun(kThreads);
        std::atomic<int> ends{0};
        parallel_for(
            Threads{kThreads, {run_on_threads, nullptr, kThreads}}, kItems, {Lookahead::none, direction},
            [&](std::int64_t item, std::int64_t, int slot) noexcept {
                ++times[static_cast<std::size_t>(item)];
                if (std::int64_t none = -1; first[static_cast<std::size_t>(slot)].compare_exchange_strong(none, item)) {
                    all_begun.arrive_and_wait();
                }
            },
            [&]() noexcept { ++ends; });
        CHECK(std::all_of(times.begin(), times.end(), [](const std::atomic<int>& count) { return count == 1; }));
        for (int slot = 0; slot < kThreads; ++slot) {
            CAPTURE(slot);
            const std::int64_t begin = kItems * slot / kThreads;
            const std::int64_t end = kItems * (slot + 1) / kThreads;
            CHECK(first[static_cast<std::size_t>(slot)] == (direction == Direction::forwards ? begin : end - 1));
        }
        CHECK(ends == kThreads + 1); // and the caller's last look
    }
}

namespace {

struct PhasesSeen {
    std::vector<std::int64_t> items;
    std::vector<std::atomic<std::int64_t>> done = std::vector<std::atomic<std::int64_t>>(items.size());
    std::vector<std::atomic<int>> finishes = std::vector<std::atomic<int>>(items.size());
    std::atomic<int> early{0};
    std::atomic<int> ends{0};
};

// Counts what threads do, and what they do too early.
struct CountPhases {
    PhasesSeen& seen;

    void body(int phase, std::int64_t, std::int64_t, int) const noexcept {
        for (int before = 0; before < phase; ++before) {
            seen.early += seen.finishes[static_cast<std::size_t>(before)] == 1 ? 0 : 1;
        }
        ++seen.done[static_cast<std::size_t>(phase)];
    }
    void end() const noexcept { ++seen.ends; }
    void finish(int phase) const noexcept {
        const auto index = static_cast<std::size_t>(phase);
        seen.early += seen.done[index] == seen.items[index] ? 0 : 1;
        ++seen.finishes[index];
    }
};

void check_phases(const Threads& threads, const std::vector<std::int64_t>& sizes) {
    PhasesSeen seen{sizes};
    std::vector<Phase> phases;
    phases.reserve(sizes.size());
    for (const std::int64_t items : sizes) {
        phases.push_back({items, {}});
    }
    parallel_phases(threads, phases, CountPhases{seen});
    for (std::size_t phase = 0; phase < sizes.size(); ++phase) {
        CAPTURE(phase);
        CHECK(seen.done[phase] == sizes[phase]);
        CHECK(seen.finishes[phase] == 1);
    }
    CHECK(seen.early == 0);
    CHECK(seen.ends >= static_cast<int>(sizes.size()));
}

} // namespace

TEST_CASE("a phase begins when all of the one before is done, once, whatever the threads") {
    const std::vector<std::int64_t> sizes[] = {{1}, {7, 1, 9}, {1, 1, 1, 1, 1}, {64, 3, 1000, 2}};
    for (const auto& items : sizes) {
        for (const int count : {1, 2, 3, 8, 200}) {
            CAPTURE(count);
            for (int repeat = 0; repeat < 50; ++repeat) {
                check_phases({count, {}}, items);
            }
            check_phases({count, {run_on_threads, nullptr, count}}, items);
            InTurn nobody{{}};
            check_phases(nobody.lend(count), items);
        }
    }
}

// A host may have no thread but one for all tasks: none may wait for another.
TEST_CASE("tasks of a host that run one after the other go through all phases") {
    InTurn host{{1, 0}};
    check_phases(host.lend(2), {2, 5, 2});
}

TEST_CASE("in a cancelled group of the caller's tasks, whose own tasks oneTBB then leaves out: all the same") {
    tbb::task_group group;
    group.run_and_wait([&] {
        group.cancel();
        check_phases({2, {}}, {8, 1, 8});
    });
}

// Longer than others wait for it before they leave it to oneTBB.
TEST_CASE("a thread that is off its core for a while") {
    struct Slow {
        std::atomic<int>& done;
        void body(int, std::int64_t item, std::int64_t, int) const noexcept {
            if (item == 0) {
                std::this_thread::sleep_for(std::chrono::milliseconds(5));
            }
            ++done;
        }
        void end() const noexcept {}
        void finish(int) const noexcept {}
    };
    for (const int threads : {2, 3, 8}) {
        std::atomic<int> done{0};
        const Phase phases[] = {{16, {}}, {16, {}}, {16, {}}};
        parallel_phases({threads, {}}, phases, Slow{done});
        CHECK(done == 48);
    }
}
