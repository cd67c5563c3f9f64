"""Volume rendering as functions on tensors: march, query, composite.

A renderer takes a function `(x [N, 3], d [N, 3]) -> (sigma [N], rgb [N, 3])`, never a class.
"""

from fieldcast.fields.renderable import Image
from fieldcast.fields.rendering.images import Seen, look, render, render_image, shading
from fieldcast.fields.rendering.rays import Query, Rendered, composite, render_rays
from fieldcast.fields.rendering.sampling import Sampler, Samples
from fieldcast.fields.rendering.visibility import visible

__all__ = [
    "Image",
    "Query",
    "Rendered",
    "Sampler",
    "Samples",
    "Seen",
    "composite",
    "look",
    "render",
    "render_image",
    "render_rays",
    "shading",
    "visible",
]
