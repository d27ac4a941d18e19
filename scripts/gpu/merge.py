#!/usr/bin/env python3
"""Makes one file of what the steps of `run` left in a folder: merge.py FOLDER BUILD SEED OUT."""

import json
import pathlib
import platform
import subprocess
import sys
import time


def read(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() and path.stat().st_size else None


def driver_version():
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def beside(figures, peer):
    """Adds to each figure the best of PyTorch's times for it, and all that were tried."""
    for figure in figures:
        tried = [entry for entry in peer["figures"] if entry["name"] == figure["name"]]
        reduced = [entry for entry in peer["figures"] if entry["name"] == f"{figure['name']}, TF32"]
        tried += [entry | {"formulation": f"{entry['formulation']}, TF32"} for entry in reduced]
        if not tried:
            continue
        figure["peer"] = tried
        timed = [entry for entry in tried if "seconds_quartiles" in entry]
        # Ours multiplies in f32: what rounds the factors to 11 bits is reported, and not compared with.
        exact = [entry for entry in timed if "TF32" not in entry["formulation"]]
        if exact and "seconds_quartiles" in figure:
            best = min(exact, key=lambda entry: entry["seconds_quartiles"][1])
            figure["best_peer"] = best["formulation"]
            figure["best_peer_seconds"] = best["seconds_quartiles"][1]
            figure["times_as_fast"] = best["seconds_quartiles"][1] / figure["seconds_quartiles"][1]
            # Images of a figure are done in so many seconds by either.
            if "images" in figure:
                figure["best_peer_images_per_second"] = figure["images"] / best["seconds_quartiles"][1]


def main():
    folder, build, seed, out = sys.argv[1:]
    folder = pathlib.Path(folder)
    merged = read(folder / "figures.json") or {"format": 1, "device": read(folder / "device.json"), "figures": []}
    for figure in (read(folder / "tf32.json") or {"figures": []})["figures"]:
        if not figure["name"].startswith("copy"):
            merged["figures"].append(figure | {"name": f"{figure['name']}, TF32"})
    peer = read(folder / "peer.json")
    if peer:
        beside(merged["figures"], peer)
        merged["peer"] = {name: peer[name] for name in ("torch", "cuda", "cudnn", "device")}
    steps = [line.split("\t") for line in (folder / "steps").read_text(encoding="utf-8").splitlines()]
    merged["steps"] = [{"name": name, "outcome": outcome, "said": said} for name, outcome, said in steps]
    merged["kernels_launched"] = (folder / "launched").read_text(encoding="utf-8").split()
    merged["audit"] = read(folder / "audit.json")
    merged["driver"] = driver_version()
    merged["host"] = f"{platform.system()} {platform.release()} {platform.machine()}"
    merged["date"] = time.strftime("%Y-%m-%d", time.gmtime())
    merged["seed"] = int(seed)
    merged["build"] = dict(line.split(" ", 1) for line in pathlib.Path(build).read_text(encoding="utf-8").splitlines())
    pathlib.Path(out).write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
