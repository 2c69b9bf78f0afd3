// A training step and inference of batch norm with ReLU through bnorm.hpp, checked against what PyTorch computed:
//   golden_step tests/golden/nchw_relu.f32
#include <bnorm/bnorm.hpp>

#include <cmath>
#include <exception>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

namespace {

constexpr std::int64_t kBatch = 2;
constexpr std::int64_t kChannels = 19;
constexpr std::int64_t kSpatial = 49;

bnorm::Plan make_plan(bnorm_operation operation) {
    bnorm_problem problem = {};
    problem.operation = operation;
    problem.layout = BNORM_NCHW;
    problem.batch = kBatch;
    problem.channels = kChannels;
    problem.spatial = kSpatial;
    problem.epsilon = 1e-5;
    problem.activation = BNORM_RELU;
    return bnorm::Plan(problem);
}

// The file's arrays in their order: see tests/golden/generate.py.
class Golden {
  public:
    explicit Golden(const char* path) : file_(path, std::ios::binary) {}
    std::vector<float> tensor() { return read(kBatch * kChannels * kSpatial); }
    std::vector<float> channels() { return read(kChannels); }

  private:
    std::vector<float> read(std::int64_t count) {
        std::vector<float> values(static_cast<std::size_t>(count));
        const auto bytes = static_cast<std::streamsize>(values.size() * sizeof(float));
        if (!file_.read(reinterpret_cast<char*>(values.data()), bytes)) {
            throw std::runtime_error("the golden vectors cannot be read");
        }
        return values;
    }
    std::ifstream file_;
};

void expect(const char* name, const std::vector<float>& got, const std::vector<float>& expected) {
    for (std::size_t i = 0; i < expected.size(); ++i) {
        if (!(std::fabs(got.at(i) - expected[i]) <= 5e-6F * (1.0F + std::fabs(expected[i])))) {
            throw std::runtime_error(std::string(name) + " is not PyTorch's at " + std::to_string(i));
        }
    }
}

std::vector<float> infer(const std::vector<float>& x, const std::vector<float>& gamma, const std::vector<float>& beta,
                         const std::vector<float>& running_mean, const std::vector<float>& running_var) {
    std::vector<float> y(x.size());
    bnorm::Inference inference;
    inference.x = x;
    inference.gamma = gamma;
    inference.beta = beta;
    inference.running_mean = running_mean;
    inference.running_var = running_var;
    inference.y = y;
    make_plan(BNORM_INFERENCE).inference(inference);
    return y;
}

void run(Golden golden) {
    const auto x = golden.tensor();
    const auto gamma = golden.channels();
    const auto beta = golden.channels();
    golden.tensor(); // a residual, which this case has none of
    auto running_mean = golden.channels();
    auto running_var = golden.channels();
    const auto dy = golden.tensor();
    std::vector<float> y(x.size());
    std::vector<float> dx(x.size());
    std::vector<float> dgamma(gamma.size());
    std::vector<float> dbeta(beta.size());
    std::vector<double> mean(gamma.size());
    std::vector<double> inv_std(gamma.size());

    const std::vector<float> frozen_y = infer(x, gamma, beta, running_mean, running_var);

    bnorm::TrainingForward forward;
    forward.x = x;
    forward.gamma = gamma;
    forward.beta = beta;
    forward.y = y;
    forward.mean = mean;
    forward.inv_std = inv_std;
    forward.running_mean = running_mean;
    forward.running_var = running_var;
    make_plan(BNORM_TRAINING_FORWARD).training_forward(forward);
    expect("y", y, golden.tensor());
    expect("running_mean", running_mean, golden.channels());
    expect("running_var", running_var, golden.channels());

    bnorm::Backward backward;
    backward.dy = dy;
    backward.x = x;
    backward.gamma = gamma;
    backward.beta = beta;
    backward.mean = mean;
    backward.inv_std = inv_std;
    backward.dx = dx;
    backward.dgamma = dgamma;
    backward.dbeta = dbeta;
    const bnorm::Plan plan = make_plan(BNORM_BACKWARD);
    plan.backward(backward);
    expect("dx", dx, golden.tensor());
    golden.tensor();
    expect("dgamma", dgamma, golden.channels());
    expect("dbeta", dbeta, golden.channels());
    expect("y of inference", frozen_y, golden.tensor());

    backward.dx = std::span(dx).first(dx.size() - 1);
    try {
        plan.backward(backward);
        throw std::runtime_error("a span that is too short was taken");
    } catch (const bnorm::Error& error) {
        std::cout << "a span that is too short throws: " << error.what() << '\n';
    }
}

} // namespace

int main(int argc, char** argv) {
    try {
        run(Golden(argc > 1 ? argv[1] : ""));
        std::cout << "C++: training and inference are PyTorch's (bnorm " << bnorm_version() << ")\n";
        return 0;
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
