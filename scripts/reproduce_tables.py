#!/usr/bin/env python
"""Make the paper's ablation tables on the built-in benchmark, where the right answer is known.

    python scripts/reproduce_tables.py --table 3 --benchmark faces                 # components, with bounds
    python scripts/reproduce_tables.py --table 4 --benchmark faces --pairs 128     # noise level
    python scripts/reproduce_tables.py --table 7 --benchmark faces --pairs 128     # sampling steps
    python scripts/reproduce_tables.py --table rewarp --steps 64 --pairs 64        # re-warp every k-th step
    python scripts/reproduce_tables.py --table 3 --benchmark faces --weights runs/demo/weights --out tables

Differences are taken pair by pair (full method minus the row) and come with their standard error. The paper's own
numbers stand beside ours where the paper has the row; they are of CelebA-HQ and not comparable in size.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

PAPER = {
    "3": {"full method": (15.67, 12.34), "no confidence mask": (19.21, 16.01), "one-time matching": (24.76, 23.71),
          "no diffusion": (128.70, 34.59)},
    "4": {"20 %": (23.67, None), "25 %": (15.67, None), "30 %": (16.01, None), "35 %": (19.20, None)},
    "rewarp": {},  # not in the paper
    "7": {"T = 200, N = 50": (15.67, 12.34), "T = 100, N = 25": (16.99, 13.33), "T = 16, N = 4": (17.94, 13.99)},
}  # fmt: skip


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", choices=sorted(PAPER), required=True)
    parser.add_argument("--benchmark", choices=["faces"], default="faces")
    parser.add_argument("--weights", default="demo", help="folder, shipped name or hub repository (default: demo)")
    parser.add_argument("--pairs", type=int, default=256, help="of the fixed test list (default: 256)")
    parser.add_argument("--steps", type=int, help="T of tables 3 and rewarp (default: the weights' own setting)")
    parser.add_argument("--calls", type=int, help="N (default: T / 4)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--out", type=Path, help="folder for table.json and table.md")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    if options.pairs < 2:
        parser.error("--pairs: expected at least 2")
    return options


def variants(options: argparse.Namespace, settings: Any) -> dict[str, tuple[str, Any]]:
    """Row name -> (method of `benchmark.METHODS`, settings)."""
    from midms.evaluation.benchmark import METHODS  # noqa: PLC0415

    if options.table == "7":
        steps = [(200, 50), (100, 25), (16, 4)]
        return {
            f"T = {t}, N = {n}": ("full method", settings.replace(num_inference_steps=t, num_interleaved_steps=n))
            for t, n in steps
        }
    if options.table == "4":
        return {
            f"{share} %": ("full method", settings.replace(num_inference_steps=100, num_interleaved_steps=share))
            for share in (25, 20, 30, 35)
        }
    if options.table == "rewarp":
        rows = {f"every {k}": settings.replace(rewarp_interval=k) for k in (1, 2, 4, 8)}
        rows["never"] = settings.replace(rewarp="none")
        return {name: ("full method", chosen) for name, chosen in rows.items()}
    return {name: (name, settings) for name in METHODS}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every row of the table, the matching's own numbers and the mask's."""
    import torch  # noqa: PLC0415
    from tqdm import tqdm  # noqa: PLC0415

    from midms.data.procedural.dataset import test_pairs  # noqa: PLC0415
    from midms.evaluation import benchmark  # noqa: PLC0415
    from midms.pipelines.midms import MIDMsPipeline  # noqa: PLC0415

    pipe = MIDMsPipeline.from_pretrained(options.weights, "cuda" if torch.cuda.is_available() else "cpu")
    settings = pipe.settings
    if options.steps or options.calls:
        total = options.steps or settings.num_inference_steps
        settings = settings.replace(
            num_inference_steps=total, num_interleaved_steps=options.calls or max(1, total // 4)
        )
    dataset = test_pairs(options.benchmark, int(pipe.info.get("size", 64)), options.pairs)
    pairs = list(tqdm(benchmark.encoded_pairs(pipe.model, dataset, options.batch_size), "encoding", disable=None))
    truth = torch.cat([pair.batch["truth"].cpu() for pair in pairs])
    chosen = variants(options, settings)
    scores = {
        row: benchmark.score(pipe.model, pairs, benchmark.METHODS[method], s)
        for row, (method, s) in tqdm(chosen.items(), "methods", disable=None)
    }
    first = next(iter(scores))
    rows = []
    for name, result in scores.items():
        difference, _, theirs = benchmark.compare(scores[first], result, truth)
        rows.append(
            {
                "row": name,
                "psnr": float(result.psnr.mean()),
                "ssim": float(result.ssim.mean()),
                "feature_distance": float(result.distance.mean()),
                "swd": theirs,
                "paper": PAPER[options.table].get(name),
                "difference": None if name == first else difference._asdict(),
            }
        )
    matching = {}
    for kind in ("first", "rematch", "identity"):
        found = benchmark.score_matching(pipe.model, pairs, kind)
        matching[kind] = {
            "pck": _mean(found.pck),
            "end_point_error": _mean(found.error),
            "pck_everywhere": _mean(found.pck_everywhere),
        }
    return {
        "table": options.table,
        "benchmark": options.benchmark,
        "weights": str(options.weights),
        "pairs": options.pairs,
        "settings": {"T": settings.num_inference_steps, "N": settings.num_interleaved_steps},
        "rows": rows,
        "matching": matching,
        "mask": benchmark.score_masks(pipe.model, pairs, settings),
    }


def _mean(values: Any) -> float:
    import numpy as np  # noqa: PLC0415

    return float(np.nanmean(values))


def markdown(result: dict[str, Any]) -> str:
    """The table as Markdown."""
    first = result["rows"][0]["row"]
    lines = [
        f"Table {result['table']}, {result['benchmark']}, {result['pairs']} pairs, weights {result['weights']}, "
        f"T = {result['settings']['T']}, N = {result['settings']['N']}. Differences: {first} minus the row, "
        "mean ± standard error over pairs.",
        "",
        "| row | PSNR dB | SSIM | feature distance | SWD x1e3 | Δ PSNR | Δ distance | Δ SWD | paper FID, SWD |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["rows"]:
        gaps = ["", "", ""]
        if row["difference"]:
            gaps = ["{:+.3f} ± {:.3f}".format(*row["difference"][key]) for key in ("psnr", "distance", "swd")]
        paper = ", ".join("-" if value is None else f"{value:.2f}" for value in row["paper"]) if row["paper"] else ""
        numbers = f"{row['psnr']:.2f} | {row['ssim']:.3f} | {row['feature_distance']:.3f} | {row['swd']:.2f}"
        lines.append(f"| {row['row']} | {numbers} | {' | '.join(gaps)} | {paper} |")
    lines += ["", "| matching | PCK 0.1, subject | end-point error, subject, pixels | PCK 0.1, everywhere |"]
    lines += ["| --- | --- | --- | --- |"]
    names = {"first": "condition to exemplar", "rematch": "first warp to exemplar", "identity": "identity (same place)"}
    for kind, numbers in result["matching"].items():
        row = (names[kind], numbers["pck"], numbers["end_point_error"], numbers["pck_everywhere"])
        lines.append("| {} | {:.3f} | {:.2f} | {:.3f} |".format(*row))
    mask = result["mask"]
    if mask:
        numbers = "precision {precision:.3f}, recall {recall:.3f} (visible: {visible:.3f})".format(**mask)
        lines += ["", f"Confidence mask of the first re-warp against visibility in the exemplar: {numbers}."]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0 on success, 2 with one line on a user's mistake."""
    options = parse(arguments)
    from midms.config import ConfigError  # noqa: PLC0415

    try:
        result = measure(options)
    except (ConfigError, ValueError) as error:
        print(f"reproduce_tables.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    text = markdown(result)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"table{options.table}.json").write_text(json.dumps(result, indent=2) + "\n")
        (options.out / f"table{options.table}.md").write_text(text)
    print(json.dumps(result) if options.json else text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
