// An operation as its steps: begin, (reduce, finish) as often as it has reductions, apply. What to do is said by each
// operation; in which order, on which thread and over which blocks is said once, in passes.cpp. Two orders of planes,
// in which little time is left between the steps of a channel, are those of operations themselves: run_in_l1,
// run_beside.
#ifndef BNORM_OPS_OPERATION_HPP
#define BNORM_OPS_OPERATION_HPP

#include <array>
#include <cstdint>

#include "plan/geometry.hpp"
#include "plan/schedule.hpp"

namespace bnorm::ops {

enum class Pattern { uniform, periodic, planes };

// Two sums a channel (or column): mean and M2, which merge after Chan, or sum(dy') and sum(dy'*(x-center)), which add.
enum class SumKind { moments, gradient };

// f32 parameters of the kernels, one a channel or one a column.
enum Coefficient { kCenter, kScale, kShift, kXScale, kOffset };
using Coefficients = std::array<float*, plan::kCoefficients>;

inline Coefficients advance(Coefficients coefficients, std::int64_t count) {
    for (float*& values : coefficients) {
        values += count;
    }
    return coefficients;
}

// Channels that one call of begin or finish handles, and their scratch memory, whose arrays start at the first of them.
struct ChannelRange {
    std::int64_t first;
    std::int64_t count;
    std::int64_t next_first; // of the range that the same thread takes next, or first if there is none
    std::array<std::array<double*, 2>, plan::kMaxReductions> sums;
    double* inv_std; // if the workload keeps it
    Coefficients coefficients;
};

struct Inputs {
    const void* x = nullptr;
    const void* dy = nullptr;
};

class Operation {
  public:
    Operation() = default;
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;

    // What is summed, or, if there are no reductions, applied; an absent tensor is a null pointer.
    virtual Inputs inputs() const = 0;
    // How many reductions this execution runs: at most those of the plan's workload.
    virtual int reductions() const = 0;
    virtual SumKind sum_kind(int reduction) const = 0;
    virtual bool applies() const = 0;
    // Whether apply takes planes of several channels at once: not those whose masks start at a byte each, which the
    // kernels do not know.
    virtual bool takes_planes() const { return false; }
    // How many of the coefficients, counted from kCenter, are in use.
    virtual int coefficients() const = 0;

    // Sets the coefficients that the first reduction (or apply, if there is none) needs.
    virtual void begin(const ChannelRange& range) const = 0;
    // Sums a block. The coefficients, first and second start at its first column's (uniform: at its channel's; planes:
    // at the first of its channels', whose whole planes it has). Of long planes also several that are a rectangle:
    // first and second have the sums of each, those of a channel before the next one's.
    virtual void reduce(int reduction, Pattern pattern, const plan::Block& block, const Coefficients& coefficients,
                        double* first, double* second) const = 0;
    // Turns range.sums[reduction] into coefficients for what follows, and writes outputs that have one value a channel.
    virtual void finish(int reduction, const ChannelRange& range) const = 0;
    // `ahead`: how many elements further lies what the same thread reads next, to be fetched meanwhile; or 0.
    // Pattern::planes is asked of operations only that take it.
    virtual void apply(Pattern pattern, const plan::Block& block, const Coefficients& coefficients,
                       std::int64_t ahead) const = 0;

    // Whether run_in_l1 can take the place of reduce, finish and apply in this execution.
    virtual bool runs_in_l1() const { return false; }
    // Takes a range that has begun through all that follows, so many channels of it at a time, whose planes of a single
    // image stay in L1 meanwhile: a multiple of geometry.unit_channels.
    virtual void run_in_l1(const ChannelRange&, std::int64_t /*channels*/) const {}

    // The same of planes of several images, each schedule.unit_beside channels' sums beside the outputs of those
    // before.
    virtual bool runs_beside() const { return false; }
    virtual void run_beside(const ChannelRange&) const {}

  protected:
    ~Operation() = default;
};

} // namespace bnorm::ops

#endif
