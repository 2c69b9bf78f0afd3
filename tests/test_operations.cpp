// Every operation against the oracle, over layouts, shapes, activations, residuals, masks, memory placements.
#include "layer.hpp"

using namespace tests;

namespace {

// Forward, then backward as a training step runs them, with the mask where backward cannot do without.
void check_training(const Setup& setup) {
    INFO("setup: ", setup);
    Layer layer(setup);
    const Tensor x = [&] {
        Tensor copy(setup.shape);
        copy.copy_from(layer.x);
        return copy;
    }();
    layer.run_forward();
    check_forward(layer, x, layer.residual);
    if (setup.in_place) {
        layer.x.copy_from(x); // backward needs what forward was given
    }
    Tensor dy(setup.shape);
    dy.copy_from(layer.dy);
    layer.run_backward();
    check_backward(layer, dy, false);
}

void check_frozen(const Setup& setup) {
    INFO("frozen, setup: ", setup);
    Layer layer(setup);
    Tensor x(setup.shape);
    x.copy_from(layer.x);
    layer.run_inference();
    check_inference(layer, x, layer.residual);
    layer.x.copy_from(x);
    Tensor dy(setup.shape);
    dy.copy_from(layer.dy);
    layer.run_backward_fixed();
    check_backward(layer, dy, true);
}

void check_both(const Setup& setup) {
    check_training(setup);
    check_frozen(setup);
}

// Whether a layer can go without a mask.
bool may_omit_mask(const Activation& activation, bool residual) {
    return activation.kind == BNORM_IDENTITY || !residual;
}

template <class Check>
void for_each_fusion(const Setup& base, const Check& check) {
    for (const Activation& activation : kActivations) {
        for (const bool residual : {false, true}) {
            for (const bool mask : {false, true}) {
                if (mask ? activation.kind == BNORM_IDENTITY : !may_omit_mask(activation, residual)) {
                    continue;
                }
                Setup setup = base;
                setup.activation = activation;
                setup.residual = residual;
                setup.mask = mask;
                check(setup);
            }
        }
    }
}

} // namespace

TEST_CASE("every fusion in every layout, at every memory placement, in place and not") {
    const Shape shapes[] = {{BNORM_NCHW, 3, 5, 200}, {BNORM_NCHW, 3, 19, 49}, {BNORM_NCHW, 5, 18, 6},
                            {BNORM_NHWC, 3, 19, 49}, {BNORM_NHWC, 2, 32, 9},  {BNORM_NHWC, 4, 3, 121},
                            {BNORM_NCHW, 9, 37, 1},  {BNORM_NHWC, 1, 1, 700}, {BNORM_NCHW, 17, 35, 31},
                            {BNORM_NHWC, 1, 203, 3}, {BNORM_NHWC, 1, 128, 3}};
    int turn = 0;
    for (const Shape& shape : shapes) {
        for (const Placement placement : kPlacements) {
            Setup base;
            base.shape = shape;
            base.placement = placement;
            base.in_place = turn++ % 2 != 0;
            for_each_fusion(base, check_both);
        }
    }
}

TEST_CASE("rows of channel slices: strides wider than rows") {
    for (const bnorm_layout layout : kLayouts) {
        for (const std::int64_t spatial : {1, 7, 49, 130}) {
            for (const std::int64_t channels : {1, 3, 16, 33}) {
                Setup base;
                base.shape = {layout, 3, channels, spatial};
                base.gap = 5;
                base.placement = Placement::ends_page;
                base.in_place = channels % 2 == 0;
                for_each_fusion(base, check_both);
            }
        }
    }
}

TEST_CASE("every spatial size from 1 to 70") {
    for (std::int64_t spatial = 1; spatial <= 70; ++spatial) {
        for (const bnorm_layout layout : kLayouts) {
            Setup setup;
            setup.shape = {layout, 3, 5, spatial};
            setup.activation = kActivations[spatial % 4];
            setup.residual = spatial % 3 == 0;
            setup.mask = setup.activation.kind != BNORM_IDENTITY && (setup.residual || spatial % 2 == 0);
            setup.placement = kPlacements[spatial % 4];
            check_both(setup);
            setup.shape = {layout, 1, 33, spatial};
            check_both(setup);
        }
    }
}

TEST_CASE("every channel count from 1 to 70") {
    for (std::int64_t channels = 1; channels <= 70; ++channels) {
        for (const bnorm_layout layout : kLayouts) {
            Setup setup;
            setup.activation = kActivations[channels % 4];
            setup.residual = channels % 3 == 0;
            setup.mask = setup.activation.kind != BNORM_IDENTITY && (setup.residual || channels % 2 == 0);
            setup.placement = kPlacements[(channels + 1) % 4];
            for (const std::int64_t spatial : {1, 4, 49}) {
                setup.shape = {layout, 4, channels, spatial};
                check_both(setup);
            }
            setup.shape = {layout, 1, channels, 1};
            check_training(setup);
        }
    }
}

TEST_CASE("large and awkward shapes") {
    const Shape shapes[] = {
        {BNORM_NCHW, 1, 3, 120300},        {BNORM_NHWC, 1, 3, 120300}, {BNORM_NCHW, 1, 1, (1 << 18) + 3},
        {BNORM_NHWC, 1, 1, (1 << 18) + 3}, {BNORM_NCHW, 2, 1001, 9},   {BNORM_NHWC, 2, 1001, 9},
        {BNORM_NHWC, 3, 2048, 4},          {BNORM_NHWC, 1, 4101, 2},   {BNORM_NHWC, 700, 17, 1},
        {BNORM_NHWC, 40, 65, 49},          {BNORM_NHWC, 9, 100, 121},  {BNORM_NCHW, 3000, 6, 9},
        {BNORM_NCHW, 40, 64, 49},          {BNORM_NCHW, 6, 64, 784},   {BNORM_NCHW, 300, 20, 30},
        {BNORM_NCHW, 180, 33, 81}};
    for (const Shape& shape : shapes) {
        for (const int threads : {1, 2, 5}) {
            Setup setup;
            setup.shape = shape;
            setup.threads = threads;
            setup.activation = kActivations[threads % 4];
            setup.residual = threads == 2;
            setup.mask = setup.residual && setup.activation.kind != BNORM_IDENTITY;
            check_both(setup);
        }
    }
}

// Some of which stay in L1 from the sums to the outputs, on machines where that is measured to be faster.
TEST_CASE("planes of one image, in several groups") {
    const Shape shapes[] = {
        {BNORM_NCHW, 1, 181, 784}, {BNORM_NCHW, 1, 1301, 100}, {BNORM_NCHW, 1, 2901, 49}, {BNORM_NCHW, 1, 43, 3136}};
    for (const Shape& shape : shapes) {
        Setup base;
        base.shape = shape;
        base.placement = Placement::ends_page;
        base.in_place = shape.spatial == 100;
        for_each_fusion(base, check_both);
        base.threads = 2;
        base.in_place = !base.in_place;
        for_each_fusion(base, check_both);
    }
}

// Summed beside the outputs of those before, on such machines. The eight runs of a shape check every channel twice and
// more.
TEST_CASE("planes in tensors of 3 MB and more") {
    int turn = 0;
    for (const Shape& shape :
         {Shape{BNORM_NCHW, 8, 277, 784}, Shape{BNORM_NCHW, 3, 13, 40000}, Shape{BNORM_NCHW, 25, 356, 196},
          Shape{BNORM_NCHW, 1, 276, 3136}, Shape{BNORM_NCHW, 90, 160, 49}, Shape{BNORM_NCHW, 48, 6, 4112}}) {
        for (const bnorm_activation activation : {BNORM_IDENTITY, BNORM_RELU}) {
            for (const bool residual : {false, true}) {
                Setup setup;
                setup.shape = shape;
                setup.activation = {activation, 0.0F};
                setup.residual = residual;
                setup.mask = residual && activation != BNORM_IDENTITY;
                setup.check_every = 3;
                setup.check_first = turn++ % 3;
                check_both(setup);
                setup.threads = 2;
                setup.check_first = turn++ % 3;
                setup.in_place = residual;
                setup.placement = residual ? Placement::aligned : Placement::misaligned;
                check_both(setup);
            }
        }
    }
}

// So are channels that no cache holds.
TEST_CASE("dy and x of more than 128 MiB") {
    Setup setup;
    setup.shape = {BNORM_NCHW, 33, 8, 65536};
    setup.activation = kActivations[1];
    setup.residual = true;
    setup.mask = true;
    setup.check_every = 7;
    check_training(setup);
}

// Eight rows at a time, and the rest one by one.
TEST_CASE("rows whose parameters would fill L1") {
    for (const std::int64_t channels : {1105, 1456, 1697}) {
        Setup base;
        base.shape = {BNORM_NHWC, 1, channels, 21};
        base.placement = Placement::ends_page;
        base.in_place = channels == 1697;
        for_each_fusion(base, check_both);
    }
}

TEST_CASE("gamma and beta are optional, each alone") {
    for (const bnorm_layout layout : kLayouts) {
        for (const bool gamma : {false, true}) {
            for (const bool beta : {false, true}) {
                Setup base;
                base.shape = {layout, 4, 7, 33};
                base.gamma = gamma;
                base.beta = beta;
                for_each_fusion(base, check_both);
            }
        }
    }
}

// Past half of a last-level cache of 32 MiB: outputs bypass it, sums fetch ahead, also beyond the last image of a
// channel.
TEST_CASE("tensors too large for the last-level cache") {
    for (const bnorm_layout layout : kLayouts) {
        for (const Shape& shape : {Shape{layout, 22, 64, 3136}, Shape{layout, 22, 64, 3025},
                                   Shape{layout, 30, 2048, 49}, Shape{layout, 22, 900, 144}}) {
            Setup setup;
            setup.shape = shape;
            setup.threads = 2;
            setup.activation = kActivations[1];
            setup.residual = true;
            setup.mask = true;
            setup.check_every = 7; // each lane of a vector in turn
            check_training(setup);
            if (shape.spatial == 3025) {
                setup.placement = Placement::misaligned;
                setup.residual = false;
                setup.mask = false;
                check_training(setup);
            }
        }
    }
}
