"""What is done of long work, kept in a file while it lasts, so that interrupted work goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.files.tensors import read_tensors, write_tensors

Tensors = dict[str, Tensor]


@dataclass
class Memory:
    """path: of the file; None: nothing is kept. identity: what must be the same for what is kept to be of use."""

    path: Path | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    known: Tensors = field(default_factory=dict)

    def load(self) -> None:
        """Raises InputError when there is nothing, or what is there was made from something else."""
        if self.path is None or not self.path.exists():
            raise InputError(f"nothing to resume: {self.path} does not exist; run without --resume")
        self.known, found = read_tensors(self.path)
        differing = [name for name in self.identity if found.get(name) != self.identity[name]]
        if differing:
            raise InputError(f"{self.path}: was made with another {', '.join(differing)}; run without --resume")

    def recall(self, name: str, make: Callable[[], Tensors]) -> Tensors:
        """What was made under a name, or is made now and kept."""
        stem = f"{name}."
        found = {key.removeprefix(stem): value for key, value in self.known.items() if key.startswith(stem)}
        if not found:
            found = make()
            self.known |= {stem + key: value for key, value in found.items()}
            if self.path is not None:
                self.path.parent.mkdir(exist_ok=True)
                write_tensors(self.path, self.known, self.identity, force=True)
        return found

    def forget(self) -> None:
        """Removes the file: the work is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
