"""Registration: what both engines must do, on a head that is a function of place, so that every answer is known."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import settings_of
from mettrail import registration, transforms
from mettrail.errors import InputError
from mettrail.images import Grid, Image
from mettrail.registration.engines import Settings
from scipy import ndimage
from scipy.spatial.transform import Rotation

ROOT = Path(__file__).parents[1]
# As shipped, but for fewer iterations.
SETTINGS = {
    "threads": 1,
    "seed": 1,
    "mask_grow_mm": 3.0,
    "greedy": settings_of("register")["greedy"] | {"linear_iterations": [50, 20], "iterations": [50, 25]},
    "ants": settings_of("register")["ants"] | {"linear_iterations": [200, 50], "iterations": [30, 15]},
}
HEAD = np.array([120.0, 60.0, -40.0])  # where the head of the moving scan is
HERE = np.array([5.0, -12.0, 30.0])  # where that of the fixed scan is


def make_grid(shape, spacing, angles, centre) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * np.array(spacing)
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


FIXED = make_grid((46, 54, 42), (2.0, 2.0, 2.2), (5, -4, 8), HERE)
MOVING = make_grid((50, 42, 52), (2.1, 2.4, 1.9), (-8, 5, -10), np.add(HEAD, [6, -4, 5]))


def make_texture() -> np.ndarray:
    """Return what a head of 96 mm is made of, at 1 mm: coarse and fine, so that every place can be told."""
    noise = np.random.default_rng(11).standard_normal((96, 96, 96))
    layers = (ndimage.gaussian_filter(noise, sigma) for sigma in (2.5, 6))
    return sum(layer / layer.std() for layer in layers)


TEXTURE = ndimage.spline_filter(make_texture())


def world(grid: Grid) -> np.ndarray:
    return np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3) @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def inside_head(points) -> np.ndarray:
    """Return whether points of the moving world are brain: an egg, flattened on one side, so that no flip fits."""
    x, y, z = (points - HEAD).T
    return ((x / 34) ** 2 + (y / (42 + 0.1 * z)) ** 2 + (z / (32 - 0.1 * x)) ** 2 < 1) & (x + 0.4 * z < 29)


def paint_head(points) -> np.ndarray:
    """Return what the moving scan shows at points of its world."""
    index = (points - HEAD + 48).T
    values = 1000 + 220 * ndimage.map_coordinates(TEXTURE, index, order=3, prefilter=False)
    return np.where(inside_head(points), np.maximum(values, 50), 0)


def as_images(grid, points, noise_seed) -> tuple[Image, Image]:
    mask = inside_head(points).reshape(grid.shape)
    noise = np.random.default_rng(noise_seed).normal(0, 15, grid.shape) * mask
    return Image((paint_head(points).reshape(grid.shape) + noise).astype(np.float32), grid.affine), Image(
        mask, grid.affine
    )


def make_matrix(angles, scale=(1, 1, 1), shear=0.0) -> np.ndarray:
    """Return a matrix that takes the fixed scan's head to the moving one's."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag(scale)
    matrix[0, 1] += shear
    matrix[:3, 3] = np.add(HEAD, [3, -2, 4]) - matrix[:3, :3] @ HERE
    return matrix


def bend(points) -> np.ndarray:
    """Return displacements of up to 4 mm, of another shape along each axis."""
    x, y, z = (points - HERE).T / 14
    return 2.4 * np.stack([np.sin(y) * np.cos(z), np.sin(z + 0.5) * np.cos(0.8 * x), np.sin(0.9 * x - 0.3)], axis=1)


def make_pair(matrix, warped=False):
    """Return fixed, moving, their masks and the true map of points."""

    def truth(points):
        return transforms.map_points(points + bend(points) if warped else points, affine=matrix)

    return *as_images(FIXED, truth(world(FIXED)), 1), *as_images(MOVING, world(MOVING), 2), truth


def errors_mm(transform, truth, mask) -> np.ndarray:
    points = world(FIXED)[mask.data.ravel()][::37]
    found = transforms.map_points(points, affine=transform.affine, warp=transform.warp)
    return np.linalg.norm(found - truth(points), axis=1)


def register_with(fixed, moving, *, engine="greedy", **changed):
    given = {"stage": "rigid", "initial": None, "fixed_mask": None, "moving_mask": None, **SETTINGS, **changed}
    names = ("seed", "mask_grow_mm", *registration.ENGINES)
    settings = Settings.of(engine=engine, **{name: given.pop(name) for name in names})
    return registration.register(fixed, moving, settings=settings, **given)


class TestEveryEngine:
    """What an engine must do."""

    @pytest.fixture(autouse=True, params=registration.ENGINES)
    def choose_engine(self, request):
        self.engine = request.param

    def register(self, fixed, fixed_mask, moving, moving_mask, **changed):
        return register_with(
            fixed, moving, engine=self.engine, fixed_mask=fixed_mask, moving_mask=moving_mask, **changed
        )

    def test_a_head_of_another_size_is_found_to_be_one(self):
        angles = (12, -18, 25)
        fixed, fixed_mask, moving, moving_mask, _ = make_pair(make_matrix(angles, scale=(1, 1, 1.08)))
        names = ("seed", "mask_grow_mm", *registration.ENGINES)
        settings = Settings.of(engine=self.engine, **{name: SETTINGS[name] for name in names})
        masks = {"fixed_mask": fixed_mask, "moving_mask": moving_mask}
        found = registration.find_stretch(fixed, moving, **masks, rigid=make_matrix(angles), settings=settings)
        assert found == pytest.approx([1.08, 1, 1], abs=0.025)

    def test_a_rigid_motion_is_found(self):
        *pair, truth = make_pair(make_matrix((12, -18, 25)))
        found = self.register(*pair, stage="rigid")
        assert found.warp is None
        assert errors_mm(found, truth, pair[1]).max() < 0.5
        assert abs(np.linalg.det(found.affine[:3, :3]) - 1) < 1e-4

    def test_a_large_rotation_is_found(self):
        *pair, truth = make_pair(make_matrix((-50, 20, 55)))
        assert errors_mm(self.register(*pair, stage="rigid"), truth, pair[1]).max() < 0.5

    def test_another_contrast_does_not_matter_to_the_rigid_stage(self):
        fixed, fixed_mask, moving, moving_mask, truth = make_pair(make_matrix((8, -6, 10)))
        inverted = moving.like(np.where(moving_mask.data, 3000 - moving.data, 0))
        found = self.register(fixed, fixed_mask, inverted, moving_mask, stage="rigid")
        assert errors_mm(found, truth, fixed_mask).max() < 0.8

    def test_an_affine_is_found(self):
        *pair, truth = make_pair(make_matrix((5, -8, 12), scale=(1.06, 0.95, 1.03), shear=0.04))
        found = self.register(*pair, stage="affine")
        assert errors_mm(found, truth, pair[1]).max() < 0.6

    def test_a_start_that_is_given_is_used(self):
        # Upside down: beyond what the search looks at.
        matrix = make_matrix((170, 5, 8))
        *pair, truth = make_pair(matrix)
        start = transforms.compose(matrix, make_matrix((0, 0, 0)), transforms.invert(make_matrix((3, -2, 2))))
        assert errors_mm(transforms.Transform(start), truth, pair[1]).max() > 2
        found = self.register(*pair, stage="rigid", initial=start)
        assert errors_mm(found, truth, pair[1]).max() < 0.5

    def test_a_deformation_is_found_and_a_lesion_ends_where_it_belongs(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        *pair, truth = make_pair(make_matrix((10, -15, 20)), warped=True)
        fixed, fixed_mask, moving, _ = pair
        found = self.register(*pair, stage="deformable")
        left = errors_mm(found, truth, fixed_mask)
        assert left.mean() < 0.5
        assert left.mean() < errors_mm(transforms.Transform(found.affine), truth, fixed_mask).mean() / 2
        assert found.warp.grid.matches(fixed.grid)
        assert transforms.jacobian_determinant(found.warp).data[fixed_mask.data].min() > 0.2

        place = np.add(HERE, [-8, 18, 0])
        there = truth(place[None])[0]
        ball = np.linalg.norm(world(MOVING) - there, axis=1).reshape(MOVING.shape) < 6
        moved = transforms.warp_labels(
            moving.like(ball.astype(np.uint8)), FIXED, affine=found.affine, warp=found.warp
        ).image
        centre = world(FIXED)[moved.data.ravel() > 0].mean(axis=0)
        assert np.linalg.norm(centre - place) < 0.8
        # The place was chosen so that this is not the affine's doing.
        assert np.linalg.norm(transforms.unmap_points(there[None], affine=found.affine) - place) > 1.2

        before = transforms.apply(moving, FIXED, affine=found.affine)
        after = transforms.apply(moving, FIXED, affine=found.affine, warp=found.warp)
        one, two = (registration.similarity(fixed, image, fixed_mask) for image in (before, after))
        assert one["local_ncc"] < two["local_ncc"]
        assert list(tmp_path.iterdir()) == []

    def test_one_thread_and_one_seed_give_one_answer(self):
        *pair, _ = make_pair(make_matrix((4, -5, 6)), warped=True)
        less = {"linear_iterations": [5, 0], "iterations": [5, 0]}
        few = {name: SETTINGS[name] | less for name in registration.ENGINES}
        start = make_matrix((5, -4, 6))
        one, two = (self.register(*pair, stage="deformable", initial=start, **few) for _ in range(2))
        assert np.array_equal(one.affine, two.affine)
        assert np.array_equal(one.warp.vectors, two.warp.vectors)

    def test_without_masks_the_whole_image_counts(self):
        fixed, fixed_mask, moving, _, truth = make_pair(make_matrix((6, -9, 10)))
        found = self.register(fixed, None, moving, None, stage="rigid")
        assert errors_mm(found, truth, fixed_mask).max() < 0.7


def test_greedy_gives_one_answer_whatever_the_number_of_threads():
    fixed, fixed_mask, moving, moving_mask, _ = make_pair(make_matrix((4, -5, 6)), warped=True)
    less = {"greedy": SETTINGS["greedy"] | {"linear_iterations": [20, 10], "iterations": [5, 0]}}
    found = [
        register_with(fixed, moving, fixed_mask=fixed_mask, moving_mask=moving_mask, stage="deformable", initial=None,
                      **less, threads=threads)
        for threads in (1, 2, 2)
    ]  # fmt: skip
    for other in found[1:]:
        assert np.array_equal(found[0].affine, other.affine)
        assert np.array_equal(found[0].warp.vectors, other.warp.vectors)


def test_the_settings_have_a_block_for_every_engine_with_what_it_takes():
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["register"]
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.yaml").read_text())["properties"]["register"]
    assert schema["properties"]["engine"]["enum"] == list(registration.ENGINES)
    assert {name for name, block in config.items() if isinstance(block, dict)} == set(registration.ENGINES)
    for name, run in registration.ENGINES.items():
        takes = [key for key, one in inspect.signature(run).parameters.items() if one.kind is one.KEYWORD_ONLY]
        assert list(config[name]) == takes
        assert list(schema["properties"][name]["properties"]) == schema["properties"][name]["required"] == takes


# What does not depend on the engine


def test_an_empty_mask_is_refused_before_any_tool_runs():
    image = Image(np.random.default_rng(0).uniform(1, 2, (8, 9, 10)).astype(np.float32), np.eye(4))
    with pytest.raises(InputError) as caught:
        register_with(image, image, fixed_mask=image.like(np.zeros((8, 9, 10), bool)))
    assert caught.value.reason == "empty_brain"


def test_a_mask_on_another_grid_is_refused():
    image = Image(np.random.default_rng(0).uniform(1, 2, (8, 9, 10)).astype(np.float32), np.eye(4))
    with pytest.raises(InputError) as caught:
        register_with(image, image, fixed_mask=Image(np.ones((8, 9, 10), bool), np.diag([2.0, 1, 1, 1])))
    assert caught.value.reason == "grid_mismatch"


def test_unknown_stages_and_engines_are_refused():
    image = Image(np.ones((4, 4, 4), np.float32), np.eye(4))
    with pytest.raises(ValueError, match="stage"):
        register_with(image, image, stage="elastic")
    unknown = Settings("flirt", seed=1, mask_grow_mm=3, of_engine={})
    with pytest.raises(ValueError, match="engine"):
        registration.register(
            image, image, stage="rigid", fixed_mask=None, moving_mask=None, initial=None, threads=1, settings=unknown
        )


# Quality


def test_similarity_ignores_brightness_and_falls_with_a_shift():
    fixed, mask = as_images(MOVING, world(MOVING), 1)
    same = registration.similarity(fixed, fixed.like(2 * fixed.data + 100), mask)
    assert same == pytest.approx({"correlation": 1.0, "local_ncc": 1.0}, abs=1e-6)
    shifted = registration.similarity(fixed, fixed.like(np.roll(fixed.data, 2, axis=0)), mask)
    assert shifted["correlation"] < 0.98
    assert shifted["local_ncc"] < 0.9


def test_similarity_inside_an_empty_mask_is_not_a_number():
    fixed, mask = as_images(MOVING, world(MOVING), 1)
    assert np.isnan(list(registration.similarity(fixed, fixed, mask.like(mask.data & False)).values())).all()


def test_similarity_needs_one_grid():
    fixed, mask = as_images(MOVING, world(MOVING), 1)
    with pytest.raises(InputError):
        registration.similarity(fixed, Image(fixed.data, np.eye(4)), mask)


def test_brains_are_compared_only_where_both_fields_of_view_reach():
    *_, truth = make_pair(matrix := make_matrix((12, -18, 25)))
    fixed_mask = as_images(FIXED, truth(world(FIXED)), 1)[1]
    moving_mask = as_images(MOVING, world(MOVING), 2)[1]
    whole = registration.brain_dice_in_common_view(fixed_mask, moving_mask, affine=matrix)
    assert whole > 0.96
    # Half the slices of the moving scan were never taken.
    half = Image(moving_mask.data[:, :25], moving_mask.affine)
    assert registration.brain_dice_in_common_view(fixed_mask, half, affine=matrix) > 0.94
    wrong = registration.brain_dice_in_common_view(fixed_mask, moving_mask, affine=make_matrix((12, 40, 25)))
    assert wrong < whole - 0.05
    nowhere = registration.brain_dice_in_common_view(fixed_mask, moving_mask, affine=np.eye(4))
    assert np.isnan(nowhere)


@pytest.mark.parametrize(
    ("dice", "status", "reason"),
    [
        (0.97, "ok", None),
        (0.95, "ok", None),
        (0.94, "warn", "registration_poor"),
        (0.90, "warn", "registration_poor"),
        (0.89, "fail", "registration_failed"),
        (float("nan"), "fail", "registration_failed"),
    ],
)
def test_the_verdict_follows_the_overlap_of_the_brains(dice, status, reason):
    verdict = registration.registration_qc(dice=dice, rigid=None, dice_warn=0.95, dice_fail=0.90)
    assert (verdict.status, verdict.reason) == (status, reason)


def test_a_rigid_matrix_that_changes_volume_fails():
    for scale, status in ((1.0, "ok"), (1.001, "fail")):
        rigid = make_matrix((10, 20, 30), scale=(scale,) * 3)
        verdict = registration.registration_qc(dice=0.99, rigid=rigid, dice_warn=0.95, dice_fail=0.90)
        assert verdict.status == status
