#!/usr/bin/env python3
"""Compares the splits.json of an audit on CUDA with that of the same audit on the processor.

    compare_audits.py CPU CUDA OUT      writes what was compared to OUT; exit status 1 if something is too far off

Both audits look at the same trained target, so that statistics of its features agree to the rounding of f32 (1e-3 of themselves). Attackers
are trained on either device, and small differences grow in training: their errors agree to some percent.
"""

import json
import math
import sys

STATISTICS = 1e-3
ATTACKS = 0.05
# A bound in nats can be near zero, where a share of it says nothing.
ENTROPY_NATS_PER_VALUE = 1e-3


def number(value):
    """Numbers that JSON has no word for are written as words."""
    return float(value) if isinstance(value, (int, float, str)) else math.nan


def pairs(cpu, cuda):
    """(name, value on the processor, value on CUDA, allowed difference) of a split."""
    for part in ("radius_sq", "variance", "held_out.radius_sq", "held_out.variance"):
        for field in ("value", "per_dim", "total", "within", "between"):
            a, b = (find(split, f"{part}.{field}") for split in (cpu, cuda))
            if a is not None and b is not None:
                yield f"{part}.{field}", a, b, STATISTICS * abs(a)
    for field in ("isotropic", "mixture"):
        a, b = (find(split, f"entropy_bounds_nats.{field}") for split in (cpu, cuda))
        if a is not None and b is not None:
            yield f"entropy_bounds_nats.{field}", a, b, max(STATISTICS * abs(a), ENTROPY_NATS_PER_VALUE * cpu["width"])
    for field in ("mse_per_element", "mse_effective", "ssim"):
        a, b = (find(split, f"attack.{field}") for split in (cpu, cuda))
        if a is not None and b is not None:
            yield f"attack.{field}", a, b, ATTACKS * abs(a)


def find(split, path):
    for name in path.split("."):
        if not isinstance(split, dict) or split.get(name) is None:
            return None
        split = split[name]
    if isinstance(split, dict):
        return find(split, "value")
    return number(split)


def main():
    cpu_file, cuda_file, out = sys.argv[1:]
    splits = []
    for name in (cpu_file, cuda_file):
        with open(name, encoding="utf-8") as file:
            splits.append(json.load(file)["splits"])
    if [split["name"] for split in splits[0]] != [split["name"] for split in splits[1]]:
        sys.exit("compare_audits.py: the audits are of different splits")
    compared = []
    for cpu, cuda in zip(*splits):
        for name, a, b, allowed in pairs(cpu, cuda):
            close = abs(a - b) <= allowed or a == b
            compared.append({"split": cpu["name"], "name": name, "cpu": a, "cuda": b, "allowed": allowed, "close": close})
    kinds = {entry["name"].split(".")[0] for entry in compared}
    for kind in ("radius_sq", "variance", "attack"):
        if kind not in kinds:
            sys.exit(f"compare_audits.py: {cpu_file} has no figures of {kind}")
    with open(out, "w", encoding="utf-8") as file:
        json.dump(compared, file, indent=1)
    far = [entry for entry in compared if not entry["close"]]
    for entry in far:
        print(f"{entry['split']} {entry['name']}: {entry['cuda']:.6g} on CUDA, {entry['cpu']:.6g} on the processor")
    print(f"{len(compared) - len(far)} of {len(compared)} figures agree")
    sys.exit(1 if far else 0)


if __name__ == "__main__":
    main()
