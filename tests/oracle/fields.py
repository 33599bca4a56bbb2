"""Dense fields of lesions whose truth is known: what trackers find hard.

Where `oracle.patients` keeps lesions 7 mm apart and scripts every contact, here they lie as close as they like: bodies
are drawn, moved a little at every visit, sampled at the voxel centres of the scan, and whether two of them touch in the
mask is left to chance. A visit keeps the identity of every voxel of the mask (`truth`) and the mask itself (`tissue`).

What a tracker can know decides what it is asked (`describe_truth`), by the specification's sizes alone:

- a lesion that the mask lacks (missed) is not there: seen first at a later visit it is new then, its gap is a gap;
- a lesion starts at 10 mm3 and 3 voxels, and goes on above 2 mm3 and with 2 voxels;
- a lesion that touches another where it starts cannot be told from it: it may be found or not, ever after;
- so may one below 10 mm3 within 2 mm of another lesion: the specification adds such crumbs to their neighbour.

Points are RAS mm; bodies lie in the space of the first visit.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from oracle import diameters, patients
from oracle.patients import EVERYWHERE, Session, apply, random_blob, random_turn

# Diameters (mm) at these quantiles of 10,119 enhancing components in 1,296 scans.
QUANTILES = (0.0, 0.10, 0.25, 0.50, 0.75, 0.90, 1.0)
DIAMETERS_MM = (1.5, 2.2, 2.9, 4.2, 6.9, 11.9, 24.0)
BIRTH_MM3, BIRTH_VOX, KEEP_MM3, KEEP_VOX, CRUMB_GAP_MM = 10.0, 3, 2.0, 2, 2.0
TOWARDS = np.random.default_rng(0).normal(size=(160, 3))  # directions in which gaps are measured
TOWARDS /= np.linalg.norm(TOWARDS, axis=1, keepdims=True)


@dataclass(frozen=True)
class Setting:
    """How a field is drawn; fractions are of lesions (per visit for misses and fragments)."""

    n_lesions: int = 20
    n_visits: int = 4
    gap_mm: tuple[float, float] = (3.0, 3.0)  # between a lesion and the one it is put beside, over all time
    smallest_mm: float = 2.8
    n_large: int = 3  # of 10 mm and more
    large_mm: tuple[float, float] = (10.5, 20.0)
    jitter_mm: float = 0.3  # a lesion moves by up to this at each visit, its surface by half of it
    shift_mm: float = 0.0  # what registration leaves of the visit's shift
    turn_deg: float = 0.0  # and of its rotation
    change: float = 1.5  # volume from visit to visit, times or divided by at most this
    gone: float = 0.1
    born: float = 0.1
    missed: float = 0.0  # of those below 6 mm
    fragmented: float = 0.0  # of those from 5 mm
    grown: float = 0.0  # x20 in volume from one visit to the next
    stacked: float = 0.25  # put above or below the neighbour
    extent_mm: float = 84.0  # side of the cube in which they lie


STABLE = Setting(
    n_lesions=8, n_visits=5, gap_mm=(0.5, 3.2), smallest_mm=3.6, n_large=4, shift_mm=0.5, change=1.0, gone=0.0,
    born=0.0, extent_mm=60.0,
)  # fmt: skip
TRIALS = {
    "gap 8, shift 0.3": Setting(gap_mm=(8, 8), shift_mm=0.3, n_lesions=14),
    "gap 3, shift 1": Setting(shift_mm=1),
    "gap 2, shift 1, fragments": Setting(gap_mm=(2, 2), shift_mm=1, fragmented=0.4),
    "60 lesions from 2 mm, shift 1": Setting(n_lesions=60, smallest_mm=2.0, shift_mm=1),
    "gap 3, shift 1, 30 % of < 6 mm missed": Setting(shift_mm=1, missed=0.3),
    "growth x20, gap 6, shift 1": Setting(gap_mm=(6, 6), shift_mm=1, grown=0.5, n_lesions=14),
    "gap 3, shift 3": Setting(shift_mm=3),
    "gap 3, shift 4": Setting(shift_mm=4),
    "gap 3, shift 2, turn 2 degrees": Setting(shift_mm=2, turn_deg=2),
    "gap 1, shift 2": Setting(gap_mm=(1, 1), shift_mm=2),
    "gap 0.5-3, shift 0-4, all at once": Setting(
        gap_mm=(0.5, 3), shift_mm=2, turn_deg=1, missed=0.15, fragmented=0.15, grown=0.1, stacked=0.4
    ),
}


@dataclass
class Lesion:
    """A body of 1 mm diameter, where it lies, its diameter at each visit: None before it is there, 0 when gone."""

    blob: patients.Blob
    sizes: list
    place: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def reach(self, largest=False):
        """Distance (n,) of the surface from the middle along `TOWARDS`, mm, at the start or at its largest."""
        size = max(s for s in self.sizes if s) if largest else next(s for s in self.sizes if s)
        return size / self.blob.level(TOWARDS)

    def surface(self, largest=False):
        return self.place + TOWARDS * self.reach(largest)[:, None]


@dataclass
class Field:
    """A patient as `agreement.follow` takes it, and the bodies behind it."""

    participant: dict
    sessions: list[Session]
    lesions: list[Lesion]


# Drawing


def draw_diameters(rng, n, smallest):
    """Diameters (n,) as they are found in scans, none below `smallest`, mm."""
    low = np.interp(np.log(smallest), np.log(DIAMETERS_MM), QUANTILES)
    return np.exp(np.interp(rng.uniform(low, 0.97, size=n), QUANTILES, np.log(DIAMETERS_MM)))


def draw_lesions(rng, setting):
    """Lesions with their sizes over time, not placed yet; the largest first."""
    small = draw_diameters(rng, setting.n_lesions - setting.n_large, setting.smallest_mm)
    starts = np.sort(np.concatenate([rng.uniform(*setting.large_mm, size=setting.n_large), small]))[::-1]
    out = []
    for start in starts:
        steps = setting.change ** rng.uniform(-1 / 3, 1 / 3, size=setting.n_visits)
        steps[0] = 1
        grows = start < 5 and rng.random() < setting.grown
        if grows:
            steps[rng.integers(1, setting.n_visits)] *= 20 ** (1 / 3)
        sizes = list(np.clip(start * np.cumprod(steps), min(1.0, start), 26.0))
        fate = rng.random()
        if fate < setting.gone and setting.n_visits > 1:
            when = int(rng.integers(1, setting.n_visits))
            # Half of them are down to about a voxel first.
            left = rng.choice([0.0, 1.1])
            sizes[when:] = [left] + [0.0] * (setting.n_visits - when - 1)
        elif fate < setting.gone + setting.born and setting.n_visits > 1:
            when = int(rng.integers(1, setting.n_visits))
            sizes[:when] = [None] * when
        out.append(Lesion(random_blob(rng, start), sizes))
    return out


def gap_between(one, other, largest=False):
    """Smallest distance between two surfaces, mm; negative where a body reaches into the other."""
    away = other.place - one.place
    far = np.linalg.norm(away)
    rough = far - one.reach(largest).max() - other.reach(largest).max()
    if rough > 12:
        return rough
    ours, theirs = one.surface(largest), other.surface(largest)
    size = max(s for s in one.sizes if s) if largest else next(s for s in one.sizes if s)
    inside = one.blob.scaled(size).level(theirs - one.place) <= 1
    return -1.0 if inside.any() else float(cKDTree(ours).query(theirs)[0].min())


def place(rng, lesions, setting, centre):
    """Give every lesion a place: beside one that is there, at the gap asked for, and no nearer to any other."""
    growing = setting.grown > 0
    placed = []
    for lesion in lesions:
        for attempt in range(400):
            lesion.place = centre + rng.uniform(-0.5, 0.5, size=3) * (setting.extent_mm - lesion.reach(True).max() * 2)
            gap = rng.uniform(*setting.gap_mm)
            if placed and attempt < 300 and rng.random() < 0.9:
                host = placed[rng.integers(len(placed))]
                way = rng.normal(size=3)
                if rng.random() < setting.stacked:
                    way = np.array([0.05, 0.05, 1.0]) * way / abs(way[2])
                way /= np.linalg.norm(way)
                far = host.reach(not growing).max() + lesion.reach(not growing).max() + gap
                for _ in range(6):
                    lesion.place = host.place + far * way
                    far -= gap_between(host, lesion, not growing) - gap
            off = np.abs(lesion.place - centre) + lesion.reach(True).max()
            if (off > setting.extent_mm / 2 + 2).any():
                continue
            if all(
                gap_between(other, lesion, not growing) >= min(gap, setting.gap_mm[0]) - 0.05
                and (not growing or gap_between(other, lesion, True) >= 0.5)
                for other in placed
            ):
                break
        else:
            raise patients.UnclearError("no room")
        placed.append(lesion)


def rigid(rng, centre, degrees, shift_mm):
    """Rigid motion about a point: a random turn of so many degrees, a shift of so many mm in a random direction."""
    out = np.eye(4)
    axis, way = rng.normal(size=(2, 3))
    axis, way = axis / np.linalg.norm(axis), way / np.linalg.norm(way)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.deg2rad(degrees)
    out[:3, :3] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    out[:3, 3] = centre + shift_mm * way - out[:3, :3] @ centre
    return out


def rasterise(rng, affine, shape, to_session, lesions, visit, setting):
    """Tissue and truth of one visit; a voxel that two bodies claim goes to the one it lies deeper in."""
    truth = np.zeros(shape, np.int16)
    depth = np.full(shape, np.inf)
    core = np.zeros(shape, bool)
    spacing = diameters.spacing_of(affine)
    to_index, to_first = np.linalg.inv(affine), np.linalg.inv(to_session)
    for number, lesion in enumerate(lesions, start=1):
        size = lesion.sizes[visit]
        hidden = bool(size) and size < 6 and rng.random() < setting.missed
        move, swell, cut = rng.normal(size=3), rng.uniform(-1, 1), rng.random() < setting.fragmented
        if not size or hidden:
            continue
        at = lesion.place + move / np.linalg.norm(move) * setting.jitter_mm * rng.random()
        body = lesion.blob.scaled(max(size + swell * setting.jitter_mm, 0.7))
        radius = body.sphere[1]
        index = apply(to_index, apply(to_session, at))
        low = np.maximum(np.floor(index - (radius + 1) / spacing), 0).astype(int)
        high = np.minimum(np.ceil(index + (radius + 1) / spacing) + 1, shape).astype(int)
        block = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        points = apply(to_first, apply(affine, np.moveaxis(np.indices(high - low), 0, -1) + low)) - at
        level = body.level(points)
        within = (level - 1) * radius
        if within.min() > 0 and size >= 1:
            within.flat[within.argmin()] = 0  # a lesion of a voxel's size shows in the voxel it is nearest to
        if cut and size >= 5:
            within = np.where(_crack(rng, points, radius), np.inf, within)
        mine = (within <= 0) & (within < depth[block])
        depth[block][mine] = within[mine]
        truth[block][mine] = number
        core[block][mine] = (level[mine] < 0.5) & (size > 9) & (number % 3 == 0)
    return np.where(truth == 0, 0, np.where(core, 3, 1)).astype(np.int8), truth


def _crack(rng, points, radius):
    """A wavy gap of 1 to 2 mm through a body, and a pinch of voxels: what noise does to a mask."""
    turn = random_turn(rng)
    along = points @ turn
    wave = 0.15 * radius * np.sin(along[..., 1] / radius * rng.uniform(2, 5) + rng.uniform(0, 6))
    crack = np.abs(along[..., 0] + wave - rng.uniform(-0.3, 0.3) * radius) < rng.uniform(0.6, 1.1)
    return crack | (rng.random(points.shape[:-1]) < 0.02)


def draw_field(seed, setting, *, name="field"):
    """The field of a seed; the same seed draws the same field."""
    for attempt in range(40):
        rng = np.random.default_rng([seed, attempt, 77])
        lesions, centre = draw_lesions(rng, setting), rng.uniform(-20, 20, size=3)
        try:
            place(rng, lesions, setting, centre)
        except patients.UnclearError:
            continue
        break
    else:
        raise AssertionError(f"no room for {setting}")
    spacing = np.array([(1.0, 1.0, 1.0), (0.9, 0.9, 1.5)][rng.random() < 0.2])
    shape = tuple(np.ceil((setting.extent_mm + 14) / spacing).astype(int).tolist())
    sessions = []
    for visit in range(setting.n_visits):
        pose, left = np.eye(4), np.eye(4)
        if visit:
            pose = rigid(rng, centre, rng.uniform(0, 5), rng.uniform(0, 4))
            left = rigid(rng, centre, setting.turn_deg, setting.shift_mm)
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = apply(pose, centre) + rng.uniform(-1, 1, size=3) - spacing * (np.array(shape) - 1) / 2
        tissue, truth = rasterise(rng, affine, shape, pose, lesions, visit, setting)
        sessions.append(
            Session(f"ses-{visit + 1}", 60.0 * visit, True, None, None, None, affine, tissue, truth, pose @ left)
        )
    participant = {
        "participant_id": f"sub-{name}{seed + 1:04d}",
        "treatment_type": "srs",
        "treatment_start_day": None,
        "immunotherapy_start_day": None,
    }
    return Field(participant, sessions, lesions)


def draw_stable(seed, **changes):
    """A patient in whom nothing changes but how the lesions happen to lie on the voxels."""
    rng = np.random.default_rng([seed, 5])
    setting = replace(STABLE, n_visits=int(rng.integers(4, 7)), n_lesions=int(rng.integers(6, 15)), **changes)
    return draw_field(seed, setting, name="stable")


# What can be known


@dataclass
class Truth:
    """Per lesion (number) and visit: None before it starts, present, either (found or not), gone."""

    states: dict[int, list]

    def new(self):
        """Keys (visit, lesion) of births after the first visit."""
        firsts = {n: next((t for t, s in enumerate(own) if s), None) for n, own in self.states.items()}
        return {(t, n) for n, t in firsts.items() if t and self.states[n][t] == "present"}

    def gone(self):
        """Keys (visit, lesion) at which a lesion that was present is not there any more."""
        return {
            (t, n)
            for n, own in self.states.items()
            for t in range(1, len(own))
            if own[t] == "gone" and own[t - 1] == "present"
        }


def describe_truth(drawn):
    """What a tracker can know of every lesion, from the identity of each voxel of the masks."""
    numbers = range(1, len(drawn.lesions) + 1)
    states, hidden = {n: [] for n in numbers}, set()
    for session in drawn.sessions:
        truth = session.truth
        voxel = abs(np.linalg.det(session.affine[:3, :3]))
        count = np.bincount(truth.ravel(), minlength=len(numbers) + 1)
        near = _neighbours(truth, diameters.spacing_of(session.affine))
        labelled, _ = ndimage.label(truth > 0, EVERYWHERE)
        members = {}
        for n, piece in set(zip(truth[truth > 0].tolist(), labelled[truth > 0].tolist())):
            members.setdefault(piece, set()).add(n)
        known = {n for n in numbers if any(states[n])}
        for n in sorted(numbers, key=lambda n: -count[n]):
            volume = count[n] * voxel
            started = n in known
            if not started and (volume < BIRTH_MM3 or count[n] < BIRTH_VOX):
                states[n].append(None)
                continue
            if not started:
                beside = set().union(*(group for group in members.values() if n in group)) - {n}
                if beside & known:  # also of those that start now, the larger ones
                    hidden.add(n)
                known.add(n)
            there = volume > KEEP_MM3 and count[n] >= KEEP_VOX
            crumb = there and volume < BIRTH_MM3 and near[n]
            states[n].append("either" if n in hidden or crumb else "present" if there else "gone")
    return Truth(states)


def _neighbours(truth, spacing):
    """Whether each lesion lies within the reach of crumbs of another."""
    out = dict.fromkeys(range(int(truth.max()) + 1), False)
    margin = np.ceil(CRUMB_GAP_MM / spacing).astype(int) + 1
    for n, block in enumerate(ndimage.find_objects(truth), start=1):
        if block is None:
            continue
        wide = tuple(slice(max(s.start - m, 0), s.stop + m) for s, m in zip(block, margin, strict=True))
        here = truth[wide]
        others = (here > 0) & (here != n)
        if others.any():
            far = ndimage.distance_transform_edt(~others, sampling=spacing)[here == n].min()
            out[n] = bool(far <= CRUMB_GAP_MM + spacing.max())
    return out
