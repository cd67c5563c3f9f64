"""`info` and `validate`: what is in a file, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fieldcast.cli import options
from fieldcast.cli.results import show
from fieldcast.console import Console


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@options.reporting
def info(console: Console, file: Path) -> None:
    """What a file of a field or of splats holds.

    \b
    fieldcast info lego.safetensors --json
    fieldcast info capture.ply
    """
    from fieldcast.fields.files import describe

    facts = describe(file)
    if console.json:
        console.emit_json(facts)
        return
    spec = facts.pop("spec")
    origin = facts.pop("provenance", {})
    show(console, str(file), facts)
    if "sizes" in spec:
        show(console, "sizes", {name: in_short(size) for name, size in spec.pop("sizes").items()})
    show(console, "spec", spec)
    if origin:
        show(console, "provenance", {k: v for k, v in origin.items() if v})


def in_short(size: Any) -> Any:
    """A size as it is shown: of a field within the field, the kinds that it is made of."""
    if size and isinstance(size, list | tuple) and all(isinstance(part, dict) for part in size):
        return ", ".join(in_short(part) for part in size)
    if not isinstance(size, dict):
        return size
    kind, within = size.get("kind", ""), size.get("sizes", size)
    inner = [in_short(within[name]) for name in ("of", "parts") if name in within]
    return " of ".join([kind, *inner] if kind else inner)


@click.command()
@click.argument("path", type=str)
@options.OUTSIDE
@options.reporting
def validate(console: Console, path: str, allow_outside: bool) -> None:
    """Checks a file of a field or of splats, or posed images, and says what is wrong. Exit code 2 if anything is.

    \b
    fieldcast validate lego.safetensors
    fieldcast validate nerf_synthetic/lego
    """
    from fieldcast.fields.files import SUFFIXES, describe, holds_checkpoint, holds_splats, open_field
    from fieldcast.fields.scenes import open_scene

    facts: dict[str, Any] = {"path": path, "valid": True}
    if Path(path).suffix.lower() in SUFFIXES:
        field = open_field(path)
        facts |= {"kind": field.spec.kind, "occupied": field.occupancy.fraction(), "warnings": []}
        if field.occupancy.fraction() == 0:
            facts["warnings"].append("the field is empty: no cell is occupied")
    elif holds_splats(Path(path)) or holds_checkpoint(Path(path)):
        facts |= {name: value for name, value in describe(Path(path)).items() if name != "spec"} | {"warnings": []}
    else:
        with console.progress("read") as progress:
            scene = open_scene(path, "all", progress=progress, allow_outside=allow_outside)
        facts |= {"views": len(scene), "warnings": list(scene.warnings)}
    show(console, f"{path}: valid", facts)
