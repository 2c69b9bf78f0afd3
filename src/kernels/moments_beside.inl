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

// What sums call for as many elements as they take on. Whether they fetch ahead is asked once a step: kernels of their
// own took seconds to compile for each ISA.
template <class Outputs>
struct InTurns {
    Outputs& outputs;
    RowsAhead<IntoL2> ahead;
    bool from_memory;
};

template <class Outputs>
BNORM_INLINE void fetch_ahead(std::int64_t elements, InTurns<Outputs>& turns) {
    if (turns.from_memory) {
        fetch_ahead(elements, turns.ahead);
    }
    turns.outputs.take(elements);
}

template <int kVariant>
BNORM_KERNEL void moments_beside(const PlaneMoments& arguments, const Apply& other) {
    using Outputs = OutputsBeside<ApplyVariant<apply_variant_beside(kVariant)>>;
    constexpr Course kNowhere = {1, 1, 0, false};
    const PlaneMoments task = arguments;
    const Apply outputs_task = other;
    const bool from_memory = task.course.planes > 0;
    Outputs outputs(outputs_task, task.rows);
    for_all_blocks(task, [&](const Rows& block, const Samples& samples, const Course& course) {
        return moments_by(block, samples, [&](F32 shift) {
            const RowsAhead<IntoL2> ahead(block.x, block.row_stride, from_memory ? course : kNowhere);
            return sum_rows(block, shift, InTurns<Outputs>{outputs, ahead, from_memory});
        });
    });
    outputs.take_rest();
}

} // namespace
} // namespace bnorm::kernels

#endif
