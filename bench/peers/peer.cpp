#include "peer.hpp"

#include <chrono>
#include <cstdio>
#include <iostream>
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

std::string time_calls(const std::function<void()>& run, double budget, bool cold) {
    std::ostringstream answer;
    answer << "{\"seconds\": [";
    run();
    const Clock::time_point start = Clock::now();
    for (int call = 0; call < kFewestCalls || seconds_since(start) < budget; ++call) {
        if (cold) {
            flush_caches();
        }
        const Clock::time_point before = Clock::now();
        run();
        answer << (call == 0 ? "" : ", ") << seconds_since(before);
    }
    answer << "]}";
    return answer.str();
}

std::string answer_line(Peer& peer, Prepared& prepared, const std::string& line) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "info") {
        return "{\"name\": " + quoted(peer.name()) + ", \"version\": " + quoted(peer.version()) + "}";
    }
    if (command == "prepare") {
        Task task{};
        words >> task.operation >> task.layout >> task.shape.batch >> task.shape.channels >> task.shape.height >>
            task.shape.width >> task.threads;
        prepared = {}; // first free the memory of the last one
        if (words) {
            prepared = peer.prepare(task);
            prepared.run();
            return "{\"implementation\": " + quoted(prepared.implementation) + "}";
        }
    }
    double budget = 0.0;
    std::string caches;
    if (command == "run" && words >> budget >> caches && prepared.run) {
        return time_calls(prepared.run, budget, caches == "cold");
    }
    throw std::runtime_error("cannot " + line);
}

} // namespace

int serve(Peer& peer) {
    Prepared prepared;
    std::string line;
    while (std::getline(std::cin, line)) {
        std::string answer;
        try {
            answer = answer_line(peer, prepared, line);
        } catch (const std::exception& error) {
            answer = "{\"error\": " + quoted(error.what()) + "}";
        }
        std::cout << answer << std::endl;
    }
    return 0;
}

} // namespace bench
