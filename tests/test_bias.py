import numpy as np
import pytest
from conftest import shipped_config
from mettrail import bias
from mettrail.errors import InputError
from mettrail.images import Image, canonical_grid, resample
from mettrail.settings import debias_settings
from scipy import ndimage

SETTINGS = {"shrink_factor": 4, "iterations": [30, 30], "spline_distance_mm": 200, "threads": 2}


def _head(shape=(64, 72, 56), spacing=(1.0, 1.0, 1.0)):
    """An egg of two tissues in zeros, no two axes alike; returns data, affine, tissue 1, the whole egg."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-31, 12, 47]
    x, y, z = (np.linspace(-1, 1, n)[(...,) + (None,) * (2 - i)] for i, n in enumerate(shape))
    egg = (x / 0.85) ** 2 + (y / 0.9) ** 2 + (z / 0.8) ** 2 < 1
    inner = (x / 0.5) ** 2 + ((y - 0.1) / 0.55) ** 2 + (z / 0.5) ** 2 < 1
    noise = np.random.default_rng(1).normal(0, 8, shape)
    data = np.where(egg, np.where(inner, 700, 450) + noise, 0).astype(np.float32)
    field = np.exp(0.5 * x - 0.4 * y + 0.3 * z) * np.ones(shape)
    return data, field.astype(np.float32), affine, inner, egg


def _variation(values):
    return values.std() / values.mean()


def test_a_known_field_is_taken_out():
    data, field, affine, inner, egg = _head()
    before = _variation((data * field)[inner])
    out = bias.correct_bias(Image(data * field, affine), **SETTINGS)
    assert before > 0.12
    assert _variation(out.data[inner]) < before / 2
    # Both tissues keep their distance.
    outer = egg & ~inner
    assert out.data[inner].mean() / out.data[outer].mean() == pytest.approx(700 / 450, rel=0.1)


def test_background_stays_exactly_zero_and_nothing_falls_below():
    data, field, affine, _, egg = _head()
    out = bias.correct_bias(Image(data * field, affine), **SETTINGS)
    assert not out.data[~egg].any()
    assert out.data.min() == 0
    assert out.data.dtype == np.float32


def test_the_result_is_on_the_scans_own_ras_1_mm_grid(oblique_affine):
    data = _head(shape=(40, 30, 16))[0]
    turned = Image(data[::-1].transpose(2, 0, 1).copy(), oblique_affine @ np.eye(4)[:, [2, 0, 1, 3]])
    out = bias.correct_bias(turned, **SETTINGS)
    assert out.grid.matches(canonical_grid(turned.grid))
    assert np.allclose(out.spacing_mm, 1)
    # The field of a scan without one is flat: what is left is the resampled scan.
    plain = resample(turned, out.grid).data
    assert np.corrcoef(out.data.ravel(), plain.ravel())[0, 1] > 0.99


def test_mean_brightness_of_the_head_does_not_move():
    data, field, affine, _, egg = _head()
    image = Image(data * field, affine)
    out = bias.correct_bias(image, **SETTINGS)
    assert np.log(out.data[egg]).mean() == pytest.approx(np.log(np.maximum(image.data[egg], 1)).mean(), abs=0.05)


def test_a_scan_of_two_slices_is_corrected():
    data, field, affine, _, _ = _head(shape=(64, 72, 2), spacing=(1.0, 1.0, 5.0))
    out = bias.correct_bias(Image(np.repeat(data[:, :, :1] * 0 + 500, 2, axis=2) * field, affine), **SETTINGS)
    assert out.data.shape == (64, 72, 10)
    assert np.isfinite(out.data).all()


def test_a_scan_without_anything_above_zero_is_refused():
    with pytest.raises(InputError, match="nothing above background"):
        bias.correct_bias(Image(np.full((9, 9, 9), -1.0, np.float32), np.eye(4), "scan.nii.gz"), **SETTINGS)


def test_itk_is_told_how_many_threads_it_may_use(monkeypatch):
    seen = []

    class Recorder(bias.sitk.N4BiasFieldCorrectionImageFilter):
        def Execute(self, *args):  # noqa: N802
            seen.append((self.GetNumberOfThreads(), self.GetMaximumNumberOfIterations()))
            return super().Execute(*args)

    monkeypatch.setattr(bias.sitk, "N4BiasFieldCorrectionImageFilter", Recorder)
    before = bias.sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    data, _, affine, _, _ = _head(shape=(32, 36, 28))
    bias.correct_bias(Image(data, affine), **{**SETTINGS, "threads": 1})
    assert seen == [(1, (30, 30))]
    assert bias.sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == before


def test_foreground_of_an_extracted_brain_is_all_that_is_not_zero():
    data, field, _, _, egg = _head()
    assert np.array_equal(bias.foreground(data * field), egg)


def test_foreground_leaves_noisy_air_out_and_keeps_dark_fluid_inside():
    data, _, _, inner, egg = _head()
    data = data + np.abs(np.random.default_rng(0).normal(0, 20, data.shape))
    data[30:34, 34:38, 26:30] = 5
    found = bias.foreground(data)
    assert found[inner].all()
    assert (found & ~egg).sum() < 0.01 * egg.sum()


def test_edema_on_flair_is_not_taken_for_bias():
    """A head of white and folded grey matter, scalp, and edema of 32 mm: by all levels a third of it would go."""
    shape, rng = (150, 180, 140), np.random.default_rng(2)
    x, y, z = np.meshgrid(*[np.arange(n) - n / 2 for n in shape], indexing="ij")
    depth = np.sqrt((x / 62) ** 2 + (y / 76) ** 2 + (z / 58) ** 2)
    away = np.sqrt((x - 22) ** 2 + (y - 25) ** 2 + (z - 10) ** 2)
    folds = ndimage.gaussian_filter(rng.standard_normal(shape), 3)
    cortex = np.select([folds > 0, folds > -0.6 * folds.std()], [610, 500], 140)
    flair = np.select([depth < 0.18, depth < 0.78, depth < 1], [130, 500, cortex], 0)
    flair = np.where((away < 16) & (depth < 1), 900, flair)
    flair = np.where((depth > 1.06) & (depth < 1.15), 450, flair)
    flair = ndimage.gaussian_filter(np.where(flair > 0, flair + rng.normal(0, 20, shape), 0), 0.6)
    scan = Image(np.where(flair < 5, 0, flair).astype(np.float32), np.eye(4))
    white = (depth > 0.2) & (depth < 0.75) & (away > 21)
    kept = []
    for sequence in (True, False):
        settings = debias_settings(shipped_config(), sequence=sequence)
        found = bias.correct_bias(scan, **settings, threads=2).data
        kept.append((found[away < 10].mean() / np.median(found[white]) - 1) / 0.8)
    assert kept[0] > 0.95
    assert kept[1] < 0.8, "the reference image has finer levels, whose price this is"
