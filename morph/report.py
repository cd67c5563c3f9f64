"""What is to be said of a morph that was made."""

from __future__ import annotations

from typing import Any

import fieldcast
from fieldcast.morph.arcs import unevenness
from fieldcast.morph.distance import distance
from fieldcast.morph.ends import End
from fieldcast.morph.sequence import Morph
from fieldcast.morph.volumes import Volume


def report(made: Morph, recipe: str, seconds: float) -> dict[str, Any]:
    """Plain numbers, for JSON. Lengths are those of `distance`: 0 is the same, 1 has nothing in common."""
    variance, longest = unevenness(made.lengths)
    return {
        "first": _of_end(made, made.ends[0], made.volumes[0]),
        "second": _of_end(made, made.ends[1], made.volumes[-1]) | {"quarters_turned": made.turns},
        "prior": made.prior.name,
        "recipe": recipe,
        "frames": len(made.alphas),
        "alphas": [round(a, 6) for a in made.alphas],
        "step_lengths": [round(length, 5) for length in made.lengths],
        "path_length": round(sum(made.lengths), 4),
        "step_variance": variance,
        "longest_step": round(longest, 3),
        "seconds": round(seconds, 1),
        "version": fieldcast.__version__,
    }


def _of_end(made: Morph, end: End, frame: Volume) -> dict[str, Any]:
    """What it was made from, and how far from that are the frame and what the prior alone keeps of it."""
    told = {"name": end.name, "caption": end.caption, "distance_to_input": None, "distance_without_details": None}
    if end.volume is None:
        return told
    alone = made.prior.volume(end.latent, made.space)
    off = [round(distance(end.volume, one), 4) for one in (frame, alone)]
    return told | {"distance_to_input": off[0], "distance_without_details": off[1]}
