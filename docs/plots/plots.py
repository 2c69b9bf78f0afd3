#!/usr/bin/env python3
"""README's pictures, from the JSON files beside this script.

    plots.py training BUILD_FOLDER     runs train_digits and writes training.json
    plots.py ratios RESULTS_JSON       writes ratios.json from what bench/compare.py measured
    plots.py draw [FOLDER]             draws training.svg and ratios.svg (here, or in FOLDER); needs matplotlib
"""

import csv
import json
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TITLES = {"training_forward": "training", "training_forward_residual_relu": "training,\nresidual, ReLU",
          "inference": "inference", "inference_residual_relu": "inference,\nresidual, ReLU", "backward": "backward",
          "backward_residual_relu": "backward,\nresidual, ReLU"}


def write(name, value):
    (HERE / name).write_text(json.dumps(value, indent=1) + "\n")


def training(build):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "curves.csv"
        subprocess.run([pathlib.Path(build) / "examples" / "train_digits", "--csv", path], check=True,
                       stdout=subprocess.DEVNULL)
        rows = list(csv.DictReader(path.open()))
    write("training.json", {name: [float(row[name]) for row in rows] for name in ("epoch", "plain", "batch_norm")})


def ratios(path):
    """The fastest peer's time by bnorm's, of the batch norms of ResNet-50, by operation, layout and threads."""
    results = json.loads(pathlib.Path(path).read_text())
    groups = {}
    for row in results["rows"]:
        times = {name: statistics.median(peer["turns"]) for name, peer in row["peers"].items()}
        peers = [time for name, time in times.items() if not name.startswith("bnorm")]
        if peers and row["layer"].startswith("resnet50") and row["operation"] in TITLES:
            key = f"{row['operation']} {row['layout']} {row['threads']}"
            groups.setdefault(key, []).append(round(min(peers) / times["bnorm"], 3))
    write("ratios.json", {
        "machine": {name: value for name, value in results["machine"].items() if name != "system"},
        "peers": [f"{p['name']} {p['version']}" for p in results["peers"]], "ratios": groups})


def draw_training(axes, data):
    axes.plot(data["epoch"], data["batch_norm"], label="with batch norm")
    axes.plot(data["epoch"], data["plain"], label="without")
    axes.set(xlabel="epoch", ylabel="test digits read right, %", title="examples/train_digits.c: the same network, trained alike")
    axes.legend()


def draw_ratios(axes, data):
    places = [(operation, layout) for operation in TITLES for layout in ("nchw", "nhwc")]
    for threads, offset, color in ((1, -0.17, "tab:orange"), (2, 0.17, "tab:blue")):
        for place, (operation, layout) in enumerate(places):
            values = data["ratios"].get(f"{operation} {layout} {threads}", [])
            axes.plot([place + offset] * len(values), values, ".", color=color, alpha=0.35)
            if values:
                mean = math.exp(statistics.fmean(map(math.log, values)))
                axes.plot(place + offset, mean, "_", color=color, markersize=16, markeredgewidth=3,
                          label=f"{threads} thread(s): geometric mean" if place == 0 else None)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(yscale="log", ylabel="time of the fastest peer / time of bnorm",
             title="The batch norms of ResNet-50, N = 1, 8 and 32; peers: oneDNN, PyTorch, ONNX Runtime")
    axes.set_yticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    axes.set_xticks(range(len(places)), [f"{TITLES[operation]}\n{layout.upper()}" for operation, layout in places], fontsize=7)
    axes.legend(loc="upper right")


def draw(folder):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bnorm"
    from matplotlib import pyplot

    for name, plot, size in (("training", draw_training, (7, 3.5)), ("ratios", draw_ratios, (13, 5))):
        figure, axes = pyplot.subplots(figsize=size)
        plot(axes, json.loads((HERE / f"{name}.json").read_text()))
        axes.grid(alpha=0.3)
        figure.savefig(pathlib.Path(folder) / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
        print(f"drew {name}.svg")


def main():
    command, *arguments = sys.argv[1:] or [""]
    if command == "draw" and len(arguments) <= 1:
        draw(arguments[0] if arguments else HERE)
    elif command in ("training", "ratios") and len(arguments) == 1:
        {"training": training, "ratios": ratios}[command](arguments[0])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
