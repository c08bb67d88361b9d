#!/usr/bin/env python3
"""Long inputs for the targets that run histories: libFuzzer grows its own slowly, since each takes milliseconds.

Always the same bytes. Run it in this folder after a change of what an input means.
"""
import pathlib
import random

for target, lengths in {
    "index_ops": [160, 240, 320, 400, 480, 640],
    "ledger_ops": [80, 160, 240, 320],
    "codec": [24, 48, 64],
    "segment_open": [64, 128, 200],
    "segment_roundtrip": [100, 300, 600],
}.items():
    for i, length in enumerate(lengths):
        data = random.Random(f"{target} {i}").randbytes(length)
        (pathlib.Path("corpus") / target / f"history-{i}").write_bytes(data)
