"""Fits a data set, converts the field to every kind and back, and measures each: one command, one table, one figure.

    .venv/bin/python benchmarks/conversions.py ../shared/data/posed/nerf_synthetic_lego_200 out/lego

Everything goes through the command line, as a user would do it. Fields and pictures stay in the output folder; what
is there already is not made again, so that an interrupted run continues. The table is printed as Markdown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

KINDS = ("mlp", "vm", "cp", "voxels", "planes", "hybrid")


def fieldcast(*arguments: object) -> dict[str, Any]:
    """Runs one command and gives its JSON."""
    command = [str(Path(sys.executable).with_name("fieldcast")), *map(str, arguments), "--json"]
    print("$ fieldcast", *arguments, file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def cached(path: Path, make: Any) -> dict[str, Any]:
    """The JSON at `path`, or what `make` gives, put there."""
    if not path.exists():
        path.write_text(json.dumps(make(), indent=1))
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def measure(data: Path, out: Path, fit_steps: int, steps: int, kinds: list[str], back: str) -> list[dict[str, Any]]:
    """One row for the fit, and one for each conversion."""
    out.mkdir(parents=True, exist_ok=True)
    source = out / "hashgrid.safetensors"
    fitted = cached(
        out / "fit.json",
        lambda: fieldcast("fit", data, source, "--kind", "hashgrid", "--steps", fit_steps, "--force"),
    )
    tested = cached(out / "fit-eval.json", lambda: fieldcast("eval", source, data, "--split", "test"))
    rows = [
        {
            "source": f"{data.name}, {fit_steps} steps",
            "target": "hashgrid",
            "seconds": fitted["seconds"],
            "fidelity": None,
            "test": tested["psnr"],
            "parameters": fitted["parameters"],
            "bytes": source.stat().st_size,
        }
    ]
    pairs = [("hashgrid", kind) for kind in kinds] + ([(back, "hashgrid")] if back else [])
    return rows + [converted(data, out, teacher, kind, steps) for teacher, kind in pairs]


def converted(data: Path, out: Path, teacher: str, kind: str, steps: int) -> dict[str, Any]:
    """Converts one file to one kind and evaluates the result on the test views."""
    name = kind if teacher == "hashgrid" else f"{teacher}-to-{kind}"
    source, target = out / f"{teacher}.safetensors", out / f"{name}.safetensors"
    report = out / f"{name}.html"
    made = cached(
        out / f"{name}.json",
        lambda: fieldcast(
            "convert", source, target, "--to", kind, "--recipe", "pvd", "--steps", steps, "--report", report, "--force"
        ),
    )
    tested = cached(out / f"{name}-eval.json", lambda: fieldcast("eval", target, data, "--split", "test"))
    return {
        "source": f"{teacher}, {steps} steps",
        "target": kind,
        "seconds": made["seconds"],
        "fidelity": made["fidelity"]["psnr"],
        "test": tested["psnr"],
        "parameters": made["student"]["parameters"],
        "bytes": target.stat().st_size,
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table."""
    lines = [
        "| source | target | seconds | fidelity dB | test dB | parameters | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        fidelity = "–" if row["fidelity"] is None else f"{row['fidelity']:.2f}"
        lines.append(
            f"| {row['source']} | {row['target']} | {row['seconds']:.0f} | {fidelity} | {row['test']:.2f} "
            f"| {row['parameters']:,} | {row['bytes'] / 1e6:.1f} |"
        )
    return "\n".join(lines)


def figure(out: Path, names: list[str], frame: int, size: str) -> None:
    """One view of every field, side by side with its name."""
    pictures = []
    for name in names:
        picture = out / f"{name}.png"
        if not picture.exists():
            arguments = ["render", out / f"{name}.safetensors", picture, "--size", size, "--frame", frame, "-q"]
            subprocess.run([str(Path(sys.executable).with_name("fieldcast")), *map(str, arguments)], check=True)
        pictures.append(Image.open(picture).convert("RGB"))
    width, height = pictures[0].size
    sheet = Image.new("RGB", (width * len(pictures), height + 16), "white")
    for column, (name, picture) in enumerate(zip(names, pictures, strict=True)):
        sheet.paste(picture, (column * width, 16))
        ImageDraw.Draw(sheet).text((column * width + 6, 2), name, fill="black")
    sheet.save(out / "kinds.png")


def main() -> None:
    """See the module's own words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fit-steps", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--back", default="vm", help="the kind that is converted back to a hash grid; empty: none")
    parser.add_argument("--frame", type=int, default=8)
    parser.add_argument("--size", default="200x200")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    print(markdown(measure(options.data, options.out, options.fit_steps, options.steps, kinds, options.back)))
    names = ["hashgrid", *kinds] + ([f"{options.back}-to-hashgrid"] if options.back else [])
    figure(options.out, names, options.frame, options.size)


if __name__ == "__main__":
    main()
