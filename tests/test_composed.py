"""Fields that are cut, moved and composed, against fields that are known everywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields import Cameras, Field, FieldSpec, Occupancy, Rays, Space
from fieldcast.fields.box import Box, numbers
from fieldcast.fields.cameras import orbit
from fieldcast.fields.composed import Composed, Part, compose
from fieldcast.fields.cut import Cut
from fieldcast.fields.motion import Motion
from fieldcast.fields.rendering import Sampler, render, render_rays

SPACE = Space((-1.0, -1.0, 0.0, 1.0, 1.0, 2.0))
FOLDED = Space(SPACE.aabb, "sphere")
CENTER = torch.tensor(SPACE.center)
COLORS = torch.tensor([[0.9, -0.3, 0.2], [0.1, 0.8, -0.4], [-0.5, 0.3, 0.6]])
RADIUS = 0.8  # of what is not empty, in half box sides


@dataclass(frozen=True)
class KnownSizes:
    peak: float
    width: float


class Known(Field):
    """sigma = peak exp(-width |x - c|^2), uniform for width 0; colour 0.5 + 0.4 COLORS d, wherever."""

    Sizes = KnownSizes
    shares_features = False

    def features(self, x: Tensor) -> Tensor:
        r2 = (x - x.new_tensor(self.spec.space.center)).square().sum(-1)
        return torch.stack([math.log(self.spec.sizes.peak * self.spec.space.unit) - self.spec.sizes.width * r2, r2], -1)

    def color(self, features: Tensor, d: Tensor) -> Tensor:
        return 0.5 + 0.4 * d @ COLORS.to(d).T


def known(peak: float = 20.0, width: float = 8.0, space: Space = SPACE) -> Known:
    """The cells farther than RADIUS from the centre are empty."""
    field = Known(FieldSpec(kind="known", sizes=KnownSizes(peak, width), space=space, occupancy=16, steps=256))
    centers = space.from_unit((torch.cartesian_prod(*[torch.arange(16)] * 3) + 0.5) / 16)
    near = (centers - torch.tensor(space.center)).norm(dim=-1) < RADIUS * space.unit
    if width:
        field.occupancy = Occupancy.of_cells(near.reshape(16, 16, 16))
    return field


def points(count: int = 4000, seed: int = 0, reach: float = 1.3) -> Tensor:
    """In the box and around it."""
    return (torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1) * reach + CENTER


def directions(count: int, seed: int = 1) -> Tensor:
    d = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(d, dim=-1)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    low = [draw(st.floats(-1.2, 0.9)) + c for c in SPACE.center]
    high = [a + draw(st.floats(0.02, 1.5)) for a in low]
    return Box(tuple(low), tuple(high))  # type: ignore[arg-type]


@st.composite
def motions(draw: st.DrawFn, shift: float = 1.5) -> Motion:
    up = directions(1, draw(st.integers(0, 1000)))[0].tolist()
    by = tuple(draw(st.floats(-shift, shift)) for _ in range(3))
    turn, scale = draw(st.floats(-180, 180)), draw(st.floats(0.3, 3))
    return Motion.about((0.1, 0.2, 0.9), tuple(up), turn=turn, scale=scale, by=by)  # type: ignore[arg-type]


# --- boxes


def test_boxes_are_read_as_they_are_typed() -> None:
    assert Box.parse(" -1, .5,-3e-1,1.,+2,4E1 ") == Box((-1, 0.5, -0.3), (1, 2, 40))
    box = Box((-0.6, -1.3, 0.25), (0.6, -0.4, 1.1))
    assert Box.parse(str(box)) == box
    assert numbers("1,2", 2, "two") == [1, 2]


@pytest.mark.parametrize(
    "text",
    ["", "1,2,3", "0,0,0,1,1,1,1", "a,0,0,1,1,1", "0,0,0,1,1,nan", "0,0,0,1,1,1e999", "0 0 0 1 1 1", "٣,0,0,4,1,1"],
)
def test_what_is_no_box_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected a box x0,y0,z0,x1,y1,z1 in world units, found"):
        Box.parse(text)


@pytest.mark.parametrize("text", ["1,0,0,0,1,1", "0,0,0,0,1,1", "-1e31,0,0,1,1,1"])
def test_a_box_has_a_volume(text: str) -> None:
    with pytest.raises(InputError, match="expected finite minima below maxima"):
        Box.parse(text)


@given(boxes(), boxes())
def test_the_common_part_of_boxes_is_what_both_contain(a: Box, b: Box) -> None:
    x, common = points(500), a & b
    both = a.contains(x) & b.contains(x)
    assert torch.equal(both, common.contains(x) if common else torch.zeros_like(both))


# --- cuts


@given(boxes())
@settings(deadline=None, max_examples=6)
def test_erasing_and_cropping_are_complements(box: Box) -> None:
    """What is erased is 0, what is not is untouched, and both together are the field."""
    field, x = known(), points()
    erased, cropped, inside = Cut(field, erased=(box,)), Cut(field, crop=box), box.contains(x)
    sigma = field.density(x)
    assert torch.equal(erased.density(x), sigma * ~inside)
    assert torch.equal(cropped.density(x), sigma * inside)
    d = directions(len(x))
    for cut in (erased, cropped):
        assert torch.equal(cut(x, d)[0], cut.density(x))
        assert torch.equal(cut(x, d)[1], field(x, d)[1])


@pytest.mark.parametrize("contraction", ["none", "sphere", "cube"])
@given(box=boxes(), crop=boxes())
@settings(deadline=None, max_examples=6)
def test_the_occupancy_of_a_cut_covers_what_is_left(contraction: str, box: Box, crop: Box) -> None:
    """Nothing is left out, and cells in the middle of what was erased are empty."""
    space = replace(SPACE, contraction=contraction)
    field = known(width=0.0, space=space)
    for cut in (Cut(field, erased=(box,)), Cut(field, crop=crop), Cut(field, crop, (box,))):
        x = points(reach=3.0)
        x = x[cut.keeps(x) & space.contains(x)]
        assert bool(cut.occupancy.contains(space.to_unit(x)).all())


def test_cells_in_the_middle_of_what_was_erased_are_empty() -> None:
    cut = Cut(known(width=0.0), erased=(Box((-0.5, -0.26, 0.5), (0.5, 0.25, 2.0)),))  # cells are 0.125 wide
    cells = torch.ones(16, 16, 16, dtype=torch.bool)
    cells[4:12, 6:10, 4:16] = False
    assert torch.equal(cut.occupancy.cells(), cells)


def test_a_cut_keeps_what_its_field_shares() -> None:
    field, box, x = known(), Box((-0.3, -0.3, 0.7), (0.3, 0.3, 1.3)), points(500)
    cut = Cut(field, erased=(box,))
    assert torch.equal(cut.features(x)[:, 1:], field.features(x)[:, 1:])
    assert torch.equal(cut.logit(x), cut.features(x)[:, 0])
    assert cut.shares_features is field.shares_features
    assert cut.spec.space == field.spec.space
    again = Cut(cut, crop=Box((-1, -1, 0), (0, 1, 2)))
    assert torch.equal(again.density(x), field.density(x) * ~box.contains(x) * (x[:, 0] <= 0))


# --- motions


@given(motions())
@settings(deadline=None, max_examples=30)
def test_back_is_the_inverse_of_there(motion: Motion) -> None:
    x = points(100)
    torch.testing.assert_close(motion.inverse()(motion(x)), x, rtol=0, atol=1e-5)
    torch.testing.assert_close(motion.inverse().inverse()(x), motion(x), rtol=0, atol=1e-5)
    lengths = (motion(x)[1:] - motion(x)[:-1]).norm(dim=-1)
    torch.testing.assert_close(lengths, motion.scale * (x[1:] - x[:-1]).norm(dim=-1), rtol=1e-4, atol=1e-5)


def test_a_turn_is_anticlockwise_seen_from_above_about_the_pivot() -> None:
    motion = Motion.about((1.0, 2.0, 3.0), (0.0, 0.0, 1.0), turn=90, scale=2, by=(0.0, 0.0, 5.0))
    x = torch.tensor([[1.0, 2.0, 3.0], [2.0, 2.0, 3.0], [1.0, 3.0, 3.0], [1.0, 2.0, 4.0]])
    expected = torch.tensor([[1.0, 2.0, 8.0], [1.0, 4.0, 8.0], [-1.0, 2.0, 8.0], [1.0, 2.0, 10.0]])
    torch.testing.assert_close(motion(x), expected)
    torch.testing.assert_close(motion.turned(torch.tensor([[1.0, 0.0, 0.0]])), torch.tensor([[0.0, 1.0, 0.0]]))
    assert Motion.about((1.0, 2.0, 3.0), (0.0, 1.0, 0.0), by=(0.0, 0.0, 0.0)).is_identity()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"rotation": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))}, "rows of a rotation"),
        ({"rotation": ((2.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 2.0))}, "rows of a rotation"),
        ({"rotation": ((math.nan,) * 3,) * 3}, "rows of a rotation"),
        ({"scale": 0.0}, "expected a scale"),
        ({"scale": math.nan}, "expected a scale"),
        ({"shift": (0.0, math.inf, 0.0)}, "finite shift"),
    ],
)
def test_what_is_no_motion_is_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        Motion(**wrong)  # type: ignore[arg-type]


# --- composed fields


@given(motions())
@settings(deadline=None, max_examples=6)
def test_a_moved_field_is_the_field_elsewhere(motion: Motion) -> None:
    """The same colours along turned directions; a density per unit that a larger scale makes less."""
    field, x, d = known(), points(), directions(4000)
    moved = compose([Part(field, motion)])
    sigma, rgb = field(x, d)
    there, color = moved(motion(x), motion.turned(d))
    sure = sigma > 1  # inside, where rounding takes no point out of the occupied cells
    torch.testing.assert_close(there[sure] * motion.scale, sigma[sure], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(color[sure], rgb[sure], rtol=0, atol=1e-4)
    torch.testing.assert_close(moved.density(motion(x)), there, rtol=1e-4, atol=1e-4)
    assert float(moved.spec.space.unit) >= field.spec.space.unit * motion.scale * 0.999


def test_colours_turn_with_the_part() -> None:
    """A quarter turn about z: what was seen along x is seen along y."""
    moved = compose([Part(known(), Motion.about(SPACE.center, (0.0, 0.0, 1.0), turn=90, by=(0.0, 0.0, 0.0)))])
    rgb = moved(CENTER.expand(1, 3).contiguous(), torch.tensor([[0.0, 1.0, 0.0]]))[1]
    torch.testing.assert_close(rgb, 0.5 + 0.4 * COLORS[:, 0][None], rtol=0, atol=1e-5)


@given(motions())
@settings(deadline=None, max_examples=6)
def test_there_and_back_is_the_field(motion: Motion) -> None:
    field, x, d = known(), points(), directions(4000)
    back = compose([Part(compose([Part(field, motion)]), motion.inverse())], space=SPACE)
    sigma, rgb = field(x, d)
    sure = sigma > 1
    torch.testing.assert_close(back(x, d)[0][sure], sigma[sure], rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(back(x, d)[1][sure], rgb[sure], rtol=0, atol=1e-3)


def test_overlapping_fields_let_through_the_product_of_what_each_does() -> None:
    """Uniform boxes: exp(-(s1 + s2) L) where they overlap, L the length of the ray in each."""
    s1, s2, apart = 0.4, 0.25, 0.5
    parts = [Part(known(s1, 0.0)), Part(known(s2, 0.0), Motion(shift=(apart, 0.0, 0.0)))]
    both = compose(parts)
    assert both.spec.space.aabb == (-1, -1, 0, 1 + apart, 1, 2)
    rays = Rays(torch.tensor([[-4.0, 0.1, 1.1]]), torch.tensor([[1.0, 0.0, 0.0]]))
    seen = render_rays(both, rays, Sampler(both.spec.space, both.occupancy, 4000), torch.zeros(3))
    assert float(seen.transmittance) == pytest.approx(math.exp(-(s1 + s2) * 2), rel=2e-3)
    x = torch.tensor([[0.9, 0.0, 1.0], [-0.9, 0.0, 1.0], [1.3, 0.0, 1.0], [1.7, 0.0, 1.0]])
    expected = torch.tensor([s1 + s2, s1, s2, 0.0])
    torch.testing.assert_close(both.density(x), expected, rtol=1e-4, atol=1e-6)


def test_the_colour_is_the_mean_weighted_by_density() -> None:
    """What the sum of two kinds of mist sends to the eye is the sum of what each sends."""
    turn = Motion.about(SPACE.center, (0.0, 0.0, 1.0), turn=180, by=(0.0, 0.0, 0.0))
    both = compose([Part(known(3.0, 0.0)), Part(known(1.0, 0.0), turn)])
    x, d = points(50, reach=0.5), directions(50)
    straight = 0.5 + 0.4 * d @ COLORS.T
    turned = 0.5 + 0.4 * (d * torch.tensor([-1.0, -1.0, 1.0])) @ COLORS.T
    torch.testing.assert_close(both(x, d)[1], (3 * straight + turned) / 4, rtol=0, atol=1e-5)


@given(st.permutations(range(3)))
@settings(deadline=None, max_examples=6)
def test_the_order_of_parts_does_not_matter(order: list[int]) -> None:
    shifts = [(0.0, 0.0, 0.0), (0.3, 0.1, 0.0), (-0.2, 0.4, 0.1)]
    parts = [Part(known(5.0 + i, 3.0), Motion(shift=shift)) for i, shift in enumerate(shifts)]
    first, other = compose(parts, space=SPACE), compose([parts[i] for i in order], space=SPACE)
    x, d = points(), directions(4000)
    for a, b in zip(first(x, d), other(x, d), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert torch.equal(first.occupancy_bits, other.occupancy_bits)


@given(motions(shift=0.8))
@settings(deadline=None, max_examples=6)
def test_the_occupancy_covers_all_that_shows(motion: Motion) -> None:
    composed = compose([Part(known()), Part(known(), motion)])
    space = composed.spec.space
    x = torch.cat([points(3000), motion(points(3000, 1))])
    alone = torch.stack([part.density(x) for part in composed.parts]).sum(0)
    shows = (alone > 0) & space.contains(x)
    assert int(shows.sum()) > 100
    assert bool(composed.occupancy.contains(space.to_unit(x[shows])).all())
    assert composed.occupancy.fraction() < 0.9


def test_the_occupancy_of_one_part_in_its_own_box_is_its_own() -> None:
    field = known()
    assert torch.equal(compose([Part(field)]).occupancy_bits, field.occupancy_bits)
    shifted = compose([Part(field, Motion(shift=(0.25, 0.0, 0.0)))], space=SPACE)  # by two cells: a cell more each side
    cells = torch.roll(field.occupancy.cells(), 2, 0)
    cells[:2] = False
    grown = torch.nn.functional.max_pool3d(cells[None, None].float(), 3, 1, 1)[0, 0] > 0
    assert not bool((cells & ~shifted.occupancy.cells()).any())
    assert not bool((shifted.occupancy.cells() & ~grown).any())


def test_an_unbounded_scene_takes_in_bounded_ones() -> None:
    outside, field = Motion(shift=(4.0, 0.0, 0.0)), known()
    composed = compose([Part(known(0.01, 0.0, FOLDED)), Part(field, outside)])
    assert composed.spec.space == FOLDED
    x = points(2000)
    torch.testing.assert_close(composed.density(outside(x)), field.density(x) + 0.01, rtol=1e-3, atol=1e-4)
    for parts in ([Part(field), Part(known(space=FOLDED))], [Part(known(space=FOLDED), outside)], []):
        with pytest.raises(InputError, match="compose: "):
            compose(parts)


def test_a_moved_world_looks_the_same_from_moved_cameras() -> None:
    field = Cut(known(60.0, 6.0), erased=(Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.2)),))
    field.views = around(SPACE)
    moved = compose([Part(field, Motion.about(SPACE.center, (0.0, 0.6, 0.8), turn=70, scale=2, by=(1.0, 2.0, 3.0)))])
    assert moved.views is not None
    assert moved.views.c2w[0, 0, 3] != field.views.c2w[0, 0, 3]
    near = seen_closer(moved, field)
    for a, b in zip(render(field, field.views, steps=600), render(moved, near, steps=2000), strict=True):
        assert float(a.opacity.max()) > 0.9
        assert float((a.rgb - b.rgb).abs().mean()) < 2e-3


def around(space: Space) -> Cameras:
    i = torch.arange(3)
    return orbit(space, i * 2.0, 0.3 * i, 3.0 * space.unit, width=24, height=20, fov=0.7)


def seen_closer(moved: Composed, field: Field) -> Cameras:
    """The views of a moved field without the distance that they keep from its larger box."""
    motion = moved.parts[0].world_from_part
    assert moved.views is not None
    assert field.views is not None
    eye = motion(field.views.centers)
    return replace(moved.views, c2w=torch.cat([moved.views.c2w[:, :, :3], eye[:, :, None]], -1))


def test_views_see_the_larger_box_as_they_saw_the_smaller() -> None:
    field = known()
    assert compose([Part(field)]).views is None
    field.views = around(SPACE)
    assert compose([Part(field)]).views is field.views
    composed = compose([Part(field), Part(known(), Motion(shift=(2.0, 0.0, 0.0)))])
    assert composed.views is not None
    space, views = composed.spec.space, composed.views
    assert torch.equal(views.c2w[:, :, :3], field.views.c2w[:, :, :3])
    torch.testing.assert_close(
        (views.centers - torch.tensor(space.center)) / space.unit, (field.views.centers - CENTER) / SPACE.unit
    )
    assert composed.spec.occupancy > field.spec.occupancy
    step = (composed.spec.space.unit / SPACE.unit) / (composed.spec.steps / field.spec.steps)
    assert step <= math.sqrt(3) * 1.001


def test_nothing_in_a_box_is_nothing_composed() -> None:
    empty = known()
    empty.occupancy = Occupancy.of_cells(torch.zeros(16, 16, 16) > 0)
    composed, x = compose([Part(known()), Part(empty, Motion(shift=(9.0, 0.0, 0.0)))]), points(100)
    assert composed.spec.space == SPACE
    assert torch.equal(composed(x, directions(100))[0], composed.density(x))
    sigma, rgb = compose([Part(empty)])(x, directions(100))
    assert float(sigma.abs().max()) == 0
    assert bool(rgb.isfinite().all())
