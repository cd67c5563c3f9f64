"""Files of other programs that a field can be written as: one line a suffix, each for one kind of field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files.checkpoints.nerf_pytorch_out import (
    NERF_PYTORCH_SIZES,
    fitted_to_nerf_pytorch,
    nerf_pytorch_refusal,
    write_nerf_pytorch,
)
from fieldcast.fields.files.checkpoints.torch_ngp_out import (
    TORCH_NGP_SIZES,
    fitted_to_torch_ngp,
    torch_ngp_refusal,
    write_torch_ngp,
)
from fieldcast.fields.spec import FieldSpec


@dataclass(frozen=True)
class Export:
    """A format of another program. kind: what it holds. write: a field of that kind, to a path, `force` or not.

    sizes: what a field must be made with to fit, as typed after `--size`. fitted: what else of a spec must be so, such
    as its density. refusal: why a spec does not fit, or None.
    """

    program: str
    kind: str
    write: Callable[[Field, Path, bool], None]
    sizes: Mapping[str, str] = field(default_factory=dict)
    refusal: Callable[[FieldSpec], str | None] = lambda spec: None
    fitted: Callable[[FieldSpec], FieldSpec] = lambda spec: spec

    def check(self, path: Path, spec: FieldSpec) -> None:
        """Raises InputError, with what to do, unless a field of that spec can be in such a file."""
        if spec.kind != self.kind:
            raise InputError(f"{path}: a file of {self.program} holds a {self.kind}, not a {spec.kind}")
        reason = self.refusal(spec)
        if reason:
            raise InputError(f"{path}: a file of {self.program} cannot hold this {spec.kind}: {reason}")


EXPORTS: dict[str, Export] = {
    ".tar": Export(
        "nerf-pytorch", "nerf", write_nerf_pytorch, NERF_PYTORCH_SIZES, nerf_pytorch_refusal, fitted_to_nerf_pytorch
    ),
    ".pth": Export("torch-ngp", "hashgrid", write_torch_ngp, TORCH_NGP_SIZES, torch_ngp_refusal, fitted_to_torch_ngp),
}


def export_of(path: Path) -> Export | None:
    """The format of a path, by its suffix; None if it is none of another program."""
    return EXPORTS.get(path.suffix.lower())
