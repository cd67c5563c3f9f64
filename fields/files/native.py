"""The native file: one `.safetensors` with a field's tensors, and its spec and provenance as JSON metadata."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.field import Field
from fieldcast.fields.files.tensors import read_meta, read_tensors, write_tensors
from fieldcast.fields.kinds import build, spec_from_json
from fieldcast.fields.spec import FieldSpec, read

FORMAT = 1
# The cameras that the scene was seen from: the shape of each, after their number, and its type.
VIEWS = {"views.c2w": ([3, 4], "F32"), "views.intrinsics": ([4], "F32"), "views.size": ([2], "I64")}


@dataclass(frozen=True)
class Provenance:
    """Where a field came from.

    source: a data set or a file; sha256: of that file. frame: whose axes and units. psnr: dB of its pictures against
    images that it was fitted to, or what conversions since then are expected to have left of it; None: nobody knows.
    """

    source: str = ""
    sha256: str = ""
    command: str = ""
    version: str = ""
    frame: str = "that of the source"
    parents: list[dict[str, Any]] = field(default_factory=list)
    psnr: Annotated[float, Meta(ge=-200, le=200)] | None = None


@dataclass(frozen=True)
class Stored:
    """What a file says of itself, without its tensors."""

    spec: FieldSpec
    provenance: Provenance
    shapes: dict[str, tuple[list[int], str]]


def save_native(field: Field, path: Path, provenance: Provenance, force: bool = False) -> None:
    """Writes the whole file or nothing."""
    meta = {"format": FORMAT, "spec": field.spec.to_json(), "provenance": asdict(provenance)}
    write_tensors(path, tensors_of_field(field), meta, force)


def inspect_native(path: Path) -> Stored:
    """Reads the header alone and checks that the tensors are those that the spec asks for."""
    meta, shapes = read_meta(path)
    stored = _stored(path, meta, shapes)
    check_shapes(path, stored.spec, {name: shape for name, (shape, _) in shapes.items()})
    check_views(path, shapes)
    return stored


def check_shapes(path: Path, spec: FieldSpec, shapes: dict[str, list[int]]) -> None:
    """Raises InputError unless these are the tensors that the spec asks for; views may be beside them."""
    with torch.device("meta"):
        wanted = {name: list(value.shape) for name, value in build(spec).state_dict().items()}
    missing = [k for k in wanted if k not in shapes]
    unknown = [k for k in shapes if k not in wanted and k not in VIEWS]
    if missing or unknown:
        parts = [
            f"{what} {', '.join(names[:5])}" for what, names in (("missing", missing), ("unexpected", unknown)) if names
        ]
        raise InputError(f"{path}: its tensors are not those of a {spec.kind}: {'; '.join(parts)}")
    for name, shape in wanted.items():
        if shapes[name] != shape:
            raise InputError(f"{path}: tensor {name}: expected {shape} by the spec, found {shapes[name]}")


def check_views(path: Path, shapes: dict[str, tuple[list[int], str]]) -> None:
    """Raises InputError unless the views are all there or none, of the shapes and types that they must have."""
    found = [name for name in VIEWS if name in shapes]
    if not found:
        return
    if len(found) < len(VIEWS):
        raise InputError(f"{path}: expected all of {', '.join(VIEWS)} or none, found {', '.join(found)}")
    count = (shapes[found[0]][0] or [0])[0]
    if count < 1 or any(shapes[name][0] != [count, *VIEWS[name][0]] for name in VIEWS):
        raise InputError(f"{path}: the tensors {', '.join(VIEWS)} do not agree in shape")
    for name, (_, dtype) in VIEWS.items():
        if shapes[name][1] != dtype:
            raise InputError(f"{path}: tensor {name}: expected {dtype}, found {shapes[name][1]}")


def open_native(path: Path, device: torch.device | str = "cpu") -> Field:
    """The field of a file. Nothing is allocated before the header was found to be in order."""
    stored = inspect_native(path)
    tensors, _ = read_tensors(path)
    return field_of_tensors(path, stored.spec, tensors).to(device)


def tensors_of_field(field: Field) -> dict[str, Tensor]:
    """All tensors of a field: with its spec, they are the field."""
    views = field.views
    known = () if views is None else (views.c2w, views.intrinsics, views.size)
    return dict(field.state_dict()) | dict(zip(VIEWS, known, strict=False))


def field_of_tensors(path: Path, spec: FieldSpec, tensors: dict[str, Tensor]) -> Field:
    """The inverse, of finite tensors of the shapes that the spec asks for; the field takes them as they are.

    path: stands in errors.
    """
    views = _views(path, {k: tensors[k] for k in VIEWS if k in tensors})
    with torch.device("meta"):
        field = build(spec)
    wanted = field.state_dict()
    own = {name: value for name, value in tensors.items() if name not in VIEWS}
    for name, value in own.items():
        if value.dtype != wanted[name].dtype:
            raise InputError(f"{path}: tensor {name}: expected {wanted[name].dtype}, found {value.dtype}")
    field.load_state_dict(own, assign=True)
    field.check(str(path))
    field.ready()
    field.requires_grad_(True)
    field.views = views
    return field


def _stored(path: Path, meta: dict[str, Any], shapes: dict[str, tuple[list[int], str]]) -> Stored:
    if meta.get("format") != FORMAT:
        raise InputError(
            f"{path}: expected format {FORMAT}, found {meta.get('format')!r}; a newer fieldcast may open it"
        )
    spec = spec_from_json(meta.get("spec"), f"{path}: spec")
    return Stored(spec, read(Provenance, meta.get("provenance", {}), f"{path}: provenance"), shapes)


def _views(path: Path, tensors: dict[str, Tensor]) -> Cameras | None:
    if not tensors:
        return None
    c2w, intrinsics, size = (tensors[name] for name in VIEWS)
    rotation = c2w[:, :, :3]
    if float((rotation.mT @ rotation - torch.eye(3)).abs().max()) > 0.01 or bool(
        (torch.linalg.det(rotation) < 0).any()
    ):
        raise InputError(f"{path}: views.c2w: expected rotations and translations (world from camera)")
    if not bool((intrinsics[:, :2] > 0).all()):
        raise InputError(f"{path}: views.intrinsics: expected focal lengths above 0")
    if not bool(((size > 0) & (size < 1 << 16)).all()):
        raise InputError(f"{path}: views.size: expected whole numbers of pixels, 1 to 65535")
    return Cameras(c2w, intrinsics, size)
