#!/usr/bin/env python3
"""The largest error of y of training forward, for bnorm and the peers that are found, as a Markdown table.

x = N(mean, 1), f32, 32x16x28x28; gamma = 1.25, beta = 0.125; against long double on the same x.
"""

import argparse
import pathlib

import compare

MEANS = ["0", "1e3", "1e4", "1e5", "1e6"]
SHAPE = "32 16 28 28"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=compare.HERE.parent / "build" / "release")
    options = parser.parse_args()
    peers = compare.find_peers(options.build.resolve())
    columns = []
    for peer in peers:
        for layout in ("nchw", "nhwc"):
            if "error" not in peer.ask(f"prepare training_forward {layout} {SHAPE} 1"):
                errors = [peer.ask(f"accuracy {mean}")["largest_error"] for mean in MEANS]
                columns.append((f"{peer.info['name']} {layout.upper()}", errors))
        peer.close()
    print("| mean/std | " + " | ".join(name for name, _ in columns) + " |")
    print("|---|" + "---|" * len(columns))
    for index, mean in enumerate(MEANS):
        print(f"| {mean} | " + " | ".join(f"{errors[index]:.1e}" for _, errors in columns) + " |")


if __name__ == "__main__":
    main()
