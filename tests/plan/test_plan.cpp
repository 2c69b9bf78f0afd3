// The planner on its own: integers in, integers out.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <ostream>
#include <utility>
#include <vector>

#include "balance.hpp"
#include "plan/geometry.hpp"
#include "plan/schedule.hpp"
#include "shapes.hpp"

using namespace bnorm::plan;

namespace {

struct Shape {
    bnorm_layout layout;
    std::int64_t batch, channels, spatial;
};

std::ostream& operator<<(std::ostream& stream, const Shape& s) {
    return stream << (s.layout == BNORM_NCHW ? "NCHW " : "NHWC ") << s.batch << "x" << s.channels << "x" << s.spatial;
}

Geometry geometry_of(const Shape& shape, bnorm_operation operation = BNORM_TRAINING_FORWARD) {
    bnorm_problem problem = {};
    problem.operation = operation;
    problem.layout = shape.layout;
    problem.batch = shape.batch;
    problem.channels = shape.channels;
    problem.spatial = shape.spatial;
    return make_geometry(problem);
}

std::vector<Shape> shapes() {
    std::vector<Shape> result;
    for (const bnorm_layout layout : {BNORM_NCHW, BNORM_NHWC}) {
        for (const std::int64_t batch : {1, 2, 7, 32, 256, 65536}) {
            for (const std::int64_t channels : {1, 3, 16, 17, 64, 65, 100, 256, 300, 512, 2048, 10000}) {
                for (const std::int64_t spatial : {1, 2, 9, 15, 16, 49, 95, 96, 196, 784, 3136, 12544, 8294400}) {
                    if (batch * channels * spatial <= std::int64_t{1} << 31) {
                        result.push_back({layout, batch, channels, spatial});
                    }
                }
            }
        }
        result.push_back({layout, 1, 1 << 20, 1});
        result.push_back({layout, 3, 1 << 20, 1});
        result.push_back({layout, 1 << 20, 1, 1});
    }
    return result;
}

// Forward and backward differ in their geometries.
std::vector<std::pair<Shape, bnorm_operation>> shapes_and_operations() {
    std::vector<std::pair<Shape, bnorm_operation>> result;
    for (const Shape& shape : shapes()) {
        result.emplace_back(shape, BNORM_TRAINING_FORWARD);
        result.emplace_back(shape, BNORM_BACKWARD);
    }
    return result;
}

bnorm_operation operation_of(const Workload& workload) {
    return workload.cached_tensors == 2 ? BNORM_BACKWARD : BNORM_TRAINING_FORWARD;
}

// As api/plan.cpp describes them: training forward; backward that computes its statistics; frozen; inference.
constexpr Workload kTraining = {1, true, 3, 1, 2};
constexpr Workload kTrainingResidual = {1, true, 3, 1, 3};
constexpr Workload kBackward = {2, true, 5, 2, 3};
constexpr Workload kBackwardSaved = {1, true, 5, 2, 3}; // as an execution with saved statistics runs it
constexpr Workload kBackwardResidual = {1, true, 5, 2, 4};
constexpr Workload kBackwardFixed = {1, true, 5, 2, 3, false, true};
constexpr Workload kInference = {0, true, 3, 1, 2, true};
constexpr Workload kGradientApply = {0, true, 5, 2, 3, true};
constexpr Machine machine(int threads) {
    return {threads, std::int64_t{1} << 20, std::int64_t{32} << 20, std::int64_t{32} << 20};
}

// One with caches as AMD's from Zen 5 on, if `fast`.
constexpr Machine fast_machine(int threads, bool fast) {
    Machine result = machine(threads);
    result.fast_caches = fast;
    return result;
}

constexpr std::int64_t kMebi = std::int64_t{1} << 20;

// As Intel's servers, if outputs are stored past L2.
constexpr Machine large_machine(int threads, bool past_l2) {
    return {threads, 2 * kMebi, 128 * kMebi, 64 * kMebi, past_l2};
}

// A machine of each kind.
std::vector<Machine> machines(int threads) { return {machine(threads), large_machine(threads, true)}; }

} // namespace

TEST_CASE("split_tree: the largest power of two below the count") {
    CHECK(split_tree(2) == 1);
    CHECK(split_tree(3) == 2);
    CHECK(split_tree(4) == 2);
    CHECK(split_tree(5) == 4);
    CHECK(split_tree(8) == 4);
    CHECK(split_tree(9) == 8);
    CHECK(split_tree((std::int64_t{1} << 40) + 1) == std::int64_t{1} << 40);
}

TEST_CASE("a geometry's matrix has every element once") {
    for (const auto& item : shapes_and_operations()) {
        const Shape& shape = item.first;
        const bnorm_operation operation = item.second;
        const Geometry geometry = geometry_of(shape, operation);
        INFO("shape ", shape, ", operation ", operation);
        CHECK(geometry.rows * geometry.row_length + geometry.tail_columns ==
              shape.batch * shape.channels * shape.spatial);
        CHECK(geometry.row_length == geometry.channels * geometry.columns_per_channel);
        CHECK(geometry.tail_columns < geometry.row_length);
        CHECK(geometry.tail_columns % geometry.channels == 0);
        CHECK((geometry.tail_columns == 0 || geometry.interleaved));
    }
}

TEST_CASE("blocks cover rows and columns exactly, and are small") {
    for (const auto& item : shapes_and_operations()) {
        const Shape& shape = item.first;
        const bnorm_operation operation = item.second;
        const Geometry geometry = geometry_of(shape, operation);
        const BlockGrid grid = geometry.grid;
        INFO("shape ", shape, ", operation ", operation);
        REQUIRE(grid.count() >= 1);
        std::int64_t elements = 0;
        for (std::int64_t i = 0; i < grid.count(); ++i) {
            const Block block = grid.at(i);
            REQUIRE(block.rows >= 1);
            REQUIRE(block.columns >= 1);
            REQUIRE(block.row + block.rows <= grid.rows);
            REQUIRE(block.column + block.columns <= grid.columns);
            REQUIRE(block.row % grid.rows_per_block == 0);
            REQUIRE(block.column % grid.columns_per_block == 0);
            elements += block.rows * block.columns;
        }
        CHECK(elements == grid.rows * grid.columns); // with the multiples above: no gap, no overlap
        if (geometry.kind == MatrixKind::planes) {
            CHECK(grid.rows_per_block * grid.columns_per_block <= 4096);
        } else {
            CHECK((grid.rows_per_block <= 256 || grid.rows_per_block * grid.columns <= 65536));
            // Moments round as well as promised: no more than a sixteenth of the rows in f32.
            CHECK((grid.rows_per_run == 8 || grid.rows_per_run * 16 <= grid.rows));
        }
    }
}

TEST_CASE("the grid does not depend on threads: schedules only group its blocks") {
    for (const Shape& shape : shapes()) {
        const Geometry geometry = geometry_of(shape);
        for (const int threads : {1, 2, 3, 7, 64}) {
            const Schedule schedule = make_schedule(geometry, kTraining, machine(threads));
            INFO("shape ", shape, ", threads ", threads);
            if (schedule.strategy == Strategy::by_parts) {
                const std::int64_t blocks = geometry.grid.count();
                CHECK((schedule.blocks_per_part & (schedule.blocks_per_part - 1)) == 0); // parts are subtrees
                CHECK(schedule.parts * schedule.blocks_per_part >= blocks);
                CHECK((schedule.parts - 1) * schedule.blocks_per_part < blocks);
            } else {
                CHECK(schedule.channels_per_item >= 1);
            }
            CHECK(schedule.threads >= 1);
            CHECK(schedule.threads <= threads);
        }
    }
}

TEST_CASE("scratch memory stays below 1 % of the tensor plus 64 KiB a thread plus 48 bytes a channel") {
    for (const Shape& shape : shapes()) {
        for (const Workload& workload : {kTraining, kBackward, kBackwardFixed, kInference}) {
            const Geometry geometry = geometry_of(shape, operation_of(workload));
            for (const int threads : {1, 2, 3, 8, 64}) {
                for (const Machine& machine : machines(threads)) {
                    const Schedule schedule = make_schedule(geometry, workload, machine);
                    INFO("shape ", shape, ", reductions ", workload.reductions, ", threads ", threads);
                    CHECK(schedule.scratch_bytes <= geometry.elements() * 4 / 100 +
                                                        std::int64_t{65536} * schedule.threads +
                                                        48 * geometry.channels);
                }
            }
        }
    }
}

TEST_CASE("mask rows hold a bit for every column, each unit of 16 columns in bytes of its own") {
    for (const Shape& shape : shapes()) {
        const Geometry geometry = geometry_of(shape);
        INFO("shape ", shape);
        CHECK(geometry.mask_row_bytes * 8 >= geometry.row_length);
        CHECK(geometry.mask_bit(geometry.row_length - 1) < geometry.mask_row_bytes * 8);
        CHECK(geometry.mask_bytes() >= geometry.elements() / 8);
        // Every row is padded to 16 bits, and the last, which may be shorter, to a whole row.
        CHECK(geometry.mask_bytes() <=
              geometry.elements() * 7 / 48 + (geometry.rows + 2) * 2 + geometry.mask_row_bytes);
    }
}

// What forward writes backward reads, whatever rows each of them makes of a tensor.
TEST_CASE("forward and backward agree on every bit of a mask") {
    for (const Shape& shape : shapes()) {
        const Geometry forward = geometry_of(shape);
        const auto bit_of = [](const Geometry& geometry, std::int64_t element) {
            return element / geometry.row_length * geometry.mask_row_bytes * 8 +
                   geometry.mask_bit(element % geometry.row_length);
        };
        for (const bnorm_operation operation : {BNORM_BACKWARD, BNORM_BACKWARD_FIXED, BNORM_GRADIENT_SUMS,
                                                BNORM_GRADIENT_APPLY, BNORM_APPLY, BNORM_INFERENCE}) {
            const Geometry other = geometry_of(shape, operation);
            INFO("shape ", shape, ", operation ", operation);
            CHECK(forward.mask_bytes() == other.mask_bytes());
            for (std::int64_t element = 0; element < forward.elements(); element += forward.elements() / 1000 + 1) {
                REQUIRE(bit_of(forward, element) == bit_of(other, element));
            }
            CHECK(bit_of(forward, forward.elements() - 1) == bit_of(other, forward.elements() - 1));
        }
    }
}

TEST_CASE(
    "gradients of large tensors of few channels are summed in rows of a single panel, in blocks as large as else") {
    for (const std::int64_t channels : {16, 32, 64}) {
        const Shape shape = {BNORM_NHWC, 32, channels, 12544};
        const Geometry forward = geometry_of(shape);
        const Geometry backward = geometry_of(shape, BNORM_BACKWARD);
        CHECK(forward.row_length == 256);
        CHECK(backward.row_length == 64);
        CHECK(backward.grid.rows_per_block * backward.row_length == forward.grid.rows_per_block * forward.row_length);
    }
    CHECK(geometry_of({BNORM_NHWC, 32, 128, 3136}, BNORM_BACKWARD).row_length == 256);
}

// The machine has a last-level cache of 32 MiB; these tensors have 3, 6.1, 12.25 and 24.5 MiB.
TEST_CASE("outputs bypass the cache where that is faster") {
    const auto streams = [](const Workload& workload, std::int64_t channels, int threads) {
        return make_schedule(geometry_of({BNORM_NHWC, 32, channels, 784}), workload, machine(threads)).stream;
    };
    for (const int threads : {1, 2}) {
        INFO("threads ", threads);
        for (const Workload& workload : {kTraining, kBackward, kInference}) {
            CHECK(!streams(workload, 32, threads));
            CHECK(streams(workload, 128, threads) == (threads == 1 || workload.reductions > 0));
            CHECK(streams(workload, 256, threads));
        }
        CHECK(streams(kBackward, 64, threads) == (threads == 1));
        CHECK(!streams(kTraining, 64, threads));
        CHECK(!streams(kInference, 64, threads));
    }
}

TEST_CASE("where a store that misses L2 waits for its line, training writes past all caches, inference does not") {
    const auto streams = [](const Workload& workload, std::int64_t channels, int threads) {
        return make_schedule(geometry_of({BNORM_NHWC, 1, channels, 784}), workload, large_machine(threads, true))
            .stream;
    };
    // From what L2 holds on, of all that is moved; of several threads', seven eighths. 256 channels are 0.8 MB; one
    // thread has 2 MiB of L2, two have 4.
    CHECK(!streams(kTraining, 334, 1));
    CHECK(streams(kTraining, 335, 1));
    CHECK(!streams(kBackward, 222, 1));
    CHECK(streams(kBackward, 223, 1));
    CHECK(!streams(kBackward, 256, 2));
    CHECK(streams(kTraining, 640, 1));
    CHECK(streams(kTraining, 640, 2));
    CHECK(!streams(kInference, 640, 1));
    CHECK(!streams(kInference, 2048, 1));
    CHECK(!streams(kInference, 2048, 2));
    CHECK(streams(kInference, 8192, 1));
    CHECK(streams(kTraining, 8192, 64)); // what 64 cores have of L2 is more than outputs keep of the last level
}

TEST_CASE("there inference writes past the caches sooner on one thread, in NHWC, and where it reads more") {
    // The least of all that is moved, in sixths of the 64 MiB of cache that outputs are given.
    const auto sixths = [](const Workload& workload, bnorm_layout layout, int threads) {
        std::int64_t channels = 16;
        while (!make_schedule(geometry_of({layout, 8, channels, 784}), workload, large_machine(threads, true)).stream) {
            channels += 16;
        }
        return channels * 8 * 784 * 4 * workload.streams * 6 / (64 * kMebi);
    };
    Workload residual = kInference;
    ++residual.streams;
    CHECK(sixths(kInference, BNORM_NHWC, 1) == 2);
    CHECK(sixths(kInference, BNORM_NHWC, 2) == 3);
    CHECK(sixths(kInference, BNORM_NCHW, 1) == 3);
    CHECK(sixths(kInference, BNORM_NCHW, 2) == 4);
    CHECK(sixths(residual, BNORM_NHWC, 1) == 2);
    CHECK(sixths(residual, BNORM_NHWC, 2) == 2);
    CHECK(sixths(residual, BNORM_NCHW, 1) == 2);
    CHECK(sixths(residual, BNORM_NCHW, 2) == 3);
}

TEST_CASE("small tensors are one thread's, larger ones where cores are far from each other or fast") {
    const auto threads = [](const Workload& workload, bnorm_layout layout, std::int64_t channels,
                            const Machine& machine) {
        return make_schedule(geometry_of({layout, 1, channels, 196}), workload, machine).threads;
    };
    const Machine near = large_machine(2, false);
    const Machine far = large_machine(2, true);
    const Machine fast = fast_machine(2, true);
    for (const bnorm_layout layout : {BNORM_NCHW, BNORM_NHWC}) {
        CHECK(threads(kTraining, layout, 128, near) == 1);
        CHECK(threads(kTraining, layout, 256, near) == 2);
        CHECK(threads(kInference, layout, 256, near) == 2);
        CHECK(threads(kInference, layout, 256, far) == 1);
        CHECK(threads(kInference, layout, 1024, far) == 2);
    }
    CHECK(threads(kTraining, BNORM_NCHW, 256, far) == 2);
    CHECK(threads(kInference, BNORM_NCHW, 512, far) == 2);
    CHECK(threads(kTraining, BNORM_NHWC, 448, far) == 1);
    CHECK(threads(kTraining, BNORM_NHWC, 512, far) == 2);
    CHECK(threads(kBackwardSaved, BNORM_NHWC, 416, far) == 1);
    CHECK(threads(kBackwardSaved, BNORM_NHWC, 448, far) == 2);
    // A mebibyte in all, with the sums of planes three quarters.
    CHECK(threads(kTraining, BNORM_NHWC, 656, fast) == 1);
    CHECK(threads(kTraining, BNORM_NHWC, 672, fast) == 2);
    CHECK(threads(kBackwardSaved, BNORM_NHWC, 432, fast) == 1);
    CHECK(threads(kBackwardSaved, BNORM_NHWC, 448, fast) == 2);
    CHECK(threads(kInference, BNORM_NCHW, 656, fast) == 1);
    CHECK(threads(kTraining, BNORM_NCHW, 496, fast) == 1);
    CHECK(threads(kTraining, BNORM_NCHW, 512, fast) == 2);
}

TEST_CASE("the next slab is fetched where it comes faster, in slabs of an eighth of L2") {
    const auto schedule = [](const Workload& workload, std::int64_t channels, std::int64_t plane, bool past_l2,
                             int threads = 1) {
        return make_schedule(geometry_of({BNORM_NCHW, 8, channels, plane}), workload, large_machine(threads, past_l2));
    };
    CHECK(!schedule(kBackwardSaved, 256, 784, false).prefetch);
    CHECK(schedule(kBackwardSaved, 256, 784, true).prefetch);
    CHECK(schedule(kBackwardSaved, 256, 512, true).prefetch);
    CHECK(!schedule(kBackwardSaved, 256, 511, true).prefetch);
    CHECK(!schedule(kBackwardSaved, 2048, 49, true).prefetch);
    CHECK(!schedule(kBackwardSaved, 2048, 49, false).prefetch);
    CHECK(!schedule(kTraining, 8192, 49, true).prefetch);
    CHECK(schedule(kTraining, 8192, 49, false).prefetch); // from four times L2 on
    CHECK(!schedule(kTraining, 1024, 196, true).prefetch);
    CHECK(!schedule(kTraining, 256, 784, false).prefetch);
    CHECK(schedule(kTraining, 256, 784, true).prefetch);
    constexpr Workload kGradientApplyBySlabs = {0, true, 5, 2, 3};
    CHECK(!schedule(kGradientApplyBySlabs, 256, 784, true).prefetch);
    CHECK(!schedule(kTrainingResidual, 64, 3136, true).prefetch);
    CHECK(!schedule(kInference, 64, 3136, true).prefetch);
    CHECK(!schedule(kBackwardSaved, 48, 784, true).prefetch); // 2.4 MB of x and dy
    CHECK(schedule(kBackwardSaved, 64, 784, true).prefetch);  // 3.2
    CHECK(!schedule(kBackwardSaved, 64, 784, true, 2).prefetch);
    CHECK(schedule(kBackwardSaved, 128, 784, true, 2).prefetch);
    CHECK(schedule(kTraining, 64, 784, false).ask_again);
    CHECK(!schedule(kTraining, 64, 784, true).ask_again);

    const auto slab_bytes = [&](const Workload& workload, std::int64_t channels, bool past_l2) {
        return schedule(workload, channels, 784, past_l2).channels_per_item * 8 * 784 * 4 * workload.cached_tensors;
    };
    const auto is_half = [](std::int64_t bytes) { return bytes > kMebi / 2 && bytes <= kMebi; };
    const auto is_eighth = [](std::int64_t bytes) { return bytes > kMebi / 8 && bytes <= kMebi / 4; };
    CHECK(is_half(slab_bytes(kBackwardSaved, 256, false)));
    CHECK(is_eighth(slab_bytes(kBackwardSaved, 256, true)));
    CHECK(is_half(slab_bytes(kTrainingResidual, 256, false)));
    CHECK(is_eighth(slab_bytes(kTrainingResidual, 256, true))); // no slab is fetched
    CHECK(is_eighth(slab_bytes(kTrainingResidual, 112, true)));
    CHECK(is_half(slab_bytes(kTrainingResidual, 96, true))); // 2.4 MB of x

    // x and dy of 49 and 98 MiB
    CHECK(schedule(kBackwardSaved, 256, 3136, false).from_memory);
    CHECK(!schedule(kBackwardSaved, 256, 3136, true).from_memory);
    CHECK(schedule(kBackwardSaved, 256, 3136, true).prefetch);
    CHECK(schedule(kBackwardSaved, 512, 3136, true).from_memory);
    CHECK(schedule(kTraining, 512, 3136, true).from_memory);

    // channels of 1 and 1.05 MB of x and dy
    CHECK(schedule(kBackwardSaved, 256, 16384, true).prefetch);
    CHECK(!schedule(kBackwardSaved, 256, 16640, true).prefetch);
    CHECK(schedule(kBackwardSaved, 256, 16640, false).prefetch);
    CHECK(schedule(kTraining, 256, 16640, true).prefetch);
    CHECK(!schedule(kBackwardSaved, 50, 16384, true).from_memory);
    CHECK(schedule(kBackwardSaved, 50, 16640, true).from_memory);
}

// Again 32 MiB. Backward of 8x256x28x28 moves 18.4 MiB; fetched ahead as if x and dy came from memory, it took 1.05 to
// 1.3 times as long.
TEST_CASE("columns count as from memory by all that an operation moves, planes by what it reduces") {
    constexpr Workload kMoments = {1, false, 0, 1, 1};
    const auto from_memory = [](bnorm_layout layout, std::int64_t batch, const Workload& workload) {
        return make_schedule(geometry_of({layout, batch, 256, 784}, operation_of(workload)), workload, machine(1))
            .from_memory;
    };
    CHECK(!from_memory(BNORM_NHWC, 8, kBackwardSaved));
    CHECK(from_memory(BNORM_NHWC, 10, kBackwardSaved));
    CHECK(from_memory(BNORM_NHWC, 8, kBackwardResidual));
    CHECK(!from_memory(BNORM_NHWC, 13, kTraining));
    CHECK(from_memory(BNORM_NHWC, 14, kTraining));
    CHECK(!from_memory(BNORM_NHWC, 13, kMoments));
    CHECK(from_memory(BNORM_NHWC, 14, kMoments));
    CHECK(!from_memory(BNORM_NCHW, 6, kBackwardSaved));
    CHECK(from_memory(BNORM_NCHW, 8, kBackwardSaved));
}

// Planes of one image follow each other, and hardware follows them; short planes come no faster by being fetched
// ahead, but where caches are fast.
TEST_CASE("executions find out where tensors are that would fit the last-level cache, if it matters") {
    const auto probes = [](const Shape& shape, const Workload& workload) {
        return make_schedule(geometry_of(shape, operation_of(workload)), workload, machine(1)).probes;
    };
    CHECK(probes({BNORM_NHWC, 1, 256, 256}, kTraining)); // 256 KiB
    CHECK(!probes({BNORM_NHWC, 1, 256, 255}, kTraining));
    CHECK(probes({BNORM_NHWC, 8, 256, 784}, kBackwardSaved));
    CHECK(!probes({BNORM_NHWC, 10, 256, 784}, kBackwardSaved)); // from memory at any rate
    CHECK(!probes({BNORM_NHWC, 8, 256, 784}, kInference));      // reduces nothing
    CHECK(probes({BNORM_NCHW, 8, 128, 784}, kTraining));
    CHECK(!probes({BNORM_NCHW, 1, 1024, 784}, kTraining));
    CHECK(!probes({BNORM_NCHW, 8, 2048, 49}, kTraining));
}

TEST_CASE(
    "where caches are fast it matters to planes of one image and to short ones, but to x alone if they are both") {
    const auto probes = [](const Shape& shape, const Workload& workload) {
        return make_schedule(geometry_of(shape, operation_of(workload)), workload, fast_machine(1, true)).probes;
    };
    CHECK(probes({BNORM_NCHW, 8, 2048, 49}, kTraining));
    CHECK(probes({BNORM_NCHW, 1, 1024, 784}, kTraining));
    CHECK(!probes({BNORM_NCHW, 1, 2048, 49}, kTraining));
    CHECK(probes({BNORM_NCHW, 1, 2048, 49}, kBackwardSaved));
    CHECK(probes({BNORM_NCHW, 1, 128, 128}, kTraining)); // 64 KiB
    CHECK(!probes({BNORM_NCHW, 1, 128, 127}, kTraining));
    CHECK(!probes({BNORM_NCHW, 2, 128, 128}, kTraining));
}

TEST_CASE("there channels are summed beside outputs that pass the caches, if L2 holds two, or one fills it, or no "
          "cache all") {
    const auto on_server = [](std::int64_t channels, bool past_l2) {
        return make_schedule(geometry_of({BNORM_NCHW, 8, channels, 784}), kBackwardSaved, large_machine(1, past_l2))
            .channels_beside;
    };
    CHECK(on_server(512, true) == 256);
    CHECK(on_server(512, false) == 0);
    CHECK(on_server(16, true) == 0); // stored in caches
    const auto of_large_channels = [](std::int64_t channels, const Workload& workload) {
        return make_schedule(geometry_of({BNORM_NCHW, 32, channels, 12544}, operation_of(workload)), workload,
                             large_machine(1, true))
            .channels_beside;
    };
    CHECK(of_large_channels(64, kBackwardResidual) == 64); // 206 MB of 3 MB each
    CHECK(of_large_channels(64, kBackwardSaved) == 64);
    CHECK(of_large_channels(56, kBackwardResidual) == 56);
    CHECK(of_large_channels(56, kBackwardSaved) == 0);
    CHECK(of_large_channels(40, kBackwardResidual) == 0); // in the last-level cache
    CHECK(on_server(2048, true) == 256);                  // from memory
    const auto beside = [](const Shape& shape, const Workload& workload, int threads = 1, bool fast = true) {
        return make_schedule(geometry_of(shape, operation_of(workload)), workload, fast_machine(threads, fast))
            .channels_beside;
    };
    CHECK(beside({BNORM_NCHW, 8, 256, 784}, kBackwardSaved) == 256);  // of 12.8 MB from caches
    CHECK(beside({BNORM_NCHW, 8, 256, 784}, kBackwardSaved, 2) == 0); // stored in caches
    CHECK(beside({BNORM_NCHW, 8, 512, 784}, kBackwardSaved, 2) == 0); // from memory
    CHECK(beside({BNORM_NCHW, 8, 512, 784}, kBackwardResidual) == 256);
    CHECK(beside({BNORM_NCHW, 8, 512, 784}, kBackwardResidual, 2) == 64);
    CHECK(beside({BNORM_NCHW, 8, 512, 784}, kBackwardResidual, 1, false) == 0);
    CHECK(beside({BNORM_NCHW, 8, 128, 784}, kBackwardResidual) == 0);    // stored in caches
    CHECK(beside({BNORM_NCHW, 32, 512, 196}, kBackwardResidual) == 256); // by four, whose cache lines are their own
    CHECK(beside({BNORM_NCHW, 32, 300, 196}, kBackwardResidual, 2) == 40);
    CHECK(beside({BNORM_NCHW, 32, 36, 3136}, kBackwardResidual, 8) == 0); // of two, some threads would take six
    CHECK(beside({BNORM_NCHW, 32, 514, 196}, kBackwardResidual) == 0);
    CHECK(beside({BNORM_NCHW, 32, 512, 198}, kBackwardResidual) == 0); // by eight
    CHECK(beside({BNORM_NCHW, 32, 2048, 49}, kBackwardResidual) == 0);
    CHECK(beside({BNORM_NCHW, 8, 512, 784}, kTraining) == 0);
    CHECK(beside({BNORM_NCHW, 16, 128, 3136}, kBackwardResidual) == 128); // 392 KiB a channel
    CHECK(beside({BNORM_NCHW, 20, 128, 3136}, kBackwardResidual) == 0);
    CHECK(beside({BNORM_NCHW, 32, 128, 3136}, kBackwardResidual) == 128); // 784 KiB
    CHECK(beside({BNORM_NCHW, 32, 128, 3136}, kBackwardSaved) == 0);
    CHECK(beside({BNORM_NCHW, 48, 128, 3136}, kBackwardResidual) == 0);
}

TEST_CASE(
    "columns that one thread of Intel's servers takes come from memory beyond half of the cache, x beyond a sixth") {
    const auto from_memory = [](std::int64_t pixels, const Workload& workload, int threads, bool past_l2,
                                std::int64_t channels = 256) {
        return make_schedule(geometry_of({BNORM_NHWC, 8, channels, pixels}, operation_of(workload)), workload,
                             large_machine(threads, past_l2))
            .from_memory;
    };
    CHECK(from_memory(2731, kBackwardSaved, 1, true)); // dy, x and dx are more than 64 of 128 MiB
    CHECK(!from_memory(2730, kBackwardSaved, 1, true));
    CHECK(!from_memory(2731, kBackwardSaved, 2, true));
    CHECK(!from_memory(2731, kBackwardSaved, 1, false));
    CHECK(from_memory(2100, kBackwardResidual, 1, true));
    CHECK(from_memory(2731, kTraining, 1, true)); // x is more than 21.3 MiB
    CHECK(!from_memory(2730, kTraining, 1, true));
    CHECK(!from_memory(2731, kTraining, 2, true));
    CHECK(!from_memory(2731, kTraining, 1, false));
    CHECK(!from_memory(2731, kTraining, 1, true, 257));
    CHECK(!from_memory(2730, kTrainingResidual, 1, true));
}

TEST_CASE("outputs beside sums are written from the last image to the first if L2 holds no two of the channels, whose "
          "planes are long") {
    const auto last_first = [](const Shape& shape, const Workload& workload, std::int64_t unit) {
        const Schedule schedule =
            make_schedule(geometry_of(shape, operation_of(workload)), workload, large_machine(1, true));
        CHECK(schedule.unit_beside == unit);
        return schedule.last_image_first;
    };
    CHECK(last_first({BNORM_NCHW, 32, 64, 12544}, kBackwardSaved, 1));
    CHECK(last_first({BNORM_NCHW, 32, 64, 12544}, kTrainingResidual, 1));
    CHECK(last_first({BNORM_NCHW, 33, 128, 65536}, kTraining, 1));
    CHECK(last_first({BNORM_NCHW, 64, 64, 4096}, kBackwardResidual, 1));
    CHECK(!last_first({BNORM_NCHW, 65, 64, 4080}, kBackwardResidual, 1));
    CHECK(!last_first({BNORM_NCHW, 8, 128, 12544}, kBackwardSaved, 1)); // L2 holds two
    CHECK(!last_first({BNORM_NCHW, 8, 128, 12544}, kTraining, 1));
    CHECK(!last_first({BNORM_NCHW, 20, 16, 12544}, kTrainingResidual, 0)); // not beside any
}

TEST_CASE("on Intel's servers moments are summed beside outputs that pass the caches, of several channels at a time") {
    const auto schedule_of = [](const Shape& shape, const Workload& workload, int threads = 1) {
        return make_schedule(geometry_of(shape, operation_of(workload)), workload, large_machine(threads, true));
    };
    const auto unit = [&](const Shape& shape, const Workload& workload = kTraining, int threads = 1) {
        return schedule_of(shape, workload, threads).unit_beside;
    };
    CHECK(unit({BNORM_NCHW, 8, 512, 784}) == 4); // 98 KiB
    CHECK(schedule_of({BNORM_NCHW, 8, 512, 784}, kTraining).channels_beside == 256);
    CHECK(schedule_of({BNORM_NCHW, 8, 512, 784}, kTraining, 2).channels_beside == 64);
    CHECK(unit({BNORM_NCHW, 8, 511, 784}) == 1);
    CHECK(unit({BNORM_NCHW, 8, 510, 784}) == 2);
    CHECK(unit({BNORM_NCHW, 1, 512, 3136}) == 8);
    // Two units an item at least, four items a thread.
    CHECK(unit({BNORM_NCHW, 1, 2048, 3136}, kTraining, 32) == 8);
    CHECK(unit({BNORM_NCHW, 1, 2048, 3136}, kTraining, 64) == 4);
    CHECK(unit({BNORM_NCHW, 1, 2048, 3136}, kTraining, 128) == 2);
    CHECK(unit({BNORM_NCHW, 1, 2048, 3136}, kTraining, 512) == 0);
    CHECK(unit({BNORM_NCHW, 32, 512, 196}) == 4);
    CHECK(unit({BNORM_NCHW, 32, 514, 196}) == 0); // whose last two share a cache line
    CHECK(unit({BNORM_NCHW, 8, 128, 12544}) == 1);
    CHECK(unit({BNORM_NCHW, 8, 32, 784}) == 0); // stored in caches
    // L2 holds no two of them: from memory beside a residual, without one from more of it.
    CHECK(unit({BNORM_NCHW, 20, 16, 12544}, kTrainingResidual) == 0);
    CHECK(unit({BNORM_NCHW, 32, 32, 12544}, kTrainingResidual) == 1);
    CHECK(unit({BNORM_NCHW, 32, 32, 12544}) == 0);
    CHECK(unit({BNORM_NCHW, 32, 64, 12544}) == 1);
    CHECK(unit({BNORM_NCHW, 32, 64, 12544}, kTraining, 2) == 0);
    CHECK(unit({BNORM_NCHW, 33, 128, 65536}, kTraining, 2) == 1);
    CHECK(unit({BNORM_NCHW, 32, 32, 12544}, kTrainingResidual, 2) == 1);
    CHECK(unit({BNORM_NCHW, 1, 64, 401408}, kTrainingResidual) == 0);
    CHECK(unit({BNORM_NCHW, 32, 2048, 49}) == 0);
    CHECK(unit({BNORM_NCHW, 32, 2048, 49}, kTrainingResidual) == 16);
    CHECK(unit({BNORM_NCHW, 8, 2048, 49}, kTrainingResidual) == 64);
    CHECK(make_schedule(geometry_of({BNORM_NCHW, 8, 512, 784}), kTraining, fast_machine(1, true)).unit_beside == 0);
}

TEST_CASE("there planes of one image stay in L1 from sums to outputs: forward past L2, and not past all caches") {
    const auto in_l1 = [](const Shape& shape, const Workload& workload, int threads = 1, bool fast = true) {
        return make_schedule(geometry_of(shape, operation_of(workload)), workload, fast_machine(threads, fast))
            .channels_in_l1;
    };
    CHECK(in_l1({BNORM_NCHW, 1, 512, 784}, kBackwardSaved) == 4); // of 26 KiB, dy and x
    CHECK(in_l1({BNORM_NCHW, 1, 512, 784}, kBackwardSaved, 2) == 4);
    CHECK(in_l1({BNORM_NCHW, 1, 512, 784}, kBackwardSaved, 1, false) == 0);
    CHECK(in_l1({BNORM_NCHW, 8, 512, 784}, kBackwardSaved) == 0);
    CHECK(in_l1({BNORM_NCHW, 1, 512, 3136}, kBackwardSaved) == 1);
    CHECK(in_l1({BNORM_NCHW, 1, 512, 4096}, kBackwardSaved) == 1); // 32 KiB
    CHECK(in_l1({BNORM_NCHW, 1, 512, 4112}, kBackwardSaved) == 0);
    CHECK(in_l1({BNORM_NCHW, 1, 2048, 49}, kBackwardSaved) == 64); // whole cache lines of dx
    CHECK(in_l1({BNORM_NCHW, 1, 512, 100}, kBackwardSaved) == 32); // four of 100 elements are
    CHECK(in_l1({BNORM_NCHW, 1, 8192, 784}, kBackwardSaved) == 4); // stored past all caches
    CHECK(in_l1({BNORM_NCHW, 1, 512, 784}, kTraining) == 8);
    CHECK(in_l1({BNORM_NCHW, 1, 128, 784}, kTraining) == 0); // 0.8 MB in all
    CHECK(in_l1({BNORM_NCHW, 1, 8192, 784}, kTraining) == 0);
    CHECK(in_l1({BNORM_NCHW, 1, 512, 4112}, kTraining) == 0); // two blocks a channel
    CHECK(in_l1({BNORM_NCHW, 1, 512, 784}, kInference) == 0);
    const auto on_server = [](bool past_l2) {
        return make_schedule(geometry_of({BNORM_NCHW, 1, 512, 784}), kBackwardSaved, large_machine(1, past_l2))
            .channels_in_l1;
    };
    CHECK(on_server(true) == 4);
    CHECK(on_server(false) == 0);
}

TEST_CASE("gradients of columns are summed in the order of memory past the cache, where it pays in caches, too") {
    const auto schedule = [](bnorm_layout layout, std::int64_t channels, bool pays) {
        return make_schedule(geometry_of({layout, 8, channels, 196}, BNORM_BACKWARD), kBackwardSaved,
                             fast_machine(1, pays));
    };
    for (const std::int64_t channels : {std::int64_t{64}, std::int64_t{128}, std::int64_t{256}, std::int64_t{512}}) {
        CHECK(!schedule(BNORM_NHWC, channels, false).sums_in_order);
        CHECK(schedule(BNORM_NHWC, channels, true).sums_in_order == (channels >= 128));
        CHECK(schedule(BNORM_NHWC, channels, false).sums_in_order_past_cache == (channels <= 256));
    }
    CHECK(!schedule(BNORM_NCHW, 512, true).sums_in_order);
    CHECK(schedule(BNORM_NHWC, 64, true).fits_l2); // x and dy of 0.8 MB
    CHECK(!schedule(BNORM_NHWC, 128, true).fits_l2);
}

// From 6 MB of x and dy on 1.02 to 1.06 times as fast, from 50 MB on 1.1 to 1.2; in L2 0.78 to 0.95, 512 to 1024
// columns of 6 to 13 MB 0.97 to 1.05.
TEST_CASE("gradients of columns are summed in the order of memory beyond L2 where training is best stored past that") {
    const auto schedule = [](std::int64_t channels, std::int64_t pixels, int threads, const Workload& workload) {
        return make_schedule(geometry_of({BNORM_NHWC, 8, channels, pixels}, BNORM_BACKWARD), workload,
                             large_machine(threads, true));
    };
    CHECK(schedule(128, 784, 1, kBackwardSaved).sums_in_order);
    CHECK(!schedule(128, 784, 2, kBackwardSaved).sums_in_order);
    CHECK(!schedule(128, 576, 1, kBackwardSaved).sums_in_order);
    CHECK(!schedule(64, 3136, 1, kBackwardSaved).sums_in_order);
    CHECK(!schedule(512, 196, 1, kBackwardSaved).sums_in_order);
    CHECK(schedule(512, 784, 1, kBackwardSaved).sums_in_order);
    CHECK(schedule(128, 784, 1, kBackwardSaved).in_order_into_l1);
}

TEST_CASE("there whole rows are read where panels would share sets of L1, and come from more of the last-level cache") {
    const auto schedule = [](std::int64_t batch, std::int64_t channels, bool fast,
                             const Workload& workload = kTraining) {
        return make_schedule(geometry_of({BNORM_NHWC, batch, channels, 784}), workload, fast_machine(1, fast));
    };
    CHECK(schedule(1, 256, true).reads_whole_rows);
    CHECK(schedule(1, 512, true).reads_whole_rows);
    CHECK(!schedule(1, 512, false).reads_whole_rows);
    CHECK(!schedule(1, 320, true).reads_whole_rows);
    CHECK(!schedule(8, 128, true).reads_whole_rows);
    const std::int64_t batch =
        machine(1).last_level_bytes / (std::int64_t{256} * 784 * 4) / 2; // x and y would fill that cache
    CHECK(!schedule(batch * 3 / 4, 256, true).from_memory);
    CHECK(schedule(batch * 3 / 4, 256, false).from_memory);
    CHECK(schedule(batch * 3 / 4, 256, true, kTrainingResidual).from_memory);
    CHECK(schedule(batch, 256, true).from_memory);
}

// Of 32 MiB, in 8 or 16 images.
TEST_CASE("there planes come from memory beyond half of the last-level cache, a third beside a residual on one core") {
    const auto schedule = [](std::int64_t batch, std::int64_t channels, std::int64_t plane, const Workload& workload,
                             int threads = 1) {
        return make_schedule(geometry_of({BNORM_NCHW, batch, channels, plane}, operation_of(workload)), workload,
                             fast_machine(threads, true));
    };
    CHECK(!schedule(8, 512, 1024, kTraining).from_memory);
    CHECK(schedule(8, 513, 1024, kTraining).from_memory);
    CHECK(!schedule(8, 256, 1024, kBackwardSaved).from_memory);
    CHECK(schedule(8, 257, 1024, kBackwardSaved).from_memory);
    CHECK(!schedule(8, 256, 1024, kBackwardResidual).from_memory);
    CHECK(schedule(8, 352, 1024, kTrainingResidual).from_memory);
    CHECK(!schedule(8, 352, 1024, kTrainingResidual, 2).from_memory);

    // Slabs are of half of L2, of an eighth elsewhere if planes are short.
    const auto slab_of_7x7 = [&](bool fast) {
        return make_schedule(geometry_of({BNORM_NCHW, 32, 512, 49}), kTraining, fast_machine(1, fast))
            .channels_per_item;
    };
    CHECK(slab_of_7x7(true) > 2 * slab_of_7x7(false));

    // Slabs are fetched one ahead from a third on, of short planes from a quarter on; beside a residual where L2 does
    // not hold a channel, or planes are too short for hardware to follow them.
    CHECK(!schedule(8, 340, 1024, kTraining).prefetch);
    CHECK(schedule(8, 344, 1024, kTraining).prefetch);
    CHECK(!schedule(16, 1280, 49, kBackwardSaved).prefetch);
    CHECK(schedule(16, 1360, 49, kBackwardSaved).prefetch);
    CHECK(!schedule(8, 704, 1024, kTrainingResidual).prefetch);
    CHECK(schedule(8, 2816, 256, kTrainingResidual).prefetch);
    CHECK(!schedule(16, 88, 16384, kTrainingResidual).prefetch); // channels of 1 MiB
    CHECK(schedule(16, 80, 16640, kTrainingResidual).prefetch);
}

TEST_CASE("there sums of planes of whole vectors join what does not wait for them") {
    const auto joins_on = [](bnorm_layout layout, std::int64_t plane, const Machine& on) {
        return make_schedule(geometry_of({layout, 8, 64, plane}, BNORM_BACKWARD_FIXED), kBackwardFixed, on)
            .joins_passes;
    };
    const auto joins = [&](bnorm_layout layout, std::int64_t plane, bool fast = true) {
        return joins_on(layout, plane, fast_machine(1, fast));
    };
    CHECK(joins_on(BNORM_NCHW, 784, large_machine(1, true)));
    CHECK(!joins_on(BNORM_NCHW, 784, large_machine(1, false)));
    CHECK(joins(BNORM_NCHW, 784));
    CHECK(!joins(BNORM_NCHW, 784, false));
    CHECK(!joins(BNORM_NCHW, 196));
    CHECK(!joins(BNORM_NCHW, 64)); // short: summed together, or otherwise
    CHECK(joins(BNORM_NHWC, 784, false));
}

TEST_CASE("planes in the order of memory are fetched ahead forward, where outputs are stored past L2") {
    constexpr Workload kMoments = {1, false, 0, 1, 1};
    const auto ahead = [](const Workload& workload, std::int64_t channels, bool past_l2, int threads = 1) {
        return make_schedule(geometry_of({BNORM_NCHW, 32, channels, 784}, operation_of(workload)), workload,
                             large_machine(threads, past_l2))
            .ahead_in_order;
    };
    CHECK(ahead(kInference, 256, true) == 2048); // 51 MB of all
    CHECK(ahead(kInference, 256, true, 2) == 2048);
    CHECK(ahead(kInference, 128, true) == 0); // stored in caches
    CHECK(ahead(kInference, 256, false) == 0);
    CHECK(ahead(kGradientApply, 256, true) == 0);
    CHECK(ahead(kTraining, 256, true) == 0);
    CHECK(ahead(kMoments, 256, true) == 0);
}

TEST_CASE("rows of gradients too long for L1 are taken whole by one thread where outputs are stored past L2") {
    const auto whole_rows = [](std::int64_t batch, std::int64_t channels, const Workload& workload, bool past_l2) {
        return make_schedule(geometry_of({BNORM_NHWC, batch, channels, 49}, operation_of(workload)), workload,
                             large_machine(1, past_l2))
                   .strategy == Strategy::by_parts;
    };
    CHECK(whole_rows(16, 2048, kBackwardSaved, true));
    CHECK(!whole_rows(16, 2048, kBackwardSaved, false));
    CHECK(whole_rows(16, 1792, kBackwardSaved, false));
    CHECK(!whole_rows(4, 2048, kBackwardSaved, true)); // 196 rows
}

TEST_CASE("there gradients that wait for no sums are applied in the order of memory") {
    const auto images = [](bnorm_layout layout, const Machine& on) {
        const Schedule schedule =
            make_schedule(geometry_of({layout, 8, 64, 3136}, BNORM_GRADIENT_APPLY), kGradientApply, on);
        return schedule.strategy == Strategy::by_parts && schedule.apply_channels > 0;
    };
    CHECK(images(BNORM_NCHW, fast_machine(1, true)));
    CHECK(!images(BNORM_NCHW, fast_machine(1, false)));
    CHECK(images(BNORM_NCHW, large_machine(1, true)));
    CHECK(!images(BNORM_NCHW, large_machine(1, false)));
    CHECK(!images(BNORM_NHWC, fast_machine(1, true))); // rows are in that order
}

// From 3.4 MiB of all tensors on.
TEST_CASE("there residuals are fetched where outputs are stored past the caches, of planes that L2 holds beside them") {
    const auto fetches = [](std::int64_t batch, std::int64_t channels, std::int64_t plane,
                            const Workload& workload = kTrainingResidual, bool fast = true) {
        return make_schedule(geometry_of({BNORM_NCHW, batch, channels, plane}, operation_of(workload)), workload,
                             fast_machine(1, fast))
            .fetches_residual;
    };
    CHECK(fetches(8, 512, 784));
    CHECK(!fetches(8, 512, 784, kTrainingResidual, false));
    CHECK(!fetches(8, 512, 784, kTraining));
    CHECK(!fetches(8, 512, 784, kBackwardResidual));
    CHECK(!fetches(8, 16, 784)); // in cache
    CHECK(!fetches(1, 512, 6272));
    CHECK(!fetches(32, 2048, 256));
    CHECK(fetches(32, 2048, 272));
    CHECK(fetches(16, 88, 16384));
    CHECK(!fetches(16, 80, 16640));
}

TEST_CASE("there gradients of planes in memory are summed image by image, in slabs of at least four channels") {
    const auto by_images = [](std::int64_t batch, std::int64_t plane, const Workload& workload = kBackwardSaved,
                              int threads = 1, bool fast = true) {
        return make_schedule(geometry_of({BNORM_NCHW, batch, 2048, plane}, operation_of(workload)), workload,
                             fast_machine(threads, fast))
            .sums_by_images;
    };
    CHECK(by_images(32, 196));
    CHECK(by_images(32, 196, kBackwardSaved, 2));
    CHECK(!by_images(32, 196, kBackwardSaved, 1, false));
    CHECK(!by_images(32, 196, kTraining));
    CHECK(!by_images(1, 196));
    CHECK(!by_images(32, 64)); // short ones are summed together, or otherwise
    CHECK(!by_images(8, 64));
    CHECK(by_images(8, 784));
    CHECK(!by_images(8, 784, kBackwardSaved, 2));
    CHECK(by_images(32, 512)); // 128 KiB a channel
    CHECK(!by_images(32, 528));
    CHECK(!by_images(2, 4112)); // planes of two blocks
}

TEST_CASE("there rows of up to 256 columns and planes are fetched into L1, short ones if they have a mask") {
    const auto into_l1 = [](std::int64_t plane, const Workload& workload, bool fast) { // of planes
        return make_schedule(geometry_of({BNORM_NCHW, 32, 512, plane}, BNORM_BACKWARD), workload, fast_machine(1, fast))
            .into_l1;
    };
    CHECK(into_l1(784, kBackwardSaved, true));
    CHECK(!into_l1(784, kBackwardSaved, false));
    CHECK(!into_l1(196, kBackwardSaved, true));
    CHECK(into_l1(196, kBackwardResidual, true));
    const auto columns_into_l1 = [](std::int64_t channels) {
        return make_schedule(geometry_of({BNORM_NHWC, 32, channels, 784}), kTraining, fast_machine(1, true)).into_l1;
    };
    CHECK(columns_into_l1(256));
    CHECK(!columns_into_l1(512));
}

TEST_CASE("there two inputs are fetched into L1 beside outputs that are stored past the caches, and asked for often") {
    for (const bool fast : {false, true}) {
        const Schedule schedule =
            make_schedule(geometry_of({BNORM_NHWC, 32, 256, 784}), kTrainingResidual, fast_machine(1, fast));
        CHECK(schedule.inputs_into_l1 == fast);
        CHECK(schedule.asks_often == fast);
    }
}

TEST_CASE("there rows of outputs that are in memory are fetched if nothing is added to them") {
    const auto fetches = [](const Workload& workload, bool fast) {
        const Geometry geometry = geometry_of({BNORM_NHWC, 1, 256, 784});
        return make_schedule(geometry, workload, fast_machine(1, fast)).fetches_cold_rows;
    };
    CHECK(fetches(kTraining, true));
    CHECK(!fetches(kTrainingResidual, true));
    CHECK(fetches(kTrainingResidual, false));
}

TEST_CASE("outputs of 32 KiB and more are fetched before caches keep them, where training's are best stored past L2") {
    for (const bool past_l2 : {false, true}) {
        Machine server = machine(1);
        server.past_l2 = past_l2;
        CHECK(make_schedule(geometry_of({BNORM_NCHW, 1, 8, 1024}), kInference, server).output_ahead ==
              (past_l2 ? 512 : 0));
        CHECK(make_schedule(geometry_of({BNORM_NCHW, 1, 8, 1023}), kInference, server).output_ahead == 0);
    }
}

TEST_CASE("executions find out which end is nearer where L2 has a good part of their tensors, but not all of them") {
    // Pixels of 1 KiB.
    const auto finds = [](const Workload& workload, std::int64_t pixels, int threads = 1, bool past_l2 = true) {
        return make_schedule(geometry_of({BNORM_NHWC, 1, 256, pixels}), workload, large_machine(threads, past_l2))
            .finds_nearer_end;
    };
    CHECK(!finds(kInference, 768)); // of L2's 2 MiB, x and y are three quarters
    CHECK(finds(kInference, 769));
    CHECK(!finds(kBackwardSaved, 512));
    CHECK(finds(kBackwardSaved, 513));
    CHECK(finds(kInference, 16 << 10)); // eight times L2
    CHECK(!finds(kInference, (16 << 10) + 1));
    CHECK(!finds(kBackwardSaved, (8 << 10) + 1));
    CHECK(finds(kInference, 32 << 10, 2));
    CHECK(!finds(kInference, (32 << 10) + 1, 2));
    CHECK(!finds(kInference, 1536, 2));
    CHECK(finds(kInference, 1537, 2));
    CHECK(!finds(kInference, 2048, 1, false));
}

TEST_CASE("frozen backward takes one pass in cache where rows do not hold each other up") {
    const auto joins = [](std::int64_t channels) {
        const Geometry geometry = geometry_of({BNORM_NHWC, 1, channels, 784}, BNORM_BACKWARD_FIXED);
        return make_schedule(geometry, kBackwardSaved, machine(1)).joins_passes;
    };
    CHECK(joins(256));
    CHECK(joins(495));
    CHECK(!joins(496));
    CHECK(!joins(527));
    CHECK(joins(528));
    CHECK(!joins(1024));
}

// Of whole vectors, so that they need not be; 18 MiB are from memory, 4.5 are not.
TEST_CASE("planes are applied together in cache, and short ones from memory") {
    const auto together = [](std::int64_t channels, std::int64_t plane) {
        return make_schedule(geometry_of({BNORM_NCHW, 32, channels, plane}), kTraining, machine(1)).planes_together;
    };
    CHECK(together(576, 256));
    CHECK(!together(512, 288));
    CHECK(together(128, 288));
    CHECK(together(512, 289));
    const auto one_image_together = [](bool past_l2) {
        const Schedule schedule =
            make_schedule(geometry_of({BNORM_NCHW, 1, 32768, 784}), kBackwardSaved, large_machine(1, past_l2));
        CHECK(schedule.prefetch);
        return schedule.planes_together;
    };
    CHECK(one_image_together(true));
    CHECK(!one_image_together(false));
}

// By ranges of channels two threads took longer than one: what they write lies side by side in every row.
TEST_CASE("several threads share few rows of many channels by parts") {
    for (const Shape& shape :
         {Shape{BNORM_NHWC, 1, 2048, 49}, Shape{BNORM_NHWC, 8, 2048, 49}, Shape{BNORM_NHWC, 256, 4096, 1}}) {
        for (const Workload& workload : {kTraining, kBackward, kBackwardSaved}) {
            INFO("shape ", shape, ", reductions ", workload.reductions);
            CHECK(make_schedule(geometry_of(shape), workload, machine(2)).strategy == Strategy::by_parts);
        }
    }
}

// ... but where they would wait for each other, and cores are far from each other. A row that ends within a page costs
// as much as a few of its elements; what each thread writes must be cache lines of its own.
TEST_CASE("there they take ranges of channels where rows are few and begin at cache lines") {
    const auto schedule = [](const Shape& shape, const Workload& workload, int threads = 2) {
        return make_schedule(geometry_of(shape, operation_of(workload)), workload, large_machine(threads, true));
    };
    const auto by_channels = [&](const Shape& shape, const Workload& workload) {
        return schedule(shape, workload).strategy == Strategy::by_channels && schedule(shape, workload).threads == 2;
    };
    for (const Workload& workload : {kTraining, kBackward, kBackwardSaved}) {
        CHECK(by_channels({BNORM_NHWC, 1, 2048, 49}, workload));
        CHECK(by_channels({BNORM_NHWC, 4, 2048, 49}, workload));
        CHECK(by_channels({BNORM_NHWC, 64, 4096, 1}, workload));
        CHECK(!by_channels({BNORM_NHWC, 8, 2048, 49}, workload));
        CHECK(!by_channels({BNORM_NHWC, 1, 1024, 196}, workload));
        CHECK(!by_channels({BNORM_NHWC, 64, 4104, 1}, workload));  // of 16416 bytes
        CHECK(!by_channels({BNORM_NHWC, 256, 8192, 1}, workload)); // not in L2
    }
    CHECK(by_channels({BNORM_NHWC, 1, 2048, 49}, kInference));
    CHECK(!by_channels({BNORM_NHWC, 1, 1024, 196}, kInference));
    CHECK(schedule({BNORM_NHWC, 1, 2048, 49}, kTraining).channels_per_item == 512);
    CHECK(schedule({BNORM_NHWC, 64, 8192, 1}, kTraining).channels_per_item <= 1024);
    CHECK(schedule({BNORM_NHWC, 1, 1280, 49}, kBackwardSaved).threads == 2);
    CHECK(schedule({BNORM_NHWC, 1, 1280, 49}, kTrainingResidual).threads == 1); // whose masks' cache lines are shared
    CHECK(schedule({BNORM_NHWC, 1, 2048, 49}, kTrainingResidual).threads == 2);
    CHECK(schedule({BNORM_NHWC, 1, 2048, 49}, kBackwardSaved, 64).threads == 4); // a quarter of a mebibyte each
}

TEST_CASE("and where a core is as fast, but of half a mebibyte a thread") {
    const auto schedule = [](const Shape& shape, const Workload& workload) {
        return make_schedule(geometry_of(shape, operation_of(workload)), workload, fast_machine(64, true));
    };
    CHECK(schedule({BNORM_NHWC, 1, 2048, 49}, kBackwardSaved).strategy == Strategy::by_channels);
    CHECK(schedule({BNORM_NHWC, 1, 2048, 49}, kBackwardSaved).threads == 2);
    CHECK(schedule({BNORM_NHWC, 1, 2048, 49}, kTraining).threads == 1);
    CHECK(schedule({BNORM_NHWC, 8, 2048, 49}, kTraining).strategy == Strategy::by_parts);
}

// One thread took up to 1.3 times as long by ranges of channels.
TEST_CASE("one thread takes whole rows of up to 1792 channels, forward of up to 2048, if they are many") {
    const auto check_whole = [](const Shape& shape, const Workload& workload) {
        INFO("shape ", shape, ", reductions ", workload.reductions);
        const Schedule schedule = make_schedule(geometry_of(shape), workload, machine(1));
        CHECK((schedule.strategy == Strategy::by_parts || schedule.channels_per_item == shape.channels));
    };
    for (const Shape& shape : {Shape{BNORM_NHWC, 1, 1024, 196}, Shape{BNORM_NHWC, 8, 1024, 49},
                               Shape{BNORM_NHWC, 8, 1280, 49}, Shape{BNORM_NHWC, 8, 1792, 49}}) {
        for (const Workload& workload : {kTraining, kBackward, kBackwardSaved}) {
            check_whole(shape, workload);
        }
    }
    check_whole({BNORM_NHWC, 8, 2048, 49}, kTraining);
}

TEST_CASE("columns whose parameters would fill L1 are applied in panels of whole vectors, or eight rows together") {
    for (const Workload& workload : {kTraining, kBackwardSaved, kInference}) {
        for (const Shape& shape : shapes()) {
            const Geometry geometry = geometry_of(shape);
            const Schedule schedule = make_schedule(geometry, workload, machine(2));
            if (geometry.kind != MatrixKind::columns || schedule.stream) {
                continue;
            }
            INFO("shape ", shape, ", coefficients ", workload.coefficients);
            const std::int64_t columns = schedule.strategy == Strategy::by_parts
                                             ? geometry.row_length
                                             : schedule.channels_per_item * geometry.columns_per_channel;
            const bool near = (geometry.row_length + 32) % 512 < 64; // to a multiple of half a page
            CHECK((near ? schedule.apply_columns * workload.coefficients * 4 <= 20480
                        : schedule.apply_columns >= columns));
            CHECK((schedule.apply_columns >= columns || schedule.apply_columns % kLanes == 0));
        }
    }
}

// Eight rows that begin at nearly the same place of a page took up to 3 times as long as panels; others 0.75 to 0.95.
TEST_CASE("rows near multiples of half a page are applied in panels, others whole") {
    const auto columns = [](std::int64_t channels, std::int64_t y_stride, const Workload& workload) {
        bnorm_problem problem = {};
        problem.layout = BNORM_NHWC;
        problem.batch = 8;
        problem.channels = channels;
        problem.spatial = 49;
        problem.y_stride = y_stride;
        return make_schedule(make_geometry(problem), workload, machine(2)).apply_columns;
    };
    CHECK(columns(1280, 0, kBackwardSaved) == 1280);
    CHECK(columns(1280, 2048, kBackwardSaved) == 640);
    CHECK(columns(1536, 0, kInference) == 768);
    CHECK(columns(1664, 0, kInference) == 1664);
    CHECK(columns(2016, 0, kInference) == 1008);
    CHECK(columns(2048, 0, kBackwardSaved) == 1024);
}

// From beyond L2 eight rows took up to 1.8 times as long as panels; what bypasses the cache in whole rows up to 1.25
// times where parameters alone fill L1, and 0.9 to 1.0 where they do not.
TEST_CASE("on machines whose training is best stored past L2 all rows of many parameters are applied in panels") {
    const auto columns = [](std::int64_t channels, std::int64_t images, const Workload& workload) {
        Machine server = machine(1);
        server.past_l2 = true;
        const Schedule schedule = make_schedule(geometry_of({BNORM_NHWC, images, channels, 49}), workload, server);
        CHECK(schedule.stream == (images > 1));
        return schedule.apply_columns;
    };
    CHECK(columns(1280, 1, kInference) == 1280);
    CHECK(columns(1664, 1, kInference) == 832);
    CHECK(columns(1280, 1, kBackwardSaved) == 640);
    CHECK(columns(1664, 64, kBackwardSaved) == 1664);
    CHECK(columns(2048, 64, kBackwardSaved) == 1024);
    CHECK(columns(2048, 64, kTraining) == 2048);
    CHECK(columns(1400, 64, kTraining) == 704); // rows of no whole cache lines do not bypass it
}

TEST_CASE("rows of few pixels are not so long that fewer than 128 are left") {
    for (const std::int64_t pixels : {16, 49, 64, 100, 196, 1024, 4096, 100000}) {
        for (const std::int64_t channels : {1, 3, 16, 17, 24, 32, 64, 100, 128}) {
            const Geometry geometry = geometry_of({BNORM_NHWC, 1, channels, pixels});
            const std::int64_t whole = kLanes / std::gcd(channels, kLanes);
            INFO("pixels ", pixels, ", channels ", channels, ", a row's ", geometry.columns_per_channel);
            CHECK(
                (geometry.kind == MatrixKind::planes || geometry.columns_per_channel <= whole || geometry.rows >= 128));
        }
    }
}

TEST_CASE("rows of small tensors of few channels are the fewest whole panels of 64 columns") {
    for (const std::int64_t channels : {2, 3, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256}) {
        for (const std::int64_t rows : {128, 129, 1000, 30000}) {
            const std::int64_t row = std::lcm(channels, std::int64_t{64});
            if (rows > 1000 && row > 64) {
                continue; // not small
            }
            const Geometry geometry = geometry_of({BNORM_NHWC, 1, channels, rows * row / channels + 1});
            INFO("channels ", channels, ", rows ", rows);
            CHECK(geometry.row_length == row);
            CHECK(geometry.tail_columns == (row == channels ? 0 : channels));
        }
    }
}

TEST_CASE("small work stays on one thread, large work does not") {
    const auto threads = [](const Shape& shape) {
        return make_schedule(geometry_of(shape), kTraining, machine(2)).threads;
    };
    CHECK(threads({BNORM_NCHW, 1, 16, 196}) == 1);
    CHECK(threads({BNORM_NHWC, 1, 16, 196}) == 1);
    CHECK(threads({BNORM_NCHW, 32, 64, 3136}) == 2);
    CHECK(threads({BNORM_NHWC, 32, 64, 3136}) == 2);
    CHECK(threads({BNORM_NCHW, 1, 3, 8294400}) == 2);
    CHECK(threads({BNORM_NHWC, 1, 3, 8294400}) == 2);
}

// Two reasons for more than 1.15 times an even share: whole channels that stay in L2 between the passes (the busiest
// thread then still moves no more than it would otherwise), and shares of a few blocks.
TEST_CASE("the suite spreads evenly over 2 to 256 threads") {
    // The least that a thread can be given: 256 rows of a cache line each, or 1024 of a panel that is not divided.
    const auto few_blocks = [](const Geometry& geometry) {
        return 12 * (geometry.grid.rows_per_block > 256 ? std::int64_t{65536} : std::int64_t{4096});
    };
    int uneven = 0;
    int plans = 0;
    for (const bench::Shape& tensor : bench::suite()) {
        for (const bnorm_layout layout : {BNORM_NCHW, BNORM_NHWC}) {
            const Shape shape = {layout, tensor.batch, tensor.channels, tensor.spatial()};
            for (const Workload& workload : {kTraining, kBackwardSaved, kBackward, kInference}) {
                const Geometry geometry = geometry_of(shape, operation_of(workload));
                for (const int threads : {2, 4, 6, 8, 12, 16, 32, 48, 64, 128, 256}) {
                    for (const Machine& machine : machines(threads)) {
                        const Schedule schedule = make_schedule(geometry, workload, machine);
                        const bench::Balance spread = bench::balance(geometry, workload, schedule);
                        const double even = spread.bytes / spread.slowest;
                        INFO("shape ", shape, ", reductions ", workload.reductions, ", threads ", threads, ", slowest ",
                             spread.slowest);
                        ++plans;
                        uneven += spread.slowest > 1.15 ? 1 : 0;
                        if (schedule.strategy == Strategy::by_channels) {
                            const double by_parts = even *
                                                    (workload.streams + workload.reductions * workload.cached_tensors) /
                                                    workload.streams;
                            CHECK((spread.slowest <= 1.15 || spread.bytes <= by_parts));
                        } else {
                            CHECK(spread.slowest <=
                                  (geometry.elements() / schedule.threads < few_blocks(geometry) ? 1.25 : 1.15));
                        }
                    }
                }
            }
        }
    }
    CHECK(plans > 10000);
    CHECK(uneven * 25 < plans);
}

TEST_CASE("the largest problems, on any number of threads: nothing overflows, nothing takes long") {
    constexpr std::int64_t kMost = std::int64_t{1} << 58;
    const std::int64_t sizes[][3] = {
        {1, 1, kMost},       {kMost, 1, 1},       {1, kMost / 256, 1},  {1 << 20, 1 << 10, kMost >> 30},
        {kMost >> 6, 64, 1}, {1, 64, kMost >> 6}, {kMost >> 10, 17, 49}};
    for (const auto& size : sizes) {
        for (const bnorm_layout layout : {BNORM_NCHW, BNORM_NHWC}) {
            for (const Workload& workload : {kTraining, kBackward, kInference}) {
                const Geometry geometry = geometry_of({layout, size[0], size[1], size[2]}, operation_of(workload));
                for (const int threads : {1, 2, 3, 64, 1 << 20, std::numeric_limits<int>::max()}) {
                    for (const Machine& machine : machines(threads)) {
                        const Schedule schedule = make_schedule(geometry, workload, machine);
                        INFO("sizes ", size[0], " ", size[1], " ", size[2], ", threads ", threads);
                        CHECK(schedule.threads >= 1);
                        CHECK(schedule.threads <= threads);
                        CHECK(schedule.scratch_bytes >= 0);
                        CHECK((schedule.strategy == Strategy::by_channels ? schedule.channels_per_item
                                                                          : schedule.blocks_per_part) >= 1);
                    }
                }
            }
        }
    }
}

TEST_CASE("empty tensors have plans") {
    for (const Shape& shape : {Shape{BNORM_NCHW, 0, 5, 7}, Shape{BNORM_NHWC, 3, 0, 7}, Shape{BNORM_NCHW, 3, 5, 0}}) {
        const Geometry geometry = geometry_of(shape);
        CHECK(geometry.elements() == 0);
        CHECK(geometry.mask_bytes() == 0);
        CHECK(make_schedule(geometry, kTraining, machine(2)).threads == 1);
    }
}
