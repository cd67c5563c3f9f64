"""Lets PyPI's torchvision, which is built for CUDA, be imported beside a torch that is not: its two operators that are
missing then are declared, not defined. nerfstudio imports torchvision, and of it only what needs none of them.

For tests alone: `make nerfstudio` runs this file, which puts itself where every Python of that environment begins.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
kept: list[object] = []  # a library is forgotten with the object that declares it


class Declaring(MetaPathFinder):
    """Finds nothing; declares the operators when somebody asks for torchvision."""

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            declare()
        return None


def declare() -> None:
    import torch

    if torch.version.cuda is None:
        library = torch.library.Library("torchvision", "DEF")
        for schema in SCHEMAS:
            library.define(schema)
        kept.append(library)


def install(folder: Path) -> None:
    """Makes every Python with that site-packages import this module when it starts."""
    (folder / Path(__file__).name).write_text(Path(__file__).read_text())
    (folder / "torchvision_on_cpu.pth").write_text("import torchvision_on_cpu\n")


if __name__ == "__main__":
    import sysconfig

    install(Path(sysconfig.get_path("purelib")))
else:
    sys.meta_path.insert(0, Declaring())
