#!/usr/bin/env python3
"""Turns results.json of compare.py into report.md and plots, or into plots only: report.py [--plots] FOLDER"""

import collections
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys

SYSTEM_PYTHON = "/usr/bin/python3"


def seconds(row, name):
    return statistics.median(row["peers"][name]["turns"])


def spread(row, name):
    turns = row["peers"][name]["turns"]
    return (max(turns) - min(turns)) / statistics.median(turns)


def others(row):
    return [name for name in row["peers"] if not name.startswith("bnorm")]


def ratio_to_best(row):
    """How many times as long as bnorm the fastest peer takes; None without peers."""
    return min((seconds(row, name) for name in others(row)), default=math.nan) / seconds(row, "bnorm")


def fraction_of_limit(row):
    return row["bytes"] / max(row["limit"].values()) / seconds(row, "bnorm")


def two_passes(row):
    """What two plain passes take, in seconds; None where that is no limit."""
    return min(row.get("two_passes", {}).values(), default=None)


def share_of_two_passes(row):
    """What two plain passes take of bnorm's time."""
    return two_passes(row) / seconds(row, "bnorm")


def shape_text(row):
    return f"{row['layer']} {'x'.join(map(str, row['shape']))}"


def mean_text(ratios):
    return f"{math.exp(statistics.fmean(map(math.log, ratios))):.2f}" if ratios else "none"


def grouped(rows):
    groups = collections.defaultdict(list)
    for row in rows:
        groups[row["operation"], row["layout"], row["threads"]].append(row)
    return groups


def two_pass_cells(rows):
    """Their share of bnorm's time, and the mean ratio to the best peer of a library that takes no longer."""
    limited = [row for row in rows if two_passes(row)]
    if not limited:
        return " | "
    resnet = [ratio_to_best(row) / share_of_two_passes(row) for row in limited
              if others(row) and row["layer"].startswith("resnet50")]
    return f"{mean_text(list(map(share_of_two_passes, limited)))} | {mean_text(resnet)}"


def summary_lines(groups):
    yield ("| operation | layout | threads | ResNet-50 rows | all rows | worst row | fraction of the limit | "
           "two plain passes: share of bnorm's time | ... ResNet-50 rows |")
    yield "|---|---|---|---|---|---|---|---|---|"
    for (operation, layout, threads), rows in groups.items():
        compared = [row for row in rows if others(row)]
        fraction = statistics.median(map(fraction_of_limit, rows))
        if compared:
            worst = min(compared, key=ratio_to_best)
            resnet = [ratio_to_best(row) for row in compared if row["layer"].startswith("resnet50")]
            ratios = (f"{mean_text(resnet)} | {mean_text([ratio_to_best(row) for row in compared])} | "
                      f"{ratio_to_best(worst):.2f} ({shape_text(worst)})")
        else:
            ratios = "no peer | | "
        yield f"| {operation} | {layout.upper()} | {threads} | {ratios} | {fraction:.2f} | {two_pass_cells(rows)} |"


def table_lines(rows):
    names = sorted({name for row in rows for name in row["peers"]} - {"bnorm"})
    yield ("| shape | bnorm ms | GB/s | of the limit | two passes | " + "".join(f"{name} ms | " for name in names) +
           "best peer / bnorm |")
    yield "|---|---|---|---|---|" + "---|" * len(names) + "---|"
    for row in rows:
        cells = [shape_text(row), f"{seconds(row, 'bnorm') * 1e3:.4f} ±{50 * spread(row, 'bnorm'):.0f}%",
                 f"{row['bytes'] / seconds(row, 'bnorm') * 1e-9:.1f}", f"{fraction_of_limit(row):.2f}",
                 f"{share_of_two_passes(row):.2f}" if two_passes(row) else ""]
        cells += [f"{seconds(row, name) * 1e3:.4f}" if name in row["peers"] else "" for name in names]
        cells.append(f"{ratio_to_best(row):.2f}" if others(row) else "")
        yield "| " + " | ".join(cells) + " |"


def left_out_lines(rows):
    reasons = collections.Counter((name, reason) for row in rows for name, reason in row.get("left_out", {}).items())
    return [line for (name, reason), count in sorted(reasons.items())
            for line in ("", f"{name} is not in {count} of {len(rows)} rows: {reason}")]


def markdown(results, pictures):
    lines = ["# bnorm beside its peers", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in results["machine"].items()]
    lines += [f"| {peer['name']} | {peer['version']} |" for peer in results["peers"]]
    lines += [f"| measured | {name} = {value} |" for name, value in results["options"].items()]
    allocating = sorted({name for row in results["rows"] for name in others(row)
                         if row["peers"][name]["implementation"] == "allocates"})
    lines += ["", "Times are medians over all turns; ± is half the span of the turns' medians. A ratio is the fastest peer's "
              "time by bnorm's, above 1 where bnorm is faster. The limit is the faster of two copies (stores through and "
              "past the cache) of as many bytes as the operation must move at least. Two passes: the time of two plain loops "
              "(all is read, then read again from the end and written) by bnorm's; last column: the ratio that a library "
              "as fast as those loops would have."]
    if allocating:
        lines.append(f"Some operations of {', '.join(allocating)} allocate their results in each call.")
    lines += left_out_lines(results["rows"])
    groups = grouped(results["rows"])
    lines += ["", "## Ratios to the best peer, geometric means", "", *summary_lines(groups)]
    lines += [line for picture in pictures for line in ("", f"![{picture}]({picture}.svg)")]
    for (operation, layout, threads), rows in groups.items():
        lines += ["", f"## {operation}, {layout.upper()}, {threads} thread(s)", "", *table_lines(rows)]
    return "\n".join(lines) + "\n"


def ratio_plot(axes, groups):
    for (operation, layout, threads), rows in groups.items():
        compared = [row for row in rows if others(row)]
        axes.plot([shape_text(row) for row in compared], [ratio_to_best(row) for row in compared], "o",
                  label=f"{operation} {layout.upper()}, {threads}")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(yscale="log", ylabel="time of the best peer / time of bnorm")
    axes.tick_params(axis="x", rotation=90)


def limit_plot(axes, groups):
    for (operation, layout, threads), rows in groups.items():
        axes.plot([row["bytes"] for row in rows], [fraction_of_limit(row) for row in rows], "o",
                  label=f"{operation} {layout.upper()}, {threads}")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="bytes that the operation must move", ylabel="fraction of the limit")


def scaling_plot(axes, groups):
    most = max(threads for _, _, threads in groups)
    for (operation, layout, threads), rows in groups.items():
        alone = {shape_text(row): seconds(row, "bnorm") for row in groups.get((operation, layout, 1), [])}
        if threads == most > 1 and alone:
            both = [row for row in rows if shape_text(row) in alone]
            axes.plot([row["bytes"] for row in both],
                      [alone[shape_text(row)] / seconds(row, "bnorm") for row in both], "o",
                      label=f"{operation} {layout.upper()}")
    axes.set(xscale="log", xlabel="bytes that the operation must move", ylabel=f"speed of {most} threads / of 1")


PLOTS = {"ratios": ratio_plot, "limit": limit_plot, "scaling": scaling_plot}


def draw(results, folder):
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    for name, plot in PLOTS.items():
        figure, axes = pyplot.subplots(figsize=(14, 8))
        plot(axes, grouped(results["rows"]))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7, ncols=2, loc="center left", bbox_to_anchor=(1, 0.5))
        axes.grid(alpha=0.3)
        for kind in ("svg", "png"):
            figure.savefig(folder / f"{name}.{kind}", bbox_inches="tight", dpi=120)
        pyplot.close(figure)


def draw_here_or_elsewhere(results, folder):
    """The names of the pictures; by the system's interpreter if this one lacks matplotlib."""
    try:
        draw(results, folder)
    except ImportError:
        command = [SYSTEM_PYTHON, __file__, "--plots", str(folder)]
        if not os.access(SYSTEM_PYTHON, os.X_OK) or subprocess.run(command, stderr=subprocess.DEVNULL).returncode != 0:
            print("no plots: matplotlib is not there")
            return []
    return list(PLOTS)


def write(results, folder):
    (folder / "report.md").write_text(markdown(results, draw_here_or_elsewhere(results, folder)))
    print("\n".join([*left_out_lines(results["rows"]), "", *summary_lines(grouped(results["rows"]))]))
    print(f"\n{folder / 'report.md'}")


def main():
    only_plots = sys.argv[1:2] == ["--plots"]
    folders = sys.argv[2 if only_plots else 1:]
    if len(folders) != 1:
        sys.exit(__doc__)
    folder = pathlib.Path(folders[0])
    (draw if only_plots else write)(json.loads((folder / "results.json").read_text()), folder)


if __name__ == "__main__":
    main()
