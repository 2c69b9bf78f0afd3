// Moments of some channels while outputs of as many others, whose statistics are known, are stored past the cache, step
// by step in turns (gradient_beside.inl says why). The outputs follow the order of memory: image by image, along the
// planes of all those channels as one run.
#ifndef BNORM_KERNELS_MOMENTS_BESIDE_INL
#define BNORM_KERNELS_MOMENTS_BESIDE_INL

#include "kernels/apply.inl"
#include "kernels/channel_moments.inl"

namespace bnorm::kernels {
namespace {

template <class Variant>
class OutputsBeside {
  public:
    OutputsBeside(const Apply& task, std::int64_t images)
        : task_(task), images_(images), run_(apply_row(task, 0)), parameters_(plane_parameters(task, 0)),
          plane_end_(task.columns) {}

    // So many elements more, as far as they are whole vectors.
    BNORM_MEMBER void take(std::int64_t elements) {
        wanted_ += elements;
        while (wanted_ >= plane_end_ && image_ < images_) {
            finish_plane();
        }
        apply_until(wanted_);
    }

    BNORM_MEMBER void take_rest() {
        while (image_ < images_) {
            finish_plane();
        }
    }

  private:
    BNORM_MEMBER void apply_until(std::int64_t end) {
        const ApplyParameters parameters = parameters_;
        done_ = apply_vectors<Variant>(run_, done_, end, NothingFetched{}, [&](std::int64_t) { return parameters; });
    }

    // And the vector that it shares with the next: none is shared by runs.
    BNORM_MEMBER void finish_plane() {
        apply_until(plane_end_);
        if (++plane_ == task_.rows) {
            wanted_ -= plane_end_;
            start_image();
            return;
        }
        const ApplyParameters following = plane_parameters(task_, plane_);
        if (done_ < plane_end_) {
            apply_vector<Variant, true, true>(run_, done_, kWidth,
                                              blend_parameters(parameters_, following, plane_end_ - done_));
            done_ += kWidth;
        }
        parameters_ = following;
        plane_end_ += task_.columns;
    }

    BNORM_MEMBER void start_image() {
        done_ = plane_ = 0;
        plane_end_ = task_.columns;
        run_ = apply_row(task_, ++image_);
        parameters_ = plane_parameters(task_, 0);
    }

    const Apply& task_;
    const std::int64_t images_;
    std::int64_t image_ = 0;
    std::int64_t plane_ = 0;
    // Elements of the run: up to which it is wanted, and done.
    std::int64_t wanted_ = 0;
    std::int64_t done_ = 0;
    ApplyRow run_;
    ApplyParameters parameters_; // of the plane, which ends there
    std::int64_t plane_end_;
};

// What sums call for as many elements as they take on.
template <class Outputs, class Ahead>
struct InTurns {
    Outputs& outputs;
    Ahead ahead;
};

template <class Outputs, class Ahead>
BNORM_INLINE void fetch_ahead(std::int64_t elements, InTurns<Outputs, Ahead>& turns) {
    fetch_ahead(elements, turns.ahead);
    turns.outputs.take(elements);
}

template <class Variant, class AheadOf>
BNORM_RARE void moments_in_turns(const PlaneMoments& arguments, const Apply& other, const AheadOf& ahead_of) {
    using Outputs = OutputsBeside<Variant>;
    const PlaneMoments task = arguments;
    const Apply outputs_task = other;
    Outputs outputs(outputs_task, task.rows);
    for_all_blocks(task, [&](const Rows& block, const Samples& samples, const Course& course) {
        return moments_by(block, samples, [&](F32 shift) {
            const auto ahead = ahead_of(block, course);
            return sum_rows(block, shift, InTurns<Outputs, decltype(ahead_of(block, course))>{outputs, ahead});
        });
    });
    outputs.take_rest();
}

template <int kVariant>
BNORM_KERNEL void moments_beside(const PlaneMoments& task, const Apply& other) {
    using Variant = ApplyVariant<apply_variant_beside(kVariant)>;
    if (task.course.planes > 0) {
        moments_in_turns<Variant>(task, other, [](const Rows& block, const Course& course) {
            return RowsAhead<IntoL2>(block.x, block.row_stride, course);
        });
    } else {
        moments_in_turns<Variant>(task, other, [](const Rows&, const Course&) { return NothingAhead(); });
    }
}

} // namespace
} // namespace bnorm::kernels

#endif
