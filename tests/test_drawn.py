import numpy as np
import pytest
from conftest import write_scan
from mettrail import drawn
from mettrail.errors import InputError


def ball(*radii, numbers, at=(12, 12, 12), shape=(25, 25, 25), into=None):
    """Balls within each other, the largest first."""
    labels = np.zeros(shape, np.uint8) if into is None else into
    distance = np.linalg.norm(np.indices(shape) - np.reshape(at, (3, 1, 1, 1)), axis=0)
    for radius, number in zip(radii, numbers):
        labels[distance <= radius] = number
    return labels


OURS = ball(10, 7, 4, numbers=(2, 1, 3))
# A tumour that is all enhancing, and one with a wall that is open.
SOLID = ball(6, numbers=(1,))
OPEN = np.where(np.indices((25, 25, 25))[0] < 12, OURS, np.where(OURS == 1, 0, OURS)).astype(np.uint8)
BRATS_2021 = ball(10, 7, 4, numbers=(2, 4, 1))
BRATS_2023 = ball(10, 7, 4, numbers=(2, 3, 1))
SOLID_2023 = ball(10, 6, numbers=(2, 3))
WITH_CAVITY = np.where((OURS == 0) & (np.indices((25, 25, 25))[2] > 21), 4, OURS).astype(np.uint8)
WITH_CAVITY_2025 = np.where(WITH_CAVITY == 4, 4, BRATS_2023).astype(np.uint8)
LESIONS = ball(3, numbers=(2,), at=(18, 18, 18), into=ball(4, numbers=(1,), at=(6, 6, 6)))
THIRD = ball(3, numbers=(3,), at=(18, 18, 18), into=ball(4, numbers=(1,), at=(6, 6, 6)))


def read(tmp_path, labels, scheme="mettrail", **scan):
    return drawn.read_drawn(write_scan(tmp_path / "dseg.nii.gz", labels, **scan), scheme).data


@pytest.mark.parametrize("labels", [OURS, SOLID, OPEN, np.zeros((5, 6, 7), np.uint8)])
def test_masks_of_ours_are_taken_as_they_are(tmp_path, labels):
    np.testing.assert_array_equal(read(tmp_path, labels), labels)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (BRATS_2021, "labels 4"),
        (BRATS_2023, "enclosed by necrosis"),
        (SOLID_2023, "touches no enhancing"),
        (LESIONS, "edema .* touches no lesion"),
        (ball(4, numbers=(2,)), "edema .* touches no lesion"),
        (THIRD, "touches no enhancing"),
        (ball(4, numbers=(17,)), "labels 17"),
    ],
    ids=["BraTS 2021", "BraTS 2023", "BraTS 2023, no core", "lesion 2", "lesion 2 alone", "lesion 3", "lesion 17"],
)
def test_masks_that_cannot_be_ours_are_refused_with_a_way_out(tmp_path, labels, said):
    with pytest.raises(InputError, match=said) as caught:
        read(tmp_path, labels)
    assert caught.value.reason == "bad_labels"
    assert "labels.scheme" in caught.value.advice


@pytest.mark.parametrize(
    ("scheme", "labels", "expected"),
    [
        ("brats2021", BRATS_2021, OURS),
        ("brats2023", BRATS_2023, OURS),
        ("instances", LESIONS, (LESIONS > 0) * 1),
        ({1: 3, 3: 1}, BRATS_2023, OURS),
        ({"1": "3", "4": 1}, BRATS_2021, OURS),
        ("{1: 3, 3: 1}", BRATS_2023, OURS),
        ("brats2025", WITH_CAVITY_2025, WITH_CAVITY),
        ({4: 4}, WITH_CAVITY, WITH_CAVITY),
        ({5: 0}, np.where(OURS == 2, 5, OURS), np.where(OURS == 2, 0, OURS)),
        ({1: 1, 2: 2, 3: 3}, THIRD, THIRD),
    ],
    ids=[
        "BraTS 2021",
        "BraTS 2023",
        "instances",
        "mapping",
        "mapping of text",
        "as text",
        "BraTS 2025",
        "cavity",
        "nothing",
        "at its word",
    ],
)
def test_a_scheme_says_what_the_numbers_mean(tmp_path, scheme, labels, expected):
    np.testing.assert_array_equal(read(tmp_path, labels.astype(np.uint8), scheme), expected)


def test_for_networks_a_cavity_is_background(tmp_path):
    path = write_scan(tmp_path / "dseg.nii.gz", WITH_CAVITY)
    np.testing.assert_array_equal(drawn.read_lesions(path, {4: 4}).data, OURS)


def test_lesions_may_be_many(tmp_path):
    labels = np.arange(500, dtype=np.uint16).reshape(5, 10, 10)
    assert read(tmp_path, labels, "instances").sum() == 499


@pytest.mark.parametrize(
    ("scheme", "label"), [("brats2021", 3), ("brats2023", 4), ("brats2025", 5), ({1: 3}, 4), ("mettrail", 4)]
)
def test_numbers_that_a_scheme_does_not_know_are_refused(tmp_path, scheme, label):
    with pytest.raises(InputError, match=f"labels {label}"):
        read(tmp_path, ball(4, numbers=(label,)), scheme)


@pytest.mark.parametrize("scheme", ["BraTS", "", {}, {1: 5}, {"a": 1}, {0: 1}, {1.5: 1}, {1: True}, 3, None, [1]])
def test_a_scheme_nobody_knows_is_refused(scheme):
    with pytest.raises(InputError, match=r"labels\.scheme"):
        drawn.read_scheme(scheme)


@pytest.mark.parametrize("scheme", ["mettrail", "instances", {1: 1}])
def test_a_mask_of_the_brain_is_no_lesion(tmp_path, scheme):
    with pytest.raises(InputError, match="no mask of the brain"):
        read(tmp_path, ball(11, numbers=(1,)), scheme, affine=np.diag([6, 6, 6, 1.0]))
