"""What was typed, turned into what it means: sizes, devices, files and where they come from."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldcast.console import Console
from fieldcast.errors import InputError

if TYPE_CHECKING:
    from fieldcast.fields.field import Field
    from fieldcast.fields.files import Provenance
    from fieldcast.fields.scenes.mesh import Surfaces
    from fieldcast.fields.splats import Splats


def chosen_device(name: str) -> str:
    """`auto` is CUDA where there is one."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    found = re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", name)
    if not found:
        raise InputError(f"--device {name}: expected auto, cpu or cuda")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"--device {name}: this installation of torch sees no CUDA device; use --device cpu")
    if found[1] and int(found[1][1:]) >= torch.cuda.device_count():
        raise InputError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices, counted from 0")
    return name


def opened(path: Path, device: str) -> Field:
    """The field in a file, on the device of that name."""
    from fieldcast.fields.files import open_field

    return open_field(path, chosen_device(device))


def opened_scene(console: Console, path: Path, device: str, allow_outside: bool = False) -> Field | Splats | Surfaces:
    """What is in a file, on the device of that name; what is odd about it is said."""
    from fieldcast.distill.convert import known_occupancy
    from fieldcast.fields.field import Field
    from fieldcast.fields.files import SUFFIXES
    from fieldcast.fields.files import open as open_file
    from fieldcast.fields.scenes.mesh import Surfaces

    scene = open_file(path, chosen_device(device), allow_outside=allow_outside)
    for line in scene.warnings if isinstance(scene, Surfaces) else scene.notes if isinstance(scene, Field) else ():
        console.say(f"note: {line}")
    foreign = path.suffix.lower() not in SUFFIXES
    if isinstance(scene, Field) and foreign and scene.occupancy.is_full():  # most do not say where nothing is
        with console.progress("look") as progress:
            scene.occupancy = known_occupancy(scene, 0, progress)
    return scene


def parsed_sizes(pairs: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE options as a dict."""
    for pair in pairs:
        if "=" not in pair:
            raise InputError(f"--size {pair}: expected NAME=VALUE, such as resolution=128")
    return dict(pair.split("=", 1) for pair in pairs)


def parsed_picture_size(text: str) -> tuple[int, int]:
    """WxH in pixels."""
    found = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", text)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(0 < side <= 16384 for side in size):
        raise InputError(f"--size {text:.40}: expected WIDTHxHEIGHT in pixels up to 16384, such as 800x600")
    return size


def check_page(page: Path | None, force: bool) -> None:
    """Raises InputError for a --report that cannot be written."""
    from fieldcast.distill.report import check_report_name
    from fieldcast.fields.files.atomic import check_writable

    if page:
        check_report_name(page)
        check_writable(page, force)


def checkpoint_of(out: Path) -> Path:
    """Where a run that makes `out` keeps its resumable state."""
    return out.with_name(f".{out.stem}.checkpoint.safetensors")


def provenance(source: str, digest: str = "", parents: list[dict[str, Any]] | None = None) -> Provenance:
    """Where what this command makes comes from; digest: the sha256 of the source."""
    import fieldcast
    from fieldcast.fields.files import Provenance

    command = "fieldcast " + shlex.join(sys.argv[1:])
    return Provenance(source, digest, command, fieldcast.__version__, parents=parents or [])
