"""Captions: the words that the prior knows, and what an asset's name and colours say in them."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.errors import InputError

NONE = ""  # the word of no caption at all, the first of every vocabulary
MOST = 8  # words of a caption
RARE = 2  # times that a word of a name must occur to be one of the vocabulary
COLORS: dict[str, tuple[int, int, int]] = {
    "black": (30, 30, 34),
    "grey": (128, 130, 135),
    "white": (238, 238, 238),
    "red": (205, 50, 45),
    "orange": (235, 135, 45),
    "yellow": (245, 205, 70),
    "green": (80, 150, 65),
    "teal": (45, 160, 140),
    "blue": (60, 110, 200),
    "purple": (130, 80, 170),
    "pink": (235, 140, 170),
    "brown": (115, 75, 45),
    "tan": (205, 165, 120),
}
SHARE = 0.3  # of a surface, that a colour takes to be named


def split(text: str) -> list[str]:
    """Lower-case words of a name or a caption: `tree_pineDefaultA` is tree, pine, default."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)
    return [word for word in re.findall(r"[a-z]+", spaced.lower()) if len(word) > 1]


def color_words(rgb: Float[Tensor, "n 3"]) -> list[str]:
    """The names of the colours that take a good part of a surface, the largest first; rgb: sRGB 0..1 of its points."""
    names = list(COLORS)
    nearest = torch.cdist(rgb * 255, torch.tensor(list(COLORS.values())).float()).argmin(1)
    shares = torch.bincount(nearest, minlength=len(names)) / max(1, len(rgb))
    return [names[i] for i in shares.argsort(descending=True).tolist() if shares[i] >= SHARE]


def vocabulary(names: Iterable[str], categories: Iterable[str]) -> list[str]:
    """The words to learn: none, colours, categories, and those which names have in common."""
    counts = Counter(word for name in names for word in set(split(name)))
    common = {word for word, count in counts.items() if count >= RARE}
    return [NONE, *sorted(common | set(COLORS) | set(categories))]


def numbers(caption: str, words: list[str]) -> Int64[Tensor, " w"]:
    """The places of a caption's words in the vocabulary; of none, that of NONE. An InputError names unknown ones."""
    places = {word: i for i, word in enumerate(words)}
    asked = split(caption)
    unknown = [word for word in asked if word not in places]
    if caption.strip() and not asked:
        raise InputError(f"caption {caption!r}: expected words")
    if unknown:
        near = difflib.get_close_matches(unknown[0], words[1:], 3, 0.6)
        hint = f"; near it: {', '.join(near)}" if near else "; fieldcast morph words lists those that it knows"
        raise InputError(f"caption {caption!r}: the prior does not know {', '.join(map(repr, unknown))}{hint}")
    if len(asked) > MOST:
        raise InputError(f"caption {caption!r}: expected at most {MOST} words, found {len(asked)}")
    return torch.tensor([places[word] for word in dict.fromkeys(asked)] or [0])


def known(name: str, words: list[str]) -> str:
    """The words of a name that the vocabulary has."""
    return " ".join([word for word in dict.fromkeys(split(name)) if word in words][:MOST])
