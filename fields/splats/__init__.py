"""Gaussian splats: a scene that is rendered, not queried."""

from fieldcast.fields.splats.splats import Splats

__all__ = ["Splats"]
