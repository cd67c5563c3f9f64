"""Whether a conversion is faithful enough for its source, judged without images.

Letters, all in dB: P the source's PSNR against the images it was fitted to, F the student's fidelity (its pictures
against the source's). If the errors of source and student are independent, their squares add up, and the student's own
PSNR is

    P' = -10 log10(10^(-P / 10) + 10^(-F / 10))        a loss of 10 log10(1 + 10^((P - F) / 10))

so that a loss of at most 0.3 dB takes F >= P + 11.5, and one of at most 1 dB takes F >= P + 5.9. Errors of a student
that smooths what its source got wrong are not independent, and it then loses less than this says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["faithful", "close", "unfaithful", "unknown"]
FAITHFUL, CLOSE = 0.3, 1.0  # dB that are lost at most


def loss(source_psnr: float, fidelity: float) -> float:
    """How many dB of its source's PSNR a student of that fidelity is expected to lose."""
    return 10 * math.log10(1 + 10 ** ((source_psnr - fidelity) / 10))


def wanted_fidelity(source_psnr: float, lost: float = FAITHFUL) -> float:
    """The fidelity in dB at which at most `lost` dB are expected to be lost."""
    return source_psnr - 10 * math.log10(10 ** (lost / 10) - 1)


@dataclass(frozen=True)
class Verdict:
    """fidelity: F above. source_psnr: P above; None if nobody knows it, and then the verdict is `unknown`.

    steerable: whether the conversion could be told to go on until it is enough.
    """

    fidelity: float
    source_psnr: float | None
    steerable: bool = True

    @property
    def lost(self) -> float | None:
        """How many dB of the source's PSNR are expected to be lost."""
        return None if self.source_psnr is None else loss(self.source_psnr, self.fidelity)

    @property
    def level(self) -> Level:
        if self.lost is None:
            return "unknown"
        return "faithful" if self.lost <= FAITHFUL else "close" if self.lost <= CLOSE else "unfaithful"

    @property
    def student_psnr(self) -> float | None:
        """P' above: what is passed on to conversions of the student."""
        return None if self.source_psnr is None or self.lost is None else self.source_psnr - self.lost

    def summary(self) -> str:
        """One line for people, with what it would take if it is not enough."""
        if self.source_psnr is None or self.lost is None:
            enough = self.fidelity - wanted_fidelity(0.0)
            return f"verdict: faithful if the source's own PSNR is at most {enough:.1f} dB, which its file does not say"
        told = f"about {self.lost:.1f} of its source's {self.source_psnr:.1f} dB are lost"
        if self.level == "faithful":
            return f"verdict: faithful: {told}"
        wanted = wanted_fidelity(self.source_psnr)
        how = f": --target-db {wanted:.1f} trains until there, or says what stands in the way" if self.steerable else ""
        return f"verdict: {self.level}: {told}; a loss of {FAITHFUL} takes a fidelity of {wanted:.1f} dB{how}"

    def to_json(self) -> dict[str, Any]:
        wanted = None if self.source_psnr is None else wanted_fidelity(self.source_psnr)
        return {"level": self.level, "source_psnr": self.source_psnr, "lost": self.lost, "wanted_fidelity": wanted}
