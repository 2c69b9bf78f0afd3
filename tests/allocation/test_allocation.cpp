// Nothing allocates after a plan's first execution, and every allocation that fails becomes a status.
#include <string>

#include "../layer.hpp"
#include "counting_allocator.hpp"

using namespace tests;

namespace {

// Calls an operation with its plan; everything is allocated beforehand but what the library allocates itself.
struct Operation {
    const char* name;
    bnorm_operation operation;
    bnorm_status (*execute)(const bnorm_plan* plan, Layer& layer);
};

double first_sum[4096];
double second_sum[4096];

const Operation kOperations[] = {
    {"training forward", BNORM_TRAINING_FORWARD,
     [](const bnorm_plan* plan, Layer& layer) {
         const auto args = layer.forward_args();
         return bnorm_training_forward(plan, &args);
     }},
    {"inference", BNORM_INFERENCE,
     [](const bnorm_plan* plan, Layer& layer) {
         const auto args = layer.inference_args();
         return bnorm_inference(plan, &args);
     }},
    {"backward", BNORM_BACKWARD,
     [](const bnorm_plan* plan, Layer& layer) {
         const auto args = layer.backward_args();
         return bnorm_backward(plan, &args);
     }},
    {"backward, statistics from x", BNORM_BACKWARD,
     [](const bnorm_plan* plan, Layer& layer) {
         auto args = layer.backward_args();
         args.mean = nullptr;
         return bnorm_backward(plan, &args);
     }},
    {"backward fixed", BNORM_BACKWARD_FIXED,
     [](const bnorm_plan* plan, Layer& layer) {
         const auto args = layer.backward_fixed_args();
         return bnorm_backward_fixed(plan, &args);
     }},
    {"moments", BNORM_MOMENTS,
     [](const bnorm_plan* plan, Layer& layer) {
         double count = 0;
         const bnorm_moments_args args = {layer.x.data(), &count, first_sum, second_sum};
         return bnorm_moments(plan, &args);
     }},
};

// Small, large; both layouts; every strategy of the planner.
const Shape kShapes[] = {{BNORM_NCHW, 2, 3, 4},      {BNORM_NCHW, 8, 64, 784},  {BNORM_NCHW, 16, 96, 49},
                         {BNORM_NCHW, 1, 2, 200000}, {BNORM_NCHW, 3000, 70, 1}, {BNORM_NHWC, 8, 64, 784},
                         {BNORM_NHWC, 4, 1100, 49},  {BNORM_NHWC, 2, 3, 40001}};

} // namespace

TEST_CASE("nothing allocates after a plan's first execution") {
    for (const Operation& operation : kOperations) {
        for (const Shape& shape : kShapes) {
            for (const int threads : {1, 2}) {
                INFO("operation ", std::string(operation.name), ", shape ", shape, ", threads ", threads);
                Layer layer({.shape = shape, .threads = threads});
                layer.run_forward();
                const Plan plan(layer.problem(operation.operation));
                REQUIRE(operation.execute(plan, layer) == BNORM_OK);
                const long before = allocations();
                bnorm_status status = BNORM_OK;
                for (int i = 0; i < 10 && status == BNORM_OK; ++i) {
                    status = operation.execute(plan, layer);
                }
                const long after = allocations();
                CHECK(status == BNORM_OK);
                CHECK(after - before == 0);
            }
        }
    }
}

TEST_CASE("whichever allocation fails: a status, or success without it; the next attempt works") {
    for (const Operation& operation : kOperations) {
        for (const Shape& shape : kShapes) {
            for (const int threads : {1, 2}) {
                Layer layer({.shape = shape, .threads = threads});
                layer.run_forward();
                const bnorm_problem problem = layer.problem(operation.operation);
                long k = 1;
                int refused = 0;
                for (bool failed = true; failed; ++k) {
                    INFO("operation ", std::string(operation.name), ", shape ", shape, ", threads ", threads, ", k ",
                         k);
                    bnorm_plan* plan = nullptr;
                    fail_allocation(k);
                    bnorm_status status = bnorm_plan_create(&problem, &plan);
                    if (status == BNORM_OK) {
                        status = operation.execute(plan, layer);
                    }
                    failed = allocation_has_failed();
                    fail_allocation(0);
                    CHECK((status == BNORM_OK || (failed && status == BNORM_OUT_OF_MEMORY)));
                    if (status == BNORM_OUT_OF_MEMORY) {
                        ++refused;
                        CHECK(std::string(bnorm_last_error()).find("memory") != std::string::npos);
                    }
                    if (plan != nullptr) {
                        CHECK(operation.execute(plan, layer) == BNORM_OK);
                    }
                    bnorm_plan_destroy(plan);
                }
                CHECK(refused >= 2); // the plan itself and its scratch memory
            }
        }
    }
}

TEST_CASE("a call that ran out of memory has written nothing") {
    Layer layer({.shape = {BNORM_NCHW, 4, 8, 100}});
    const Plan plan(layer.problem(BNORM_TRAINING_FORWARD));
    const std::vector<float> y = layer.y.values();
    const auto running_mean = layer.running_mean.snapshot();
    const auto mean = layer.mean.snapshot();
    const bnorm_training_forward_args args = layer.forward_args();
    fail_allocation(1);
    const bnorm_status status = bnorm_training_forward(plan, &args);
    fail_allocation(0);
    CHECK(status == BNORM_OUT_OF_MEMORY);
    CHECK(same_bits(layer.y.values(), y));
    CHECK(layer.running_mean.snapshot() == running_mean);
    CHECK(layer.mean.snapshot() == mean);
}
