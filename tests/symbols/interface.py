#!/usr/bin/env python3
"""The interface that programs are compiled against, one declaration a line: interface.py BNORM_H [COMMITTED_LIST]

With a list: fails where the header says something else. A declaration that is gone or reads differently breaks programs
(README, "Versions"); one that is new is entered into the list.
"""

import difflib
import pathlib
import subprocess
import sys


def declarations(header):
    """Preprocessed, so that neither comments nor layout matter."""
    include = pathlib.Path(header).resolve().parent.parent
    text = subprocess.run(["cc", "-E", "-P", f"-I{include}", header], check=True, capture_output=True, text=True).stdout
    words = text[text.index("typedef int32_t bnorm_status;"):].split()
    line, depth = [], 0
    for word in words:
        line.append(word)
        depth += word.count("{") - word.count("}")
        if depth == 0 and word.endswith(";"):
            yield " ".join(line)
            line = []


def main():
    found = list(declarations(sys.argv[1]))
    if len(sys.argv) == 2:
        print("\n".join(found))
        return
    committed = pathlib.Path(sys.argv[2]).read_text().splitlines()
    difference = list(difflib.unified_diff(committed, found, sys.argv[2], sys.argv[1], lineterm="", n=0))
    if not found or difference:
        sys.exit("\n".join([__doc__, *difference]))
    print(f"{len(found)} declarations are as committed")


if __name__ == "__main__":
    main()
