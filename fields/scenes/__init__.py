"""Posed images: whatever the format, a `Scene` comes out."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from fieldcast.errors import InputError
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.scene import Scene
from fieldcast.fields.scenes.splits import SPLITS, require_split

__all__ = ["SPLITS", "Scene", "open_scene"]

MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl", ".off")
# Each format's file here and the function in it; imported when first needed, because trimesh and scipy are slow to.
_READERS = {
    "blender": ("blender", "read_blender"),
    "demo": ("demo", "read_demo"),
    "llff": ("llff", "read_llff"),
    "mesh": ("mesh", "read_mesh_views"),
    "transforms": ("transforms", "read_transforms"),
}


def open_scene(
    path: str | Path,
    split: str = "train",
    downscale: int = 1,
    progress: Progress = silent,
    allow_outside: bool = False,
) -> Scene:
    """Opens posed images; the format is told by what is there.

    path: a folder with transforms_train.json (NeRF-Synthetic), transforms.json (nerfstudio, Instant-NGP) or
        poses_bounds.npy (LLFF); a transforms file itself; a mesh, of which views are made; or `demo`.
    split: train, val, test or all. downscale: the images are shrunk by this whole number.
    allow_outside: let a scene file name images outside its own folder.
    """
    require_split(split)
    if not isinstance(downscale, int) or downscale < 1:
        raise InputError(f"downscale: expected a whole number of 1 or more, found {downscale}")
    kind, place = recognise(path)
    module, function = _READERS[kind]
    read = getattr(import_module(f"{__name__}.{module}"), function)
    scene: Scene = read(place, split, downscale, progress, allow_outside)
    return scene


def recognise(path: str | Path) -> tuple[str, Path]:
    """The format of what lies at `path`, and where to read it; a folder named `demo` goes before the demo scene."""
    place = Path(path)
    if str(path) == "demo" and not place.exists():
        return "demo", place
    if place.is_dir():
        return _recognise_folder(place), place
    if not place.exists():
        raise InputError(f"{place}: expected a scene folder, a transforms.json, a mesh or `demo`, found nothing there")
    if place.suffix.lower() in MESH_SUFFIXES:
        return "mesh", place
    if place.suffix.lower() == ".json":
        # transforms_train.json alone is a part of a scene: its siblings hold the other splits.
        parts = [f"transforms_{name}.json" for name in SPLITS]
        return ("blender", place.parent) if place.name in parts else ("transforms", place)
    if place.name == "poses_bounds.npy":
        return "llff", place.parent
    raise InputError(f"{place}: expected a transforms.json or a mesh ({' '.join(MESH_SUFFIXES)}), found another file")


def _recognise_folder(folder: Path) -> str:
    if any((folder / f"transforms_{name}.json").is_file() for name in SPLITS):
        return "blender"
    for name, kind in (("transforms.json", "transforms"), ("poses_bounds.npy", "llff")):
        if (folder / name).is_file():
            return kind
    raise InputError(
        f"{folder}: expected transforms_train.json, transforms.json or poses_bounds.npy, found none of them; "
        "run COLMAP through nerfstudio's ns-process-data to get poses for your pictures"
    )
