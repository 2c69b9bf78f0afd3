#!/usr/bin/env python3
"""Times bnorm and whatever peers are found on the same tensors, in turns, and writes results.json for report.py.

Each library has a process of its own. For one row (operation, layout, shape, threads) all of them allocate; then they
take turns, A B C B C A ..., each for a fraction of a second, so that a machine that slows down slows all of them down.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
import typing

import report

HERE = pathlib.Path(__file__).resolve().parent
PEERS = HERE / "peers"

QUICK_SHAPES = {
    "resnet50_conv2:32", "resnet50_conv3_out:32", "resnet50_conv4:32", "resnet50_conv5:32", "resnet50_conv3:8",
    "resnet50_stem:1", "channels_65:8", "dense:1024",
}
QUICK_OPERATIONS = {
    "training_forward", "training_forward_residual_relu", "inference", "backward", "backward_residual_relu",
}


# What operations of two passes do at least where caches keep nothing (memory.hpp). NCHW's slabs stay in L2.
TWO_PASSES = {
    "training_forward": "read_then_copy", "training_forward_relu": "read_then_copy",
    "training_forward_residual_relu": "read_then_add", "backward": "read_two_then_add",
    "backward_relu": "read_two_then_add", "backward_residual_relu": "read_two_then_split",
}

# Threads that wait do not spin.
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
# glibc keeps what is freed, so that peers that allocate their results in each call do not get new pages from the kernel
# each time. Not for the others: tensors one behind the other on the heap may start so that each store seems to overlap
# the next load (the lower 12 bits of their addresses agree), which took up to a fifth.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}


class Peer:
    """A process that speaks the protocol of peer.hpp."""

    def __init__(self, command, **variables):
        allocates = command[-1].endswith(".py")
        environment = dict(os.environ, **ENVIRONMENT, **(KEEP_MEMORY if allocates else {}), **variables)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            cwd=PEERS, env=environment, start_new_session=True)  # Ctrl-C is for this program, which ends the others
        self.info = self.ask("info")

    def choose_cores(self, threads):
        """One thread stays where all others have their turns: cores of a shared machine slow down one at a time."""
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(self.process.pid, cores[-1:] if threads == 1 else cores)

    def ask(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        return json.loads(answer) if answer else {"error": "the process ended"}

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def tell_versions_apart(peers):
    """Two versions of one library get the version into their names."""
    names = [peer.info["name"] for peer in peers]
    for peer in peers:
        if names.count(peer.info["name"]) > 1:
            peer.info["name"] += " " + peer.info["version"]


def find_peers(build, wanted=None, also=()):
    """All that answer. Python peers run by this interpreter or, if that lacks the library, by the system's."""
    programs = [path for path in sorted((build / "bench").glob("peer_*")) if os.access(path, os.X_OK)]
    commands = [[[str(path)]] for path in programs + [path.resolve() for path in also]]
    commands += [[[interpreter, str(path)] for interpreter in (sys.executable, report.SYSTEM_PYTHON)]
                 for path in sorted(PEERS.glob("peer_*.py"))]
    peers = []
    for choices in commands:
        name = re.sub(r"peer_|\.py", "", pathlib.Path(choices[0][-1]).name)
        if name != "bnorm" and wanted is not None and name not in wanted:
            continue
        for command in choices:
            peer = Peer(command)
            if "error" not in peer.info:
                print(f"found {peer.info['name']} {peer.info['version']}")
                peers.append(peer)
                break
            peer.close()
        else:
            print(f"left out {name}: its library is not there")
    tell_versions_apart(peers)
    return sorted(peers, key=lambda peer: peer.info["name"] != "bnorm")


def huge_page_peer(build):
    """bnorm once more, with buffers that glibc (2.35 or newer) asks the kernel to back with pages of 2 MiB."""
    peer = Peer([str(build / "bench" / "peer_bnorm")], GLIBC_TUNABLES="glibc.malloc.hugetlb=1")
    peer.info["name"] = "bnorm, 2 MiB pages"
    return peer


def read_suite(build):
    operations, shapes = {}, []
    output = subprocess.run([build / "bench" / "peer_bnorm", "--suite"], capture_output=True, text=True, check=True)
    for line in output.stdout.splitlines():
        kind, name, *numbers = line.split()
        if kind == "operation":
            operations[name] = int(numbers[0])
        else:
            shapes.append((name, [int(number) for number in numbers]))
    return operations, shapes


def choose_rows(options, operations, shapes):
    rows = []
    for name, sizes in shapes:
        for operation, streams in operations.items():
            for layout in ("nchw", "nhwc"):
                for threads in sorted({1, os.cpu_count()}, reverse=True):
                    row = {"operation": operation, "layout": layout, "layer": name, "shape": sizes,
                           "threads": threads, "streams": streams}
                    in_quick = f"{name}:{sizes[0]}" in QUICK_SHAPES and operation in QUICK_OPERATIONS
                    text = "/".join([operation, layout, f"{name}:{'x'.join(map(str, sizes))}", f"threads:{threads}"])
                    chains = not options.chain or operation.startswith(("training_forward", "inference"))
                    if (in_quick or not options.quick) and chains and re.search(options.filter, text):
                        rows.append(row)
    return rows


def layers_of_chain(elements, megabytes):
    """So many that their outputs are of about so much memory; few enough that values stay finite."""
    return max(2, min(64, round(megabytes * 1e6 / (4 * elements))))


class Contender(typing.NamedTuple):
    """Who takes turns at a row: a process and what it is asked to prepare."""

    name: str
    peer: Peer
    request: str


def take_turns(contenders, options, layers=1):
    """(medians of each turn, by the name of the contender; what the others, which are left out, answered)"""
    able, left_out = {}, {}
    for contender in contenders:
        contender.peer.choose_cores(int(contender.request.split()[-1]))
        answer = contender.peer.ask("prepare " + contender.request)
        if layers > 1 and "error" not in answer:
            answer |= contender.peer.ask(f"chain {layers}")
        if "error" in answer:
            left_out[contender.name] = answer["error"]
        else:
            able[contender.name] = (contender.peer, answer["implementation"])
    turns = {name: [] for name in able}
    order = list(able.items())
    for _ in range(options.rounds):
        order.append(order.pop(0))  # so that nobody always follows the same
        for name, (peer, _) in order:
            answer = {} if name in left_out else peer.ask(f"run {options.seconds} {'cold' if options.cold else 'warm'}")
            if "error" in answer:
                left_out[name] = answer["error"]
            elif answer:
                turns[name].append(statistics.median(answer["seconds"]))
    return {name: {"implementation": implementation, "turns": turns[name]}
            for name, (_, implementation) in able.items() if name not in left_out}, left_out


class Limit:
    """What memory gives at a footprint and a number of threads, in bytes per second."""

    def __init__(self, peer, options):
        self.peer = peer
        self.options = options
        self.known = {}

    def of(self, row, elements):
        kinds = ("read",) if row["streams"] == 1 else ("copy", "copy_nontemporal")
        moved = elements * row["streams"]
        key = (moved, row["threads"], kinds)
        if key not in self.known:
            arrays = len(kinds)
            rates = {}
            for kind in kinds:
                request = f"{kind} nchw 1 1 1 {moved // arrays} {row['threads']}"
                found, _ = take_turns([Contender(kind, self.peer, request)], self.options)
                rates[kind] = 4 * moved / statistics.median(found[kind]["turns"])
            self.known[key] = rates
        return self.known[key]


def two_passes(row, elements, peers):
    """Two plain passes over as much, which take turns with the others: stores through the caches, and past them."""
    kind = TWO_PASSES.get(row["operation"])
    if kind is None or row["layout"] != "nhwc":
        return []
    return [Contender(name, peer, f"{name} nchw 1 1 1 {elements} {row['threads']}")
            for name, peer in zip((kind, kind + "_nontemporal"), peers)]


def build_flags(build):
    cache = dict(re.findall(r"^(\w+):\w+=(.*)$", (build / "CMakeCache.txt").read_text(), re.MULTILINE))
    kind = cache.get("CMAKE_BUILD_TYPE", "")
    flags = [kind, cache.get("CMAKE_CXX_FLAGS", ""), cache.get(f"CMAKE_CXX_FLAGS_{kind.upper()}", "")]
    return " ".join(filter(None, flags)) + "; kernels: src/CMakeLists.txt"


def describe_machine(build):
    fields = dict(line.split(":", 1) for line in
                  subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout.splitlines() if ":" in line)
    wanted = ("Model name", "CPU(s)", "L1d cache", "L2 cache", "L3 cache", "Hypervisor vendor")
    commit = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return {**{name: fields[name].strip() for name in wanted if name in fields}, "system": platform.platform(),
            "flags": build_flags(build), "commit": commit.stdout.strip(), "date": time.strftime("%Y-%m-%d")}


def measure_row(row, peers, limit, loops, options):
    elements = row["shape"][0] * row["shape"][1] * row["shape"][2] * row["shape"][3]
    request = " ".join(map(str, [row["operation"], row["layout"], *row["shape"], row["threads"]]))
    layers = layers_of_chain(elements, options.chain) if options.chain else 1
    passes = [] if options.chain else two_passes(row, elements, loops)
    found, row["left_out"] = take_turns([Contender(peer.info["name"], peer, request) for peer in peers] + passes,
                                        options, layers)
    row["two_passes"] = {one.name: statistics.median(found.pop(one.name)["turns"]) for one in passes}
    row["peers"] = found
    row["limit"] = limit.of(row, elements)
    row["bytes"] = 4 * elements * row["streams"]
    times = "  ".join(f"{name} {statistics.median(peer['turns']) * 1e3:.3f}" for name, peer in row["peers"].items())
    return f"{request}  ms: {times}"


def interrupt_once(*_):
    """timeout(1) sends its signal twice, and so do the impatient: the second must not cost the report."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def measure(rows, peers, limit, loops, options):
    """Returns the rows that were measured: all, or those before an interruption."""
    signal.signal(signal.SIGINT, interrupt_once)
    start = time.monotonic()
    for done, row in enumerate(rows):
        try:
            times = measure_row(row, peers, limit, loops, options)
        except KeyboardInterrupt:
            print(f"interrupted after {done} of {len(rows)} rows", flush=True)
            return rows[:done]
        spent = time.monotonic() - start
        left = spent / (done + 1) * (len(rows) - done - 1)
        print(f"{done + 1}/{len(rows)}, {left / 60:.1f} min left: {times}", flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent / "build" / "release")
    parser.add_argument("--output", type=pathlib.Path, default=HERE.parent / "build" / "comparison")
    parser.add_argument("--quick", action="store_true", help="eight shapes, five operations: at most 5 minutes")
    parser.add_argument("--filter", default="", help="a regular expression, for operation/layout/layer:sizes/threads:n")
    parser.add_argument("--peers", nargs="*", help="by the names of their files; all that are found by default")
    parser.add_argument("--also", nargs="*", type=pathlib.Path, default=[], metavar="PROGRAM",
                        help="peers of other builds: peer_onednn linked with another oneDNN, say")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each peer on each row")
    parser.add_argument("--seconds", type=float, help="of a turn; 0.1, or 0.03 with --quick")
    caches = parser.add_mutually_exclusive_group()
    caches.add_argument("--cold", action="store_true", help="flush the caches before each call")
    caches.add_argument("--chain", type=float, default=0, metavar="MEGABYTES",
                        help="forward operations in chains of layers, as in a network: each reads what the one before "
                             "wrote, and all their outputs together are of so many megabytes")
    parser.add_argument("--huge-pages", action="store_true", help="bnorm in 2 MiB pages as one more column")
    options = parser.parse_args()
    options.seconds = options.seconds or (0.03 if options.quick else 0.1)
    options.build = options.build.resolve()

    options.output = options.output.resolve()
    peers = find_peers(options.build, options.peers, options.also)
    if not peers or peers[0].info["name"] != "bnorm":
        sys.exit(f"{options.build} has no peer_bnorm: cmake --preset release && cmake --build --preset release")
    if options.huge_pages:
        peers.append(huge_page_peer(options.build))
    rows = choose_rows(options, *read_suite(options.build))
    memory = [Peer([str(options.build / "bench" / "peer_bnorm")]) for _ in range(3)]
    rows = measure(rows, peers, Limit(memory[0], options), memory[1:], options)
    if not rows:
        sys.exit("nothing was measured")
    results = {"machine": describe_machine(options.build), "peers": [peer.info for peer in peers],
               "options": {"rounds": options.rounds, "seconds": options.seconds, "cold": options.cold,
                           "chain": options.chain}, "rows": rows}
    for peer in [*peers, *memory]:
        peer.close()
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "results.json").write_text(json.dumps(results, indent=1))
    report.write(results, options.output)


if __name__ == "__main__":
    main()
