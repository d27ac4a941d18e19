#!/usr/bin/env python3
"""Writes the page of record from a file of figures: scripts/gpu/record.py FIGURES > benches/results/gpu.md

The file of figures itself is kept beside it as benches/results/gpu.json; its SHA-256 stands on the page.
"""

import hashlib
import json
import sys


def rate(figure):
    for field, unit, scale in (
        ("bytes_per_second", "GB/s", 1e-9),
        ("flops_per_second", "TFLOP/s", 1e-12),
        ("images_per_second", "images/s", 1.0),
    ):
        if field in figure:
            return f"{figure[field] * scale:,.1f} {unit}"
    return "failed: " + figure.get("failed", "no figure")


def milliseconds(quartiles):
    low, median, high = (1e3 * second for second in quartiles)
    return f"{median:.4g} ({low:.4g}–{high:.4g})"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as file:
        text = file.read()
    all_of_it = json.loads(text)
    if all_of_it.get("simulated", True):
        sys.exit("record.py: these figures are of the simulated device and say nothing about a GPU")
    device, peer = all_of_it["device"], all_of_it.get("peer")
    print("# On a GPU\n")
    print("    scripts/check-gpu\n")
    print(f"{all_of_it['date']}, {device['name']} (sm_{device['compute_capability'].replace('.', '')}), driver {all_of_it['driver']},")
    print(f"{device['software']}.")
    print(f"Source {all_of_it['build'].get('commit', 'unknown')}; figures in gpu.json, SHA-256")
    print(f"`{hashlib.sha256(text).hexdigest()}`. What a figure means: docs/gpu.md.\n")
    if peer:
        print(f"Peer: PyTorch {peer['torch']} with CUDA {peer['cuda']}, cuDNN {peer['cudnn']}, on the same card.\n")
    else:
        print("PyTorch was not installed there: nothing is compared.\n")
    print(f"Times by the clock of {all_of_it['clock']}: median (quartiles). Copy: {all_of_it['copy_bytes_per_second'] * 1e-9:,.1f} GB/s.\n")
    print("| figure | shape | ms | rate | part of the copy | best of PyTorch, ms | how | PyTorch over gpz |")
    print("|---|---|--:|--:|--:|--:|---|--:|")
    for figure in all_of_it["figures"]:
        shape = "×".join(str(extent) for extent in figure["shape"])
        time = milliseconds(figure["seconds_quartiles"]) if "seconds_quartiles" in figure else ""
        part = f"{figure['fraction_of_copy']:.2f}" if "fraction_of_copy" in figure else ""
        best = f"{1e3 * figure['best_peer_seconds']:.4g}" if "best_peer" in figure else ""
        times = f"{figure['times_as_fast']:.2f}" if "best_peer" in figure else ""
        print(f"| {figure['name']} | {shape} | {time} | {rate(figure)} | {part} | {best} | {figure.get('best_peer', '')} | {times} |")
    print("\n| step | outcome | |\n|---|---|---|")
    for step in all_of_it["steps"]:
        print(f"| {step['name']} | {step['outcome']} | {step['said'].replace('|', '/')} |")


if __name__ == "__main__":
    main()
