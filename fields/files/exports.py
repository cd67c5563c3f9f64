"""Files of other programs that a field can be written as: one line a suffix, each for one kind of field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files.checkpoints import instant_ngp_out, nerf_pytorch_out, plenoxels, tensorf_out, torch_ngp_out
from fieldcast.fields.spec import FieldSpec


@dataclass(frozen=True)
class Export:
    """A format of another program. kind: what it holds. write: a field of that kind, to a path, `force` or not.

    sizes: what a field must be made with to fit, as typed after `--size`. fitted: the spec of a field that is made to
    fit, of one with other activations. refusal: why a spec does not fit, or None. moves: whether what is written lies
    in a frame of the program's own, not where it was.
    """

    program: str
    kind: str
    write: Callable[[Field, Path, bool], None]
    sizes: Mapping[str, str] = field(default_factory=dict)
    fitted: Callable[[FieldSpec], FieldSpec] = lambda spec: spec
    refusal: Callable[[FieldSpec], str | None] = lambda spec: None
    moves: bool = False

    def check(self, path: Path, spec: FieldSpec) -> None:
        """Raises InputError, with what to do, unless a field of that spec can be in such a file."""
        if spec.kind != self.kind:
            raise InputError(f"{path}: a file of {self.program} holds a {self.kind}, not a {spec.kind}")
        reason = self.refusal(spec)
        if reason:
            raise InputError(f"{path}: a file of {self.program} cannot hold this {spec.kind}: {reason}")


SNAPSHOT = Export(
    "Instant-NGP",
    "hashgrid",
    instant_ngp_out.write_snapshot,
    instant_ngp_out.SIZES,
    instant_ngp_out.fitted,
    instant_ngp_out.refusal,
    moves=True,
)
EXPORTS: dict[str, Export] = {
    ".ingp": SNAPSHOT,
    ".msgpack": SNAPSHOT,
    ".npz": Export(
        "Plenoxels",
        "voxels",
        plenoxels.write_plenoxels,
        fitted=plenoxels.fitted,
        refusal=plenoxels.refusal,
    ),
    ".th": Export("TensoRF", "tensorf", tensorf_out.write_tensorf, tensorf_out.SIZES, refusal=tensorf_out.refusal),
    ".tar": Export(
        "nerf-pytorch",
        "nerf",
        nerf_pytorch_out.write_nerf_pytorch,
        nerf_pytorch_out.SIZES,
        nerf_pytorch_out.fitted,
        nerf_pytorch_out.refusal,
    ),
    ".pth": Export(
        "torch-ngp",
        "hashgrid",
        torch_ngp_out.write_torch_ngp,
        torch_ngp_out.SIZES,
        torch_ngp_out.fitted,
        torch_ngp_out.refusal,
    ),
}


def export_of(path: Path) -> Export | None:
    """The format of a path, by its suffix; None if it is none of another program."""
    return EXPORTS.get(path.suffix.lower())
