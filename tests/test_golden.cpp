// Vectors computed by PyTorch: see golden/generate.py.
#include <cmath>
#include <fstream>

#include "support.hpp"

using namespace tests;

namespace {

const std::string kFolder = BNORM_TEST_DATA_DIR "/golden/";
constexpr double kMomentum = 0.1;

struct Case {
    std::string name, layout, activation;
    std::int64_t batch, channels, spatial;
    bool residual;

    Shape shape() const { return {layout == "nchw" ? BNORM_NCHW : BNORM_NHWC, batch, channels, spatial}; }
    Activation act() const {
        if (activation == "relu") {
            return {BNORM_RELU, 0.0F};
        }
        if (activation == "leaky_relu") {
            return {BNORM_LEAKY_RELU, 0.125F};
        }
        if (activation == "relu6") {
            return {BNORM_CLIPPED_RELU, 6.0F};
        }
        REQUIRE(activation == "identity");
        return {};
    }
};

std::vector<Case> read_cases() {
    std::ifstream file(kFolder + "cases.txt");
    std::vector<Case> cases;
    for (Case c; file >> c.name >> c.layout >> c.batch >> c.channels >> c.spatial >> c.activation >> c.residual;) {
        cases.push_back(c);
    }
    return cases;
}

// Reads arrays in the order of the file.
class Arrays {
  public:
    explicit Arrays(const Case& of) : shape_(of.shape()), file_(kFolder + of.name + ".f32", std::ios::binary) {}
    Tensor tensor() {
        Tensor result(shape_);
        for (std::int64_t n = 0; n < shape_.batch; ++n) {
            for (std::int64_t c = 0; c < shape_.channels; ++c) {
                for (std::int64_t s = 0; s < shape_.spatial; ++s) {
                    result(n, c, s) = next();
                }
            }
        }
        return result;
    }
    Buffer<float> channels() {
        Buffer<float> result(shape_.channels);
        for (float& value : result) {
            value = next();
        }
        return result;
    }
    bool at_end() { return file_.peek() == std::ifstream::traits_type::eof(); }

  private:
    float next() {
        float value = 0;
        file_.read(reinterpret_cast<char*>(&value), sizeof value);
        REQUIRE(file_.good());
        return value;
    }
    Shape shape_;
    std::ifstream file_;
};

void check_close(const std::vector<float>& got, const std::vector<float>& expected, float bound) {
    REQUIRE(got.size() == expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        REQUIRE(std::fabs(got[i] - expected[i]) <= bound * (1.0F + std::fabs(expected[i])));
    }
}

std::vector<float> values_of(const Buffer<float>& buffer) { return {buffer.begin(), buffer.end()}; }

struct Inputs {
    Tensor x;
    Buffer<float> gamma, beta;
    Tensor residual;
    Buffer<float> running_mean, running_var;
    Tensor dy;
};

Inputs read_inputs(Arrays& arrays) {
    Tensor x = arrays.tensor();
    Buffer<float> gamma = arrays.channels();
    Buffer<float> beta = arrays.channels();
    Tensor residual = arrays.tensor();
    Buffer<float> running_mean = arrays.channels();
    Buffer<float> running_var = arrays.channels();
    return {std::move(x),           std::move(gamma), std::move(beta), std::move(residual), std::move(running_mean),
            std::move(running_var), arrays.tensor()};
}

struct Work {
    Work(const Case& of, const Inputs& in)
        : problem(problem_of(BNORM_TRAINING_FORWARD, of.shape(), of.act(), of.residual)), inputs(in), y(of.shape()),
          dx(of.shape()), dresidual(of.shape()), mean(of.channels), inv_std(of.channels), dgamma(of.channels),
          dbeta(of.channels), residual(of.residual ? in.residual.data() : nullptr) {
        problem.threads = 2;
        mask.resize(with_mask() ? Plan(problem).info().mask_bytes : 0);
    }
    bool with_mask() const { return problem.residual != 0 && problem.activation != BNORM_IDENTITY; }
    void* mask_or_null() { return with_mask() ? mask.data() : nullptr; }

    void train() {
        problem.operation = BNORM_TRAINING_FORWARD;
        const bnorm_training_forward_args args = {inputs.x.data(),
                                                  residual,
                                                  inputs.gamma.data(),
                                                  inputs.beta.data(),
                                                  y.data(),
                                                  mean.data(),
                                                  inv_std.data(),
                                                  inputs.running_mean.data(),
                                                  inputs.running_var.data(),
                                                  BNORM_RUNNING_EXPONENTIAL,
                                                  kMomentum,
                                                  0,
                                                  mask_or_null(),
                                                  mask.size()};
        REQUIRE_OK(bnorm_training_forward(Plan(problem), &args));
        problem.operation = BNORM_BACKWARD;
        const bnorm_backward_args back = {inputs.dy.data(),    inputs.x.data(),
                                          inputs.gamma.data(), inputs.beta.data(),
                                          mean.data(),         inv_std.data(),
                                          mask_or_null(),      mask.size(),
                                          dx.data(),           residual == nullptr ? nullptr : dresidual.data(),
                                          dgamma.data(),       dbeta.data()};
        REQUIRE_OK(bnorm_backward(Plan(problem), &back));
    }

    void infer(const float* running_mean, const float* running_var) {
        problem.operation = BNORM_INFERENCE;
        const bnorm_inference_args args = {inputs.x.data(),    residual,       inputs.gamma.data(),
                                           inputs.beta.data(), running_mean,   running_var,
                                           y.data(),           mask_or_null(), mask.size()};
        REQUIRE_OK(bnorm_inference(Plan(problem), &args));
        problem.operation = BNORM_BACKWARD_FIXED;
        const bnorm_backward_fixed_args back = {
            inputs.dy.data(), inputs.x.data(), inputs.gamma.data(), inputs.beta.data(), running_mean,
            running_var,      mask_or_null(),  mask.size(),         dx.data(),          nullptr,
            nullptr,          nullptr};
        REQUIRE_OK(bnorm_backward_fixed(Plan(problem), &back));
    }

    bnorm_problem problem;
    const Inputs& inputs;
    Tensor y, dx, dresidual;
    Buffer<double> mean, inv_std;
    Buffer<float> dgamma, dbeta;
    const float* residual;
    std::vector<unsigned char> mask;
};

} // namespace

TEST_CASE("a training step and a frozen step are PyTorch's") {
    const std::vector<Case> cases = read_cases();
    REQUIRE(cases.size() == 9);
    for (const Case& c : cases) {
        INFO("case ", c.name);
        Arrays arrays(c);
        const Inputs inputs = read_inputs(arrays);
        const std::vector<float> mean_before = values_of(inputs.running_mean);
        const std::vector<float> var_before = values_of(inputs.running_var);
        Work work(c, inputs);
        work.train();
        check_close(work.y.values(), arrays.tensor().values(), 1e-6F);
        check_close(values_of(inputs.running_mean), values_of(arrays.channels()), 3e-7F);
        check_close(values_of(inputs.running_var), values_of(arrays.channels()), 3e-7F);
        check_close(work.dx.values(), arrays.tensor().values(), 2e-6F);
        const Tensor dresidual = arrays.tensor();
        if (c.residual) {
            check_close(work.dresidual.values(), dresidual.values(), 1e-7F);
        }
        check_close(values_of(work.dgamma), values_of(arrays.channels()), 5e-6F);
        check_close(values_of(work.dbeta), values_of(arrays.channels()), 5e-6F);
        work.infer(mean_before.data(), var_before.data());
        check_close(work.y.values(), arrays.tensor().values(), 1e-6F);
        check_close(work.dx.values(), arrays.tensor().values(), 1e-6F);
        CHECK(arrays.at_end());
    }
}
