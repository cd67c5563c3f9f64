"""Morphs: what is between two textured 3D objects, made by a generative prior of 3D objects; every frame is a Field.

prior = open_prior()
made = morph(prior, given_by(prior, "car.glb"), given_by(prior, "green tree"), RECIPES["default"], frames=24)
fieldcast.save(made.field(12), "half-way.safetensors")
"""

from fieldcast.morph.ends import Given
from fieldcast.morph.inputs import given_by
from fieldcast.morph.priors import Prior, open_prior
from fieldcast.morph.recipes import RECIPES, Recipe
from fieldcast.morph.sequence import Morph, morph
from fieldcast.morph.volumes import Volume

__all__ = ["RECIPES", "Given", "Morph", "Prior", "Recipe", "Volume", "given_by", "morph", "open_prior"]
