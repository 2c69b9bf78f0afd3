// Threads that the host lends instead of oneTBB: the same bits, whatever the host does with the tasks.
#include <oneapi/tbb/task_arena.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "layer.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif

using namespace tests;

namespace {

// A pool as engines have them: threads that wait for a job, of which the caller's thread does its share.
class Pool {
  public:
    explicit Pool(int threads) {
        for (int i = 1; i < threads; ++i) {
            threads_.emplace_back([this] { serve(); });
        }
    }
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;
    ~Pool() {
        {
            const std::lock_guard lock(mutex_);
            ends_ = true;
        }
        wakes_.notify_all();
        for (std::thread& thread : threads_) {
            thread.join();
        }
    }

    void run(int count, bnorm_task task, void* argument) {
        const std::lock_guard one_job_at_a_time(caller_);
        {
            const std::lock_guard lock(mutex_);
            task_ = task;
            argument_ = argument;
            next_ = 0;
            left_ = count_ = count;
        }
        wakes_.notify_all();
        work();
        std::unique_lock lock(mutex_);
        done_.wait(lock, [this] { return left_ == 0; });
        count_ = 0;
    }
    int elsewhere() const { return elsewhere_; } // tasks that ran on the pool's threads

  private:
    void work() {
        for (;;) {
            std::unique_lock lock(mutex_);
            if (next_ >= count_) {
                return;
            }
            const int index = next_++;
            const bnorm_task task = task_;
            void* argument = argument_;
            lock.unlock();
            task(argument, index);
            lock.lock();
            if (--left_ == 0) {
                done_.notify_all();
            }
        }
    }

    void serve() {
        std::unique_lock lock(mutex_);
        while (!ends_) {
            wakes_.wait(lock, [this] { return ends_ || next_ < count_; });
            elsewhere_ += next_ < count_ ? 1 : 0;
            lock.unlock();
            work();
            lock.lock();
        }
    }

    std::vector<std::thread> threads_;
    std::mutex caller_, mutex_;
    std::condition_variable wakes_, done_;
    bnorm_task task_ = nullptr;
    void* argument_ = nullptr;
    int next_ = 0, count_ = 0, left_ = 0;
    std::atomic<int> elsewhere_{0};
    bool ends_ = false;
};

bnorm_parallel_for lend(Pool& pool, int threads) {
    return {[](void* context, std::int32_t count, bnorm_task task, void* argument) {
                static_cast<Pool*>(context)->run(count, task, argument);
            },
            &pool, threads};
}

struct Step {
    std::vector<float> y, dx;
    std::vector<unsigned char> dgamma, mask;
    bool operator==(const Step& other) const {
        return same_bits(y, other.y) && same_bits(dx, other.dx) && dgamma == other.dgamma && mask == other.mask;
    }
};

// A training step; host = nullptr: oneTBB.
Step run(const Shape& shape, const bnorm_parallel_for* host, int threads = 0) {
    Layer layer({.shape = shape, .activation = {BNORM_RELU, 0.0F}, .residual = true, .mask = true, .threads = threads});
    bnorm_problem problem = layer.problem(BNORM_TRAINING_FORWARD);
    problem.parallel_for = host;
    const bnorm_training_forward_args forward = layer.forward_args();
    REQUIRE_OK(bnorm_training_forward(Plan(problem), &forward));
    problem = layer.problem(BNORM_BACKWARD);
    problem.parallel_for = host;
    const bnorm_backward_args backward = layer.backward_args();
    REQUIRE_OK(bnorm_backward(Plan(problem), &backward));
    return {layer.y.values(), layer.dx.values(), layer.dgamma.snapshot(), layer.mask.snapshot()};
}

const Shape kShapes[] = {{BNORM_NCHW, 8, 32, 784}, {BNORM_NCHW, 2, 3, 40000}, {BNORM_NCHW, 16, 96, 49},
                         {BNORM_NHWC, 8, 64, 784}, {BNORM_NHWC, 4, 1100, 49}, {BNORM_NHWC, 2, 17, 9001}};

} // namespace

TEST_CASE("a pool of std::thread gives oneTBB's bits, and its threads do the work") {
    Pool pool(4);
    for (const Shape& shape : kShapes) {
        INFO("shape ", shape);
        const Step expected = run(shape, nullptr);
        for (const int threads : {1, 2, 4}) {
            const bnorm_parallel_for host = lend(pool, threads);
            CHECK(run(shape, &host) == expected);
        }
    }
    for (int i = 0; i < 100 && pool.elsewhere() == 0; ++i) {
        const bnorm_parallel_for host = lend(pool, 4);
        run(kShapes[0], &host);
    }
    CHECK(pool.elsewhere() > 0);
}

#ifdef _OPENMP
TEST_CASE("OpenMP gives oneTBB's bits") {
    std::atomic<int> most{0};
    bnorm_parallel_for host = {};
    host.run = [](void* context, std::int32_t count, bnorm_task task, void* argument) {
#pragma omp parallel for schedule(static, 1) num_threads(count)
        for (std::int32_t i = 0; i < count; ++i) {
            auto& team = *static_cast<std::atomic<int>*>(context);
            team = std::max(team.load(), omp_get_num_threads());
            task(argument, i);
        }
    };
    host.context = &most;
    host.threads = 3;
    for (const Shape& shape : kShapes) {
        INFO("shape ", shape);
        CHECK(run(shape, &host) == run(shape, nullptr));
    }
    CHECK(most == 3);
}
#endif

TEST_CASE("tasks one after the other, backwards, or left out: the same bits") {
    bnorm_parallel_for hosts[3] = {};
    hosts[0].run = [](void*, std::int32_t count, bnorm_task task, void* argument) {
        for (std::int32_t i = 0; i < count; ++i) {
            task(argument, i);
        }
    };
    hosts[1].run = [](void*, std::int32_t count, bnorm_task task, void* argument) {
        for (std::int32_t i = count - 1; i >= 0; --i) {
            task(argument, i);
        }
    };
    hosts[2].run = [](void*, std::int32_t, bnorm_task, void*) {};
    for (const Shape& shape : kShapes) {
        INFO("shape ", shape);
        const Step expected = run(shape, nullptr);
        for (bnorm_parallel_for& host : hosts) {
            host.threads = 5;
            CHECK(run(shape, &host) == expected);
        }
    }
}

TEST_CASE("inside a host's oneTBB arena, through its own parallel_for") {
    tbb::task_arena arena(2);
    bnorm_parallel_for host = {};
    host.run = [](void* context, std::int32_t count, bnorm_task task, void* argument) {
        static_cast<tbb::task_arena*>(context)->execute([&] {
            for (std::int32_t i = 0; i < count; ++i) {
                task(argument, i);
            }
        });
    };
    host.context = &arena;
    host.threads = 2;
    for (const Shape& shape : kShapes) {
        Step inside;
        arena.execute([&] { inside = run(shape, &host); });
        CHECK(inside == run(shape, nullptr));
    }
}

TEST_CASE("one plan on one pool, executed by several threads at once") {
    Pool pool(3);
    const bnorm_parallel_for host = lend(pool, 3);
    const Shape shape = kShapes[0];
    const Step expected = run(shape, nullptr);
    std::vector<int> same(4, 0);
    std::vector<std::thread> callers;
    for (std::size_t i = 0; i < same.size(); ++i) {
        callers.emplace_back([&, i] { same[i] = run(shape, &host) == expected ? 1 : 0; });
    }
    for (std::thread& caller : callers) {
        caller.join();
    }
    CHECK(same == std::vector<int>(4, 1));
}

TEST_CASE("the host's number of threads is the limit, problem.threads within it") {
    Pool pool(2);
    const bnorm_parallel_for host = lend(pool, 6);
    bnorm_problem problem = problem_of(BNORM_TRAINING_FORWARD, {BNORM_NCHW, 32, 64, 784}, {}, false, 0);
    problem.parallel_for = &host;
    CHECK(Plan(problem).info().threads == 6);
    problem.threads = 4;
    CHECK(Plan(problem).info().threads == 4);
    problem.threads = 8;
    CHECK(Plan(problem).info().threads == 6);
}

TEST_CASE("without a function or threads: an error") {
    const auto message = [](const bnorm_parallel_for& host) {
        bnorm_problem problem = problem_of(BNORM_INFERENCE, {BNORM_NCHW, 1, 1, 1});
        problem.parallel_for = &host;
        bnorm_plan* plan = nullptr;
        CHECK(bnorm_plan_create(&problem, &plan) == BNORM_INVALID_ARGUMENT);
        CHECK(plan == nullptr);
        return std::string(bnorm_last_error());
    };
    const bnorm_parallel_for complete = {[](void*, std::int32_t, bnorm_task, void*) {}, nullptr, 1};
    bnorm_parallel_for broken = complete;
    broken.run = nullptr;
    CHECK(message(broken) == "bnorm_plan_create: problem.parallel_for needs a function and at least 1 thread.");
    broken = complete;
    broken.threads = 0;
    CHECK(message(broken) == "bnorm_plan_create: problem.parallel_for needs a function and at least 1 thread.");
}
