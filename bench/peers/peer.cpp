#include "peer.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <random>
#include <sstream>
#include <stdexcept>
#include <vector>

namespace bench {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string quoted(const std::string& text) {
    std::string result = "\"";
    for (const char c : text) {
        result += c == '"' || c == '\\' ? std::string{'\\', c} : std::string{c == '\n' ? ' ' : c};
    }
    return result + "\"";
}

// Larger than any cache whose contents should be gone.
constexpr std::size_t kFlushBytes = std::size_t{256} << 20;

void flush_caches() {
    static std::vector<char> memory(kFlushBytes, 1);
    for (std::size_t i = 0; i < memory.size(); i += 64) {
        ++memory[i];
    }
}

constexpr int kFewestCalls = 3;

// What the lines so far have asked for: a layer, or several in a chain.
struct Session {
    Task task;
    std::vector<Prepared> layers;

    void run() const {
        for (const Prepared& layer : layers) {
            layer.run();
        }
    }
};

void prepare(Peer& peer, Session& session, int layers) {
    session.layers.clear(); // first free the memory of the last ones
    std::vector<Prepared> chain = {peer.prepare(session.task, nullptr)};
    while (chain.size() < static_cast<std::size_t>(layers)) {
        float* written = chain.back().y;
        if (written == nullptr) {
            throw std::runtime_error("only forward operations make a chain");
        }
        chain.push_back(peer.prepare(session.task, written));
        if (chain.back().x != written) {
            throw std::runtime_error("does not read what the layer before wrote");
        }
    }
    session.layers = std::move(chain);
    session.run();
}

// Once; with several threads for a while: after another process's turn they may all begin on one core, and share it
// for some milliseconds before the system moves one.
constexpr double kSecondsToSettle = 0.02;

void settle(const Session& session) {
    const Clock::time_point start = Clock::now();
    do {
        session.run();
    } while (session.task.threads > 1 && seconds_since(start) < kSecondsToSettle);
}

std::string time_calls(const Session& session, double budget, bool cold) {
    std::ostringstream answer;
    answer << "{\"seconds\": [";
    settle(session);
    const Clock::time_point start = Clock::now();
    for (int call = 0; call < kFewestCalls || seconds_since(start) < budget; ++call) {
        if (cold) {
            flush_caches();
        }
        const Clock::time_point before = Clock::now();
        session.run();
        answer << (call == 0 ? "" : ", ") << seconds_since(before) / static_cast<double>(session.layers.size());
    }
    answer << "]}";
    return answer.str();
}

// The elements of a channel of x or y, from channel to spatial.
std::size_t offset_of(const Task& task, std::int64_t image, std::int64_t channel, std::int64_t pixel) {
    const Shape& s = task.shape;
    return static_cast<std::size_t>(task.layout == "nchw" ? (image * s.channels + channel) * s.spatial() + pixel
                                                          : (image * s.spatial() + pixel) * s.channels + channel);
}

template <class Body>
void for_each_element(const Task& task, std::int64_t channel, const Body& body) {
    for (std::int64_t image = 0; image < task.shape.batch; ++image) {
        for (std::int64_t pixel = 0; pixel < task.shape.spatial(); ++pixel) {
            body(offset_of(task, image, channel, pixel));
        }
    }
}

long double largest_error_of_channel(const Prepared& prepared, const Task& task, std::int64_t channel) {
    const long double count = static_cast<long double>(task.shape.batch * task.shape.spatial());
    long double mean = 0;
    for_each_element(task, channel, [&](std::size_t i) { mean += prepared.x[i]; });
    mean /= count;
    long double m2 = 0;
    for_each_element(task, channel, [&](std::size_t i) { m2 += (prepared.x[i] - mean) * (prepared.x[i] - mean); });
    const long double scale = kGamma / std::sqrt(m2 / count + static_cast<long double>(kEpsilonOfPeers));
    long double largest = 0;
    for_each_element(task, channel, [&](std::size_t i) {
        const long double error = std::fabs((prepared.x[i] - mean) * scale + kBeta - prepared.y[i]);
        largest = error <= largest ? largest : error;
    });
    return largest;
}

std::string measure_error(Prepared& prepared, const Task& task, double mean) {
    if (prepared.x == nullptr || prepared.y == nullptr || task.operation != "training_forward") {
        throw std::runtime_error("accuracy is measured of training_forward");
    }
    std::mt19937 generator(1);
    std::normal_distribution<double> normal(mean, 1.0);
    std::generate_n(prepared.x, task.shape.elements(), [&] { return static_cast<float>(normal(generator)); });
    prepared.run();
    long double largest = 0;
    for (std::int64_t channel = 0; channel < task.shape.channels; ++channel) {
        largest = std::max(largest, largest_error_of_channel(prepared, task, channel));
    }
    return "{\"largest_error\": " + std::to_string(static_cast<double>(largest * 1e9L)) + "e-9}";
}

std::string answer_line(Peer& peer, Session& session, const std::string& line) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "info") {
        return "{\"name\": " + quoted(peer.name()) + ", \"version\": " + quoted(peer.version()) + "}";
    }
    if (command == "prepare") {
        session = {};
        Task& task = session.task;
        words >> task.operation >> task.layout >> task.shape.batch >> task.shape.channels >> task.shape.height >>
            task.shape.width >> task.threads;
        if (words) {
            prepare(peer, session, 1);
            return "{\"implementation\": " + quoted(session.layers[0].implementation) + "}";
        }
    }
    if (session.layers.empty()) {
        throw std::runtime_error("cannot " + line);
    }
    int layers = 0;
    if (command == "chain" && words >> layers && layers > 0) {
        prepare(peer, session, layers);
        return "{}";
    }
    double mean = 0.0;
    if (command == "accuracy" && words >> mean) {
        return measure_error(session.layers[0], session.task, mean);
    }
    double budget = 0.0;
    std::string caches;
    if (command == "run" && words >> budget >> caches) {
        return time_calls(session, budget, caches == "cold");
    }
    throw std::runtime_error("cannot " + line);
}

} // namespace

int serve(Peer& peer) {
    Session session;
    std::string line;
    while (std::getline(std::cin, line)) {
        std::string answer;
        try {
            answer = answer_line(peer, session, line);
        } catch (const std::exception& error) {
            answer = "{\"error\": " + quoted(error.what()) + "}";
        }
        std::cout << answer << std::endl;
    }
    return 0;
}

} // namespace bench
