// Kernels read in the order, and fetch ahead to where it suits a machine and the place of tensors, and sum one block or
// several: the bits are the same.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/kernel_table.hpp"
#include "ops/reverse_images.hpp"
#include "plan/schedule.hpp"
#include "tables.hpp"

using namespace bnorm;
using kernels::Gate;
using kernels::RowsInOrder;

namespace {

constexpr std::int64_t kMaskBytes = 2; // of 16 columns

struct Block {
    Block(std::int64_t row_count, std::int64_t column_count)
        : rows(row_count), columns(column_count), x(elements()), dy(elements()),
          mask(static_cast<std::size_t>(rows * columns / 16 * kMaskBytes + plan::kMaskSpareBytes)),
          center(width(), 0.25F), scale(width(), 0.5F), shift(width(), -0.125F), x_scale(width()), offset(width()) {
        std::mt19937 engine(1);
        std::normal_distribution<float> normal(1.0F, 3.0F);
        for (std::size_t i = 0; i < elements(); ++i) {
            x[i] = normal(engine);
            dy[i] = normal(engine);
        }
        for (std::size_t c = 0; c < width(); ++c) {
            x_scale[c] = normal(engine);
            offset[c] = normal(engine);
        }
        for (std::uint8_t& byte : mask) {
            byte = static_cast<std::uint8_t>(engine());
        }
    }

    std::size_t elements() const { return static_cast<std::size_t>(rows * columns); }
    std::size_t width() const { return static_cast<std::size_t>(columns); }

    std::int64_t rows;
    std::int64_t columns; // a multiple of 16
    std::vector<float> x;
    std::vector<float> dy;
    std::vector<std::uint8_t> mask;
    std::vector<float> center;
    std::vector<float> scale;
    std::vector<float> shift;
    std::vector<float> x_scale;
    std::vector<float> offset;
};

struct Order {
    bool prefetch;
    RowsInOrder in_order;
    bool into_l1 = false;
    bool by_images = false;
    bool ask_often = false;
};

// sum(dy') of all columns, then sum(dy'*(x-center)).
kernels::GradientSums task_of(const Block& block, const Order& order, std::vector<double>& sums) {
    kernels::GradientSums task = {};
    task.dy = block.dy.data();
    task.x = block.x.data();
    task.mask = block.mask.data();
    task.rows = block.rows;
    task.columns = task.dy_stride = task.x_stride = block.columns;
    task.mask_stride = block.columns / 16 * kMaskBytes;
    task.channels = 1;
    task.center = block.center.data();
    task.scale = block.scale.data();
    task.shift = block.shift.data();
    task.activation_parameter = 0.1F;
    task.prefetch = order.prefetch;
    task.in_order = order.in_order;
    task.ask_often = order.ask_often;
    task.sum_dy = sums.data();
    task.sum_dy_centered_x = sums.data() + sums.size() / 2;
    return task;
}

std::vector<double> sums_of(const kernels::KernelTable& table, Gate gate, const Block& block, const Order& order) {
    std::vector<double> sums(2 * block.width(), -1.0);
    const kernels::GradientSums task = task_of(block, order, sums);
    table.gradient_sums_periodic[static_cast<int>(gate)](task);
    return sums;
}

// The same of planes: sum(dy') of each channel, then sum(dy'*(x-center)), from images that are fetched ahead.
std::vector<double> sums_of_planes(const kernels::KernelTable& table, Gate gate, const Block& block,
                                   std::int64_t channels, const Order& order) {
    std::vector<double> sums(static_cast<std::size_t>(2 * plan::padded(channels)), -1.0);
    kernels::GradientSums task = task_of(block, order, sums);
    task.columns = block.columns / channels;
    task.channels = channels;
    task.block_rows = task.rows;
    task.block_columns = task.columns;
    task.channel_bits = task.columns;
    task.by_images = order.by_images;
    if (order.prefetch) {
        task.course = {block.rows, task.columns, 0, order.into_l1};
    }
    table.gradient_sums_uniform[static_cast<int>(gate)](task);
    return sums;
}

// Planes shorter than a vector's lanes as well as longer than what is fetched ahead, and of more channels than are
// summed at once.
void check_planes(const kernels::KernelTable& table) {
    struct Planes {
        std::int64_t channels;
        std::int64_t columns;
    };
    constexpr Order kOrders[] = {
        {true, RowsInOrder::no}, {true, RowsInOrder::no, true}, {false, RowsInOrder::no, false, true}};
    for (const Planes& planes : {Planes{4, 64}, Planes{4, 1024}, Planes{16, 196}, Planes{80, 13}, Planes{80, 150}}) {
        const Block block(5, planes.channels * planes.columns);
        for (int gate = 0; gate < kernels::kGates; ++gate) {
            const auto sums_in = [&](const Order& order) {
                return sums_of_planes(table, static_cast<Gate>(gate), block, planes.channels, order);
            };
            const std::vector<double> expected = sums_in({false, RowsInOrder::no});
            for (const Order& order : kOrders) {
                const std::vector<double> sums = sums_in(order);
                INFO("channels ", planes.channels, ", columns ", planes.columns, ", gate ", gate, ", into L1 ",
                     order.into_l1, ", by images ", order.by_images);
                CHECK(std::memcmp(sums.data(), expected.data(), sums.size() * sizeof(double)) == 0);
            }
        }
    }
}

void check_orders(const kernels::KernelTable& table) {
    constexpr Order kOrders[] = {
        {true, RowsInOrder::no},
        {false, RowsInOrder::from_caches},
        {true, RowsInOrder::from_caches},
        {false, RowsInOrder::from_l2},
        {true, RowsInOrder::from_memory},
        {true, RowsInOrder::no, false, false, true},
        {true, RowsInOrder::from_memory, false, false, true},
    };
    for (const std::int64_t columns : {std::int64_t{64}, std::int64_t{128}, std::int64_t{256}, std::int64_t{272},
                                       std::int64_t{512}, std::int64_t{1024}}) {
        for (const std::int64_t rows : {std::int64_t{7}, std::int64_t{8}, std::int64_t{83}}) {
            const Block block(rows, columns);
            for (int gate = 0; gate < kernels::kGates; ++gate) {
                const std::vector<double> expected =
                    sums_of(table, static_cast<Gate>(gate), block, {false, RowsInOrder::no});
                for (const Order& order : kOrders) {
                    const std::vector<double> sums = sums_of(table, static_cast<Gate>(gate), block, order);
                    INFO("columns ", columns, ", rows ", rows, ", gate ", gate, ", prefetch ", order.prefetch,
                         ", in order ", static_cast<int>(order.in_order), ", often ", order.ask_often);
                    CHECK(std::memcmp(sums.data(), expected.data(), sums.size() * sizeof(double)) == 0);
                }
            }
        }
    }
}

// Mean and M2 of each column.
std::vector<double> moments_of(const kernels::KernelTable& table, const Block& block, kernels::ReadRows read) {
    constexpr std::int64_t kRowsPerRun = 32;
    std::vector<double> moments(2 * block.width(), -1.0);
    table.moments_periodic(block.x.data(), block.rows, block.columns, block.columns, kRowsPerRun, read, moments.data(),
                           moments.data() + block.columns);
    return moments;
}

void check_moments(const kernels::KernelTable& table) {
    for (const std::int64_t columns : {std::int64_t{64}, std::int64_t{256}, std::int64_t{272}, std::int64_t{1024}}) {
        for (const std::int64_t rows : {std::int64_t{48}, std::int64_t{83}, std::int64_t{300}}) {
            const Block block(rows, columns);
            const std::vector<double> expected = moments_of(table, block, kernels::ReadRows::by_panels);
            for (const kernels::ReadRows read :
                 {kernels::ReadRows::whole, kernels::ReadRows::whole_into_l2, kernels::ReadRows::whole_into_l1}) {
                const std::vector<double> moments = moments_of(table, block, read);
                INFO("columns ", columns, ", rows ", rows, ", read ", static_cast<int>(read));
                CHECK(std::memcmp(moments.data(), expected.data(), moments.size() * sizeof(double)) == 0);
            }
        }
    }
}

// The same of planes of four channels, fetched ahead.
void check_moments_of_planes(const kernels::KernelTable& table) {
    constexpr std::int64_t kChannels = 4;
    for (const std::int64_t columns : {std::int64_t{196}, std::int64_t{784}, std::int64_t{4096}}) {
        const Block block(5, kChannels * columns);
        const auto moments_in = [&](const kernels::Course& course) {
            std::vector<double> moments(2 * kChannels, -1.0);
            table.moments_uniform({block.x.data(), block.rows, block.columns, columns, block.rows, columns, kChannels,
                                   course, moments.data(), moments.data() + kChannels});
            return moments;
        };
        const std::vector<double> expected = moments_in({});
        for (const bool into_l1 : {false, true}) {
            const std::vector<double> moments = moments_in({block.rows, columns, 0, into_l1});
            INFO("columns ", columns, ", into L1 ", into_l1);
            CHECK(std::memcmp(moments.data(), expected.data(), moments.size() * sizeof(double)) == 0);
        }
    }
}

// Two channels of 5 rows of 1000 elements.
struct Blocks {
    std::int64_t rows;
    std::int64_t columns;
    std::int64_t count; // of a channel
};
constexpr Blocks kBlocks[] = {{5, 1000, 1}, {2, 1000, 3}, {1, 384, 15}};

// visit(row, rows, column, columns) of each, those of the first channel first.
template <class Visit>
void for_each_block(const Blocks& blocks, const Visit& visit) {
    for (std::int64_t first = 0; first < 2000; first += 1000) {
        for (std::int64_t row = 0; row < 5; row += blocks.rows) {
            for (std::int64_t column = 0; column < 1000; column += blocks.columns) {
                visit(row, std::min(blocks.rows, 5 - row), first + column, std::min(blocks.columns, 1000 - column));
            }
        }
    }
}

// Mean and M2 of each block: of all blocks at once, or block by block.
std::vector<double> moments_of_blocks(const kernels::KernelTable& table, const Block& block, const Blocks& blocks,
                                      bool at_once) {
    constexpr std::int64_t kRowLength = 2000;
    std::vector<double> moments(static_cast<std::size_t>(4 * blocks.count), -1.0);
    double* mean = moments.data();
    double* m2 = mean + 2 * blocks.count;
    if (at_once) {
        table.moments_uniform({block.x.data(), 5, kRowLength, 1000, blocks.rows, blocks.columns, 2, {}, mean, m2});
        return moments;
    }
    for_each_block(blocks, [&](std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
        const float* x = block.x.data() + row * kRowLength + column;
        table.moments_uniform({x, rows, kRowLength, columns, rows, columns, 1, {}, mean++, m2++});
    });
    return moments;
}

// The same of gradients: the sums of each block.
std::vector<double> sums_of_blocks(const kernels::KernelTable& table, Gate gate, const Block& block,
                                   const Blocks& blocks, bool at_once) {
    std::vector<double> sums(static_cast<std::size_t>(4 * blocks.count), -1.0);
    kernels::GradientSums task = task_of(block, {false, RowsInOrder::no}, sums);
    task.channel_bits = 1000;
    task.rows = 5;
    task.columns = 1000;
    task.channels = 2;
    task.block_rows = blocks.rows;
    task.block_columns = blocks.columns;
    if (at_once) {
        table.gradient_sums_uniform[static_cast<int>(gate)](task);
        return sums;
    }
    kernels::GradientSums one = task;
    one.channels = 1;
    for_each_block(blocks, [&](std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
        one.rows = one.block_rows = rows;
        one.columns = one.block_columns = columns;
        one.x = task.x + row * task.x_stride + column;
        one.dy = task.dy + row * task.dy_stride + column;
        one.mask = task.mask + row * task.mask_stride;
        one.mask_bit = column;
        table.gradient_sums_uniform[static_cast<int>(gate)](one);
        ++one.sum_dy;
        ++one.sum_dy_centered_x;
    });
    return sums;
}

void check_blocks(const kernels::KernelTable& table) {
    const Block block(5, 2000);
    for (const Blocks& blocks : kBlocks) {
        INFO("blocks of ", blocks.rows, " rows of ", blocks.columns);
        CHECK(moments_of_blocks(table, block, blocks, true) == moments_of_blocks(table, block, blocks, false));
        for (int gate = 0; gate < kernels::kGates; ++gate) {
            INFO("gate ", gate);
            CHECK(sums_of_blocks(table, static_cast<Gate>(gate), block, blocks, true) ==
                  sums_of_blocks(table, static_cast<Gate>(gate), block, blocks, false));
        }
    }
}

// Two runs of 5 rows of 1040 elements, each a channel or several: the sums of the second, and dx and dresidual of the
// first.
constexpr std::int64_t kRunColumns = 1040; // 65 vectors

struct alignas(64) Line {
    float elements[16];
};

struct Beside {
    std::vector<double> sums = std::vector<double>(30, -1.0);
    std::vector<Line> dx = std::vector<Line>(650);
    std::vector<Line> dresidual = dx;

    bool operator==(const Beside& other) const {
        return sums == other.sums && std::memcmp(dx.data(), other.dx.data(), dx.size() * sizeof(Line)) == 0 &&
               std::memcmp(dresidual.data(), other.dresidual.data(), dx.size() * sizeof(Line)) == 0;
    }
};

struct RunBlocks {
    std::int64_t channels;
    std::int64_t rows;
    std::int64_t columns;
};
constexpr RunBlocks kRunBlocks[] = {{1, 5, kRunColumns}, {1, 2, kRunColumns}, {1, 1, 384},
                                    {2, 2, 520},         {4, 5, 260},         {4, 2, 260}};

kernels::GradientSums sums_of_second(const Block& block, const RunBlocks& blocks, bool prefetch, Beside& result) {
    kernels::GradientSums task = task_of(block, {false, RowsInOrder::no}, result.sums);
    task.dy += kRunColumns;
    task.x += kRunColumns;
    task.mask_bit = kRunColumns;
    task.rows = 5;
    task.channels = blocks.channels;
    task.columns = task.channel_bits = kRunColumns / blocks.channels;
    task.block_rows = blocks.rows;
    task.block_columns = blocks.columns;
    task.course = prefetch ? kernels::Course{5, task.columns, 0, true} : kernels::Course{};
    return task;
}

kernels::GradientApply outputs_of_first(const Block& block, std::int64_t channels, bool dresidual, Beside& result) {
    kernels::GradientApply task = {};
    task.dy = block.dy.data();
    task.x = block.x.data();
    task.mask = block.mask.data();
    task.dx = result.dx.front().elements;
    task.dresidual = dresidual ? result.dresidual.front().elements : nullptr;
    task.rows = channels == 1 ? 5 : channels;
    task.columns = kRunColumns / channels;
    task.dy_stride = task.x_stride = task.dx_stride = block.columns;
    task.dresidual_stride = dresidual ? block.columns : 0;
    task.mask_stride = block.columns / 16 * kMaskBytes;
    task.center = block.center.data();
    task.scale = block.scale.data();
    task.shift = block.shift.data();
    task.x_scale = block.x_scale.data();
    task.offset = block.offset.data();
    return task;
}

Beside one_after_the_other(const kernels::KernelTable& table, const Block& block, const RunBlocks& blocks, Gate gate,
                           bool dresidual) {
    Beside result;
    table.gradient_sums_uniform[static_cast<int>(gate)](sums_of_second(block, blocks, false, result));
    kernels::GradientApply outputs = outputs_of_first(block, blocks.channels, dresidual, result);
    const int variant = kernels::gradient_apply_variant(gate, false, dresidual, false);
    if (blocks.channels == 1) {
        table.gradient_apply_uniform[variant](outputs);
        return result;
    }
    for (std::int64_t row = 0; row < 5; ++row) {
        table.gradient_apply_planes[variant](outputs);
        outputs.dy += outputs.dy_stride;
        outputs.x += outputs.x_stride;
        outputs.mask += outputs.mask_stride;
        outputs.dx += outputs.dx_stride;
        outputs.dresidual = dresidual ? outputs.dresidual + outputs.dresidual_stride : nullptr;
    }
    return result;
}

Beside in_turns(const kernels::KernelTable& table, const Block& block, const RunBlocks& blocks, Gate gate,
                bool dresidual, bool prefetch, bool last_image_first) {
    Beside result;
    kernels::GradientApply outputs = outputs_of_first(block, blocks.channels, dresidual, result);
    if (last_image_first) {
        ops::reverse_images(outputs, block.rows);
    }
    table.gradient_sums_beside[kernels::gradient_beside_variant(gate, dresidual)](
        sums_of_second(block, blocks, prefetch, result), outputs);
    table.fence_streams();
    return result;
}

void check_beside(const kernels::KernelTable& table) {
    const Block block(5, 2 * kRunColumns);
    for (const RunBlocks& blocks : kRunBlocks) {
        for (const Gate gate : kernels::kFixedGates) {
            for (const bool dresidual : {false, true}) {
                if (dresidual && gate == Gate::sign_relu) {
                    continue; // with a residual, gates are by mask
                }
                const Beside expected = one_after_the_other(table, block, blocks, gate, dresidual);
                for (const bool prefetch : {false, true}) {
                    INFO(blocks.channels, " channels, blocks of ", blocks.rows, " rows, gate ", static_cast<int>(gate),
                         ", dresidual ", dresidual);
                    CHECK(in_turns(table, block, blocks, gate, dresidual, prefetch, false) == expected);
                    CHECK(in_turns(table, block, blocks, gate, dresidual, prefetch, true) == expected);
                }
            }
        }
    }
}

// With fixed statistics: the sums of one run of 1040 elements, or of a few channels, and dx of the same.
enum class Place { apart, dy, x }; // of dx

Beside fixed_of(const kernels::KernelTable& table, const Block& block, const RunBlocks& blocks, Gate gate, Place place,
                bool stream, bool prefetch) {
    Beside result;
    const std::size_t bytes = block.elements() * sizeof(float);
    float* dx = result.dx.front().elements;
    kernels::GradientSums task = sums_of_second(block, blocks, prefetch, result);
    const std::ptrdiff_t second = task.x - block.x.data();
    if (place != Place::apart) {
        std::memcpy(dx, (place == Place::x ? block.x : block.dy).data(), bytes);
        (place == Place::x ? task.x : task.dy) = dx + second;
    }
    task.dx = dx + second;
    task.dx_stride = block.columns;
    table.gradient_fixed_uniform[kernels::gradient_fixed_variant(gate, stream)](task);
    table.fence_streams();
    return result;
}

Beside fixed_one_after_the_other(const kernels::KernelTable& table, const Block& block, const RunBlocks& blocks,
                                 Gate gate, Place place) {
    Beside result;
    const kernels::GradientSums sums = sums_of_second(block, blocks, false, result);
    table.gradient_sums_uniform[static_cast<int>(gate)](sums);
    if (place != Place::apart) {
        std::memcpy(result.dx.front().elements, (place == Place::x ? block.x : block.dy).data(),
                    block.elements() * sizeof(float));
    }
    kernels::GradientApply outputs = outputs_of_first(block, 1, false, result);
    outputs.columns = sums.columns;
    for (std::int64_t channel = 0; channel < blocks.channels; ++channel) {
        const std::int64_t column = kRunColumns + channel * sums.columns;
        kernels::GradientApply one = outputs;
        one.dy += column;
        one.x += column;
        one.mask += column / 16 * kMaskBytes;
        one.dx += column;
        one.center += channel;
        one.scale += channel;
        one.shift += channel;
        table.gradient_apply_uniform[kernels::gradient_apply_variant(gate, true, false, false)](one);
    }
    return result;
}

constexpr RunBlocks kFixedBlocks[] = {{1, 5, kRunColumns}, {1, 2, kRunColumns}, {1, 1, 384}, {5, 5, 208}, {5, 2, 208}};

void check_fixed(const kernels::KernelTable& table) {
    const Block block(5, 2 * kRunColumns);
    for (const RunBlocks& blocks : kFixedBlocks) {
        for (const Gate gate : kernels::kFixedGates) {
            for (const Place place : {Place::apart, Place::dy, Place::x}) {
                const Beside expected = fixed_one_after_the_other(table, block, blocks, gate, place);
                INFO(blocks.channels, " channels, blocks of ", blocks.rows, " rows, gate ", static_cast<int>(gate),
                     ", place ", static_cast<int>(place));
                CHECK(fixed_of(table, block, blocks, gate, place, false, false) == expected);
                CHECK(fixed_of(table, block, blocks, gate, place, true, true) == expected);
            }
        }
    }
}

// Frozen backward behind a mask needs no x.
void check_without_x(const kernels::KernelTable& table) {
    const Block block(5, 64);
    const auto dx_of = [&](const float* x) {
        Beside result;
        kernels::GradientApply task = outputs_of_first(block, 1, false, result);
        task.columns = block.columns;
        task.x = x;
        task.x_stride = x == nullptr ? 0 : block.columns;
        task.prefetch = task.inputs_into_l1 = true;
        table.gradient_apply_periodic[kernels::gradient_apply_variant(Gate::mask_drop, true, false, true)](task);
        table.fence_streams();
        return result;
    };
    CHECK(dx_of(nullptr) == dx_of(block.x.data()));
}

// 5 rows of one channel, or of four planes, with a residual (what else is dy): y and the mask.
struct Forward {
    std::vector<Line> y = std::vector<Line>(650);
    std::vector<std::uint8_t> mask = std::vector<std::uint8_t>(1400);

    bool operator==(const Forward& other) const {
        return std::memcmp(y.data(), other.y.data(), y.size() * sizeof(Line)) == 0 && mask == other.mask;
    }
};

Forward forward_of(const kernels::KernelTable& table, const Block& block, std::int64_t channels, bool masks,
                   bool stream, bool fetch) {
    Forward result;
    kernels::Apply task = {};
    task.x = block.x.data();
    task.residual = block.dy.data();
    task.y = result.y.front().elements;
    task.mask = masks ? result.mask.data() : nullptr;
    task.rows = channels == 1 ? 5 : channels;
    task.columns = block.columns / channels;
    task.x_stride = task.residual_stride = task.y_stride = block.columns;
    task.mask_stride = masks ? block.columns / 16 * kMaskBytes : 0;
    task.center = block.center.data();
    task.scale = block.x_scale.data();
    task.shift = block.offset.data();
    task.fetch_residual = fetch;
    task.next_row = block.columns;
    const int variant = kernels::apply_variant(kernels::Activation::relu, true, masks, stream);
    for (std::int64_t row = 0; row < (channels == 1 ? 1 : 5); ++row) {
        (channels == 1 ? table.apply_uniform : table.apply_planes)[variant](task);
        task.x += block.columns;
        task.residual += block.columns;
        task.y += block.columns;
        task.mask = masks ? task.mask + task.mask_stride : nullptr;
    }
    table.fence_streams();
    return result;
}

// Rows shorter and longer than what is fetched ahead.
void check_residual(const kernels::KernelTable& table) {
    for (const std::int64_t columns : {std::int64_t{2080}, std::int64_t{1040}}) {
        const Block block(5, columns);
        for (const std::int64_t channels : {1, 4}) {
            for (const bool masks : {false, true}) {
                const Forward expected = forward_of(table, block, channels, masks, false, false);
                for (const bool stream : {false, true}) {
                    INFO(channels, " channels, ", columns, " columns, mask ", masks, ", past the caches ", stream);
                    CHECK(forward_of(table, block, channels, masks, stream, true) == expected);
                }
            }
        }
    }
}

// Moments of the second run of as many planes, and outputs of the first: one after the other, or in turns.
struct MomentsAndOutputs {
    std::vector<double> moments = std::vector<double>(200, -1.0);
    Forward outputs;

    bool operator==(const MomentsAndOutputs& other) const {
        return moments == other.moments && outputs == other.outputs;
    }
};

struct MomentsVariant {
    kernels::Activation activation;
    bool residual;
    bool mask;
};

kernels::Apply run_of_first(const Block& block, std::int64_t channels, const MomentsVariant& variant, Forward& result) {
    kernels::Apply task = {};
    task.x = block.x.data();
    task.residual = variant.residual ? block.dy.data() : nullptr;
    task.y = result.y.front().elements;
    task.mask = variant.mask ? result.mask.data() : nullptr;
    task.rows = channels;
    task.columns = kRunColumns / channels;
    task.x_stride = task.y_stride = block.columns;
    task.residual_stride = variant.residual ? block.columns : 0;
    task.mask_stride = variant.mask ? block.columns / 16 * kMaskBytes : 0;
    task.center = block.center.data();
    task.scale = block.x_scale.data();
    task.shift = block.offset.data();
    return task;
}

kernels::PlaneMoments moments_of_second(const Block& block, const RunBlocks& blocks, bool from_memory,
                                        std::vector<double>& result) {
    const std::int64_t columns = kRunColumns / blocks.channels;
    const kernels::Course course = from_memory ? kernels::Course{5, columns, 0, true} : kernels::Course{};
    return {block.x.data() + kRunColumns,
            5,
            block.columns,
            columns,
            blocks.rows,
            blocks.columns,
            blocks.channels,
            course,
            result.data(),
            result.data() + result.size() / 2};
}

MomentsAndOutputs one_after_the_other(const kernels::KernelTable& table, const Block& block, const RunBlocks& blocks,
                                      const MomentsVariant& variant) {
    MomentsAndOutputs result;
    table.moments_uniform(moments_of_second(block, blocks, false, result.moments));
    kernels::Apply task = run_of_first(block, blocks.channels, variant, result.outputs);
    for (std::int64_t row = 0; row < 5; ++row) {
        table.apply_planes[kernels::apply_variant(variant.activation, variant.residual, variant.mask, false)](task);
        task.x += task.x_stride;
        task.residual = variant.residual ? task.residual + task.residual_stride : nullptr;
        task.y += task.y_stride;
        task.mask = variant.mask ? task.mask + task.mask_stride : nullptr;
    }
    return result;
}

MomentsAndOutputs in_turns(const kernels::KernelTable& table, const Block& block, const RunBlocks& blocks,
                           const MomentsVariant& variant, bool from_memory, bool last_image_first) {
    MomentsAndOutputs result;
    kernels::Apply outputs = run_of_first(block, blocks.channels, variant, result.outputs);
    if (last_image_first) {
        ops::reverse_images(outputs, block.rows);
    }
    table.moments_beside[kernels::moments_beside_variant(variant.activation, variant.residual, variant.mask)](
        moments_of_second(block, blocks, from_memory, result.moments), outputs);
    table.fence_streams();
    return result;
}

// Of blocks of fewer elements than are summed in f32, too.
void check_moments_beside(const kernels::KernelTable& table) {
    constexpr RunBlocks kBlocksOfRuns[] = {{1, 5, kRunColumns}, {1, 2, kRunColumns}, {1, 1, 384}, {4, 2, 260},
                                           {5, 5, 208},         {13, 1, 80},         {16, 2, 65}, {16, 1, 65}};
    constexpr MomentsVariant kVariants[] = {
        {kernels::Activation::identity, false, false}, {kernels::Activation::identity, true, false},
        {kernels::Activation::relu, false, false},     {kernels::Activation::relu, true, false},
        {kernels::Activation::relu, false, true},      {kernels::Activation::relu, true, true}};
    const Block block(5, 2 * kRunColumns);
    for (const RunBlocks& blocks : kBlocksOfRuns) {
        for (const MomentsVariant& variant : kVariants) {
            const MomentsAndOutputs expected = one_after_the_other(table, block, blocks, variant);
            for (const bool from_memory : {false, true}) {
                INFO(blocks.channels, " channels, blocks of ", blocks.rows, " rows, activation ",
                     static_cast<int>(variant.activation), ", residual ", variant.residual, ", mask ", variant.mask);
                CHECK(in_turns(table, block, blocks, variant, from_memory, false) == expected);
                CHECK(in_turns(table, block, blocks, variant, from_memory, true) == expected);
            }
        }
    }
}

} // namespace

TEST_CASE("moments and gradients have the same sums in every order of reading, wherever they are fetched") {
    for (const kernels::KernelTable* table : kernel_tables()) {
        check_orders(*table);
        check_planes(*table);
        check_moments(*table);
        check_moments_of_planes(*table);
        check_blocks(*table);
        check_beside(*table);
        check_moments_beside(*table);
        check_fixed(*table);
        check_without_x(*table);
        check_residual(*table);
    }
}

// f32 within eight terms: the bound is 8 * 2^-24 of the sum of magnitudes.
TEST_CASE("the sums are those of the gradients") {
    constexpr double kBound = 8.0 / (1 << 24);
    const Block block(83, 256);
    const std::vector<double> sums =
        sums_of(kernels::kSse2Kernels, Gate::none, block, {false, RowsInOrder::from_caches});
    for (std::size_t c = 0; c < block.width(); ++c) {
        double sum = 0.0;
        double product = 0.0;
        double sum_magnitude = 0.0;
        double product_magnitude = 0.0;
        for (std::size_t i = c; i < block.elements(); i += block.width()) {
            const auto dy = static_cast<double>(block.dy[i]);
            const double centered = static_cast<double>(block.x[i]) - 0.25;
            sum += dy;
            product += dy * centered;
            sum_magnitude += std::abs(dy);
            product_magnitude += std::abs(dy * centered);
        }
        CHECK(std::abs(sums[c] - sum) <= kBound * sum_magnitude);
        CHECK(std::abs(sums[block.width() + c] - product) <= kBound * product_magnitude);
    }
}
