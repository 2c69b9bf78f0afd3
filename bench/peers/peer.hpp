// The process in which one library is timed. It is told what to do in lines of text and answers each in a line of JSON:
//
//   info                                            {"name": "...", "version": "..."}
//   prepare OPERATION LAYOUT N C H W THREADS        {"implementation": "..."}, and allocates
//   chain LAYERS                                    {}: what was prepared so many times, each reading what the one
//                                                   before wrote
//   run SECONDS warm|cold                           {"seconds": [0.001, ...]}: one figure a call, or of a chain its
//                                                   time by its layers
//   accuracy MEAN                                   {"largest_error": ...} of y, against long double, for x = N(MEAN,
//   1):
//                                                   training_forward only
//
// or with {"error": "..."} where it cannot. Operations are those of case.hpp. Python peers speak the same: peer.py.
#ifndef BNORM_BENCH_PEERS_PEER_HPP
#define BNORM_BENCH_PEERS_PEER_HPP

#include <functional>
#include <string>

#include "../shapes.hpp"

namespace bench {

// What `prepare` asks for.
struct Task {
    std::string operation;
    std::string layout; // nchw or nhwc
    Shape shape;
    int threads;
};

// A task that is ready: everything is allocated.
struct Prepared {
    std::string implementation;
    std::function<void()> run;
    float* x = nullptr; // dense in its layout; of forward operations, and so is y
    float* y = nullptr;
};

// What every peer normalizes with.
constexpr float kGamma = 1.25F;
constexpr float kBeta = 0.125F;
constexpr double kEpsilonOfPeers = 1e-5;

class Peer {
  public:
    Peer() = default;
    Peer(const Peer&) = delete;
    Peer& operator=(const Peer&) = delete;
    virtual ~Peer() = default;
    virtual std::string name() const = 0;
    virtual std::string version() const = 0;
    // `x`, if it is not null, is read instead of a tensor of its own. Throws std::exception where it cannot.
    virtual Prepared prepare(const Task& task, float* x) = 0;
};

// Serves standard input until it ends. Returns what main returns.
int serve(Peer& peer);

} // namespace bench

#endif
