"""Random patients with their masks and the truth about them.

A patient is drawn from a script: what happens to each lesion is decided first (it grows, vanishes, comes back, fuses
with another, falls apart), and the events follow from that alone. Shapes are continuous bodies in the space of the
first session, sampled at the voxel centres of each session's own grid. The masks are looked at only to measure what
the script made, and to draw again if a picture could be read in another way than the script says (a lesion near a
size limit of tracking, a piece that touches another).

All points are RAS mm; the body of a lesion is described around an anchor, in the space of the first session.

Choices where the specification leaves room:

- event `baseline`: born at the first evaluable session; `new`: born at a later one, whatever the RANO-BM baseline is.
- event `split`: a lesion comes apart. Of lesions that become one mass each stays itself (I2): its part ends half way
  along what joins them; the truth says with whom it is one (`fused_with`), and its sizes there are about right.
- Nothing is seen at a session that is not evaluable: rows of known lesions are not_evaluable, no lesion is born.
- Rows of absent lesions have size 0 and no fragments; of a probable miss only `ld_rano_mm` is n/a.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from oracle import diameters, response

APART_MM = 7.0  # between the bodies of two lesions, over all time
SMALLEST_MM = 3.6  # diameter of the smallest lesion; a ball of it has 24 mm3
MARGIN_MM = 4.0  # between a lesion and the border of the image
EVERYWHERE = np.ones((3, 3, 3))  # 26-connectivity


class UnclearError(Exception):
    """The patient could be read in another way than the script says: draw again."""


# What a patient is made of


@dataclass
class Session:
    """One session: its clinic, its grid, its masks (arrays on that grid), its place in the reference space."""

    session_id: str
    day: float
    evaluable: bool
    dexamethasone_equiv_mg_per_day: float | None
    clinical_status: str | None
    clinical_tumour_related: bool | None
    affine: np.ndarray
    tissue: np.ndarray
    truth: np.ndarray
    to_session: np.ndarray


@dataclass
class Patient:
    """A patient and the truth; `case` is what the truth about the response was computed from."""

    participant: dict
    sessions: list[Session]
    lesions: list[dict]
    responses: list[dict]
    summary: dict
    case: response.Case


# Continuous shapes


@dataclass(frozen=True)
class Blob:
    """An ellipsoid, with bumps if it has any: star-shaped, so that a smaller copy lies inside a larger one."""

    semi: np.ndarray  # half axes, mm
    axes: np.ndarray = field(default_factory=lambda: np.eye(3))
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))
    bumps: tuple = ()  # (unit direction, height as a fraction of the radius)

    @property
    def sphere(self):
        return self.offset, float(self.semi.max()) * (1 + sum(max(height, 0) for _, height in self.bumps))

    def level(self, points):
        """1 on the surface, smaller inside; points (..., 3) in mm from the anchor."""
        scaled = (points - self.offset) @ self.axes / self.semi
        radius = np.linalg.norm(scaled, axis=-1)
        reach = np.ones_like(radius)
        for direction, height in self.bumps:
            cosine = scaled @ direction / np.maximum(radius, 1e-9)
            reach = reach + height * np.exp((cosine - 1) / 0.2)
        return radius / reach

    def scaled(self, factor):
        return Blob(self.semi * factor, self.axes, self.offset, self.bumps)


@dataclass(frozen=True)
class Rod:
    """All points within `radius` mm of the line from `start` to `end`, cut off there: half a bridge to another body."""

    start: np.ndarray
    end: np.ndarray
    radius: float

    @property
    def sphere(self):
        return (self.start + self.end) / 2, self.radius + float(np.linalg.norm(self.end - self.start)) / 2

    def level(self, points):
        line = self.end - self.start
        along = (points - self.start) @ line / (line @ line)
        nearest = self.start + np.clip(along, 0, 1)[..., None] * line
        return np.where(along > 1, np.inf, np.linalg.norm(points - nearest, axis=-1) / self.radius)


# Scripts


@dataclass
class Step:
    """A lesion at one evaluable session: its status and event, its pieces (each a list of bodies that overlap)."""

    status: str
    event: str
    pieces: list = field(default_factory=list)
    fused_with: "Track | None" = None


@dataclass
class Track:
    """A lesion for life: one step per evaluable session, None before birth."""

    steps: list
    ring: bool = False
    edema_mm: float = 0.0
    number: int = 0
    anchor: np.ndarray | None = None

    @property
    def birth(self):
        return next(e for e, step in enumerate(self.steps) if step is not None)

    def spheres(self):
        return [body.sphere for step in self.steps if step is not None for piece in step.pieces for body in piece]


def random_turn(rng, degrees=180.0):
    """Rotation matrix about a random axis by up to `degrees`."""
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def random_blob(rng, smallest):
    """A body of diameter 1 mm to be scaled; small lesions are nearly round, so that they keep their volume."""
    kind = "ball" if smallest < 7 else rng.choice(["ball", "ellipsoid", "lobulated"], p=[0.4, 0.3, 0.3])
    flat = {"ball": 0.95, "ellipsoid": 0.7, "lobulated": 0.85}[kind]
    semi = 0.5 * np.array([1.0, *rng.uniform(flat, 1.0, size=2)])
    bumps = ()
    if kind == "lobulated":
        directions = rng.normal(size=(int(rng.integers(2, 5)), 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        bumps = tuple((direction, float(rng.uniform(-0.12, 0.15))) for direction in directions)
    return Blob(semi, random_turn(rng), bumps=bumps)


def follow(rng, sizes, blob=None):
    """A lesion that keeps its place: diameters in mm per evaluable session, 0 where absent, None before birth."""
    there = [size for size in sizes if size]
    blob = blob or random_blob(rng, min(there))
    steps = []
    for e, size in enumerate(sizes):
        if size is None:
            steps.append(None)
        elif size == 0:
            steps.append(Step("absent", "absent"))
        else:
            before = steps[-1] if steps else None
            if before is None:
                event = "baseline" if e == 0 else "new"
            else:
                event = "reappeared" if before.status == "absent" else "persist"
            steps.append(Step("present", event, [[blob.scaled(size)]]))
    return Track(steps, ring=bool(rng.random() < 0.4), edema_mm=float(rng.choice([0.0, 2.0, 4.0])))


def course_factors(rng, course, n, baseline):
    """Diameter relative to the first session, one per evaluable session; little changes up to baseline."""
    steps = np.ones(n)
    steps[1 : baseline + 1] = rng.uniform(0.95, 1.08, size=baseline)
    after = slice(baseline + 1, n)
    count = n - baseline - 1
    low, high = {
        "progress": (1.06, 1.45), "stable": (0.92, 1.08), "respond": (0.85, 1.08), "clear": (0.6, 1.0),
    }[course]  # fmt: skip
    steps[after] = rng.uniform(low, high, size=count)
    if course == "respond" and count:
        steps[baseline + 1] = rng.uniform(0.6, 0.82)
        if count > 1 and rng.random() < 0.3:
            steps[-1] = rng.uniform(1.12, 1.5)
    return np.cumprod(steps)


def draw_sizes(rng, start, factors, largest):
    """Diameters in mm of a lesion that follows the course of the patient, a little off it each time."""
    noise = rng.uniform(0.96, 1.04, size=len(factors))
    noise[0] = 1
    return [float(np.clip(start * factor * jitter, SMALLEST_MM, largest)) for factor, jitter in zip(factors, noise)]


def vanish(rng, sizes, kind, baseline):
    """The same sizes with a gap of a given kind, or None if there are too few sessions for it."""
    n, sizes = len(sizes), list(sizes)
    if kind in ("miss", "small"):
        gaps = [e for e in range(1, n - 1) if e != baseline]
        if not gaps:
            return None
        gap = int(rng.choice(gaps))
        last = sizes[gap - 1]
        sizes[gap] = 0
        if kind == "small":
            if 0.38 * last < SMALLEST_MM + 0.2:
                return None
            back = rng.uniform(max(0.28, (SMALLEST_MM + 0.1) / last), 0.38) * last
            sizes[gap + 1 :] = [min(back * 1.1**later, last) for later in range(n - gap - 1)]
        else:
            back = rng.uniform(0.85, 1.08) * last
            sizes[gap + 1 :] = [max(back * rng.uniform(0.95, 1.05), SMALLEST_MM) for _ in range(n - gap - 1)]
        return sizes
    if kind == "recur":
        firsts = [e for e in range(1, n - 2) if e != baseline and e + 1 != baseline]
        if not firsts:
            return None
        first = int(rng.choice(firsts))
        back = int(rng.integers(first + 2, n))
        if first < baseline < back:
            return None
    else:  # "before": seen before baseline, gone at baseline, back later
        if not 1 <= baseline < n - 1:
            return None
        first = int(rng.integers(1, baseline + 1))
        back = int(rng.integers(baseline + 1, n))
    last = sizes[first - 1]
    size = max(last * float(rng.choice([rng.uniform(0.3, 0.45), rng.uniform(0.6, 1.1)])), SMALLEST_MM + 0.1)
    sizes[first:back] = [0] * (back - first)
    sizes[back:] = [max(size * rng.uniform(0.97, 1.1), SMALLEST_MM) for _ in range(n - back)]
    return sizes


def falls_apart(rng, sizes, baseline):
    """A lesion that breaks into two or three pieces inside its last outline; they stay apart, and may go together."""
    n = len(sizes)
    when = int(rng.integers(baseline + 1, n))
    track = follow(rng, sizes, Blob(np.full(3, 0.5)))
    radius = sizes[when - 1] / 2
    count = 3 if radius >= 8.2 and rng.random() < 0.35 else 2
    # Pieces of radius r at a distance o from the middle: o + r within the outline, neighbours at least 3.6 mm apart.
    spread = 2.0 if count == 2 else np.sqrt(3)
    largest = (spread * (radius - 0.2) - 3.6) / (2 + spread)
    smallest = 2.6
    if largest < smallest:
        return None
    radii = rng.uniform(max(smallest, 0.85 * largest), largest, size=count)
    distance = radius - 0.2 - radii.max()
    turn = random_turn(rng)
    angles = 2 * np.pi * np.arange(count) / count
    offsets = distance * np.stack([np.cos(angles), np.sin(angles), np.zeros(count)], axis=1) @ turn.T
    gone = int(rng.integers(when + 1, n)) if when + 1 < n and rng.random() < 0.2 else n
    for e in range(when, n):
        shrink = 0.96 ** (e - when)
        pieces = [
            [Blob(np.full(3, max(r * shrink, smallest - 0.2)), offset=o)] for r, o in zip(radii, offsets, strict=True)
        ]
        event = "split" if e == when else "persist"
        track.steps[e] = Step("present", event, pieces) if e < gone else Step("absent", "absent")
    track.ring = False
    return track


def fuse(rng, n, baseline, largest):
    """Two lesions that become one mass with a neck; they may part again."""
    big = rng.uniform(11, min(17, largest)) / 2
    # Half of the time the smaller one is large enough to be a target of its own.
    small = rng.uniform(0.82, 0.95) * big if rng.random() < 0.5 else rng.uniform(6.5, max(7.0, 1.6 * big)) / 2
    direction = rng.normal(size=3) * (1, 1, rng.choice([0.3, 1.0]))
    direction /= np.linalg.norm(direction)
    far = (big + small + rng.uniform(3, 5)) * direction
    when = int(rng.integers(baseline + 1, n))
    part = int(rng.integers(when + 1, n)) if when + 1 < n and rng.random() < 0.6 else n
    big_fused, small_fused = rng.uniform(0.96, 1.02), rng.uniform(0.82, 0.9)
    bridge = rng.uniform(max(2.2, 0.5 * small), small * small_fused)
    larger, smaller = Track([], ring=False), Track([], ring=False)
    for e in range(n):
        first = "baseline" if e == 0 else "persist"
        wobble = rng.uniform(0.98, 1.0, size=2)
        here = Blob(np.full(3, big * wobble[0]))
        there = Blob(np.full(3, small * wobble[1]), offset=far)
        if when <= e:
            here = Blob(np.full(3, big * min(big_fused * 0.99 ** (e - when), big_fused if e < part else 1.0)))
            there = Blob(np.full(3, small * small_fused), offset=far)
        if when <= e < part:
            middle = far * (big + np.linalg.norm(far) - small) / (2 * np.linalg.norm(far))
            for track, other, body, rod in (
                (larger, smaller, here, Rod(np.zeros(3), middle, bridge)),
                (smaller, larger, there, Rod(far, middle, bridge)),
            ):
                track.steps.append(Step("present", "persist", [[body, rod]], fused_with=other))
        else:
            larger.steps.append(Step("present", first, [[here]]))
            smaller.steps.append(Step("present", first, [[there]]))
    return [larger, smaller]


def birth(rng, n, when, small, lasting):
    """A lesion born later. `lasting` False: a small one is not there any more at the next session."""
    size = rng.uniform(SMALLEST_MM + 0.2, 4.5) if small else rng.uniform(7.5, 13)
    sizes = [None] * when + [float(size)]
    way = rng.choice(["grow", "stay", "gone"], p=[0.45, 0.3, 0.25]) if small else rng.choice(["grow", "stay"])
    if small and not lasting:
        way = "gone"
    factor = {"grow": rng.uniform(1.35, 1.8), "stay": 1.0, "gone": 0.0}[way]
    while len(sizes) < n:
        size = max(size * factor * rng.uniform(0.97, 1.03), SMALLEST_MM) if factor else 0
        sizes.append(float(min(size, 16)))
        factor = min(factor, 1.15)
    return follow(rng, sizes)


# The calendar


@dataclass
class Calendar:
    """Days, which sessions are evaluable, and the treatment."""

    days: list[float]
    evaluable: list[bool]
    participant: dict

    @property
    def used(self):
        return [s for s, fine in enumerate(self.evaluable) if fine]

    @property
    def baseline(self):
        """Position of the baseline among the evaluable sessions."""
        visits = [response.Visit(day, fine) for day, fine in zip(self.days, self.evaluable, strict=True)]
        return self.used.index(response.find_baseline(visits, self.participant["treatment_start_day"])[0])


def draw_calendar(rng, seed, slow):
    """`slow`: sessions at least 60 days apart."""
    n = int(rng.choice([3, 4, 5, 6], p=[0.15, 0.3, 0.3, 0.25]))
    gaps = rng.integers(60 if slow else 30, 91, size=n - 1)
    days = [0.0, *np.cumsum(gaps).astype(float).tolist()]
    immunotherapy = rng.random() < 0.31
    start = None
    if immunotherapy or rng.random() < 0.43:
        way = rng.choice(["first", "second", "late", "before"], p=[0.5, 0.3, 0.08, 0.12])
        if way == "first":
            start = float(rng.choice([rng.integers(0, 15), 28], p=[0.93, 0.07]))
        elif way == "second":
            start = days[1] + float(rng.integers(0, 15))
        elif way == "late":
            session = int(rng.integers(0, 2))
            start = days[session] + float(rng.integers(29, max(30, gaps[session])))
        else:
            start = -float(rng.integers(5, 60))
    participant = {
        "participant_id": f"sub-{seed + 1:04d}",
        "treatment_type": "immunotherapy"
        if immunotherapy
        else str(rng.choice(["srs", "targeted", "chemo", "wbrt", "srs;targeted"])),
        "treatment_start_day": start,
        "immunotherapy_start_day": start if immunotherapy else None,
    }
    for _ in range(100):
        calendar = Calendar(days, (rng.random(n) >= 0.08).tolist(), participant)
        if len(calendar.used) >= 2 and calendar.baseline < len(calendar.used) - 1:
            return calendar
    raise UnclearError("no follow-up")


def draw_script(rng, calendar, kind):
    """Groups of tracks that share an anchor, and whether the whole disease clears."""
    n, baseline = len(calendar.used), calendar.baseline
    immunotherapy = calendar.participant["treatment_type"] == "immunotherapy"
    largest = {"none": 0.0, "small": 9.0, "usual": 21.0, "many": 16.0}[kind]
    count = {"none": 0, "small": int(rng.integers(1, 5)), "usual": int(rng.integers(1, 5))}.get(kind, 0)
    count = int(rng.integers(5, 8)) if kind == "many" else count
    course = rng.choice(
        ["progress", "stable", "respond", "clear", "mixed"],
        p=[0.03, 0.4, 0.35, 0.17, 0.05] if immunotherapy else [0.27, 0.18, 0.25, 0.22, 0.08],
    )
    shared = course_factors(rng, "stable" if course == "mixed" else course, n, baseline)
    specials = []
    if kind in ("usual", "many"):
        specials += ["apart"] if rng.random() < 0.42 else []
        specials += ["fuse"] if rng.random() < 0.5 else []
    specials += ["before"] if rng.random() < 0.8 else []
    specials += [str(rng.choice(["miss", "small", "recur"], p=[0.35, 0.25, 0.4]))] if rng.random() < 0.8 else []
    if course == "clear":
        specials = [special for special in specials if special == "miss"]
    groups, made = [], 0
    while made < count:
        special = specials.pop(0) if specials else None
        factors = shared
        if course == "mixed":
            factors = course_factors(rng, rng.choice(["progress", "stable", "respond"]), n, baseline)
        if special == "fuse" and count - made >= 2:
            groups.append(fuse(rng, n, baseline, largest))
            made += 2
            continue
        start = rng.uniform(5, 8.5) if kind == "small" else rng.uniform(9.8, largest - 1)
        if kind != "small" and rng.random() < 0.2:
            start = rng.uniform(5, 9.5)
        track = None
        if special == "apart":
            start = rng.uniform(min(15.0, largest - 0.5), largest)
            factors = np.concatenate([[1.0], rng.uniform(0.97, 1.03, size=n - 1)])
            track = falls_apart(rng, draw_sizes(rng, start, factors, largest), baseline)
        elif special in ("miss", "small", "recur", "before"):
            start = max(start, 11.0) if kind != "small" and special != "miss" else start
            sizes = vanish(rng, draw_sizes(rng, start, factors, largest), special, baseline)
            if sizes and immunotherapy and special in ("recur", "before"):
                sizes = [max(size, 8.0) if size else size for size in sizes]
            if sizes and course == "clear":
                sizes[-1] = 0
            track = follow(rng, sizes) if sizes else None
        if track is None:
            sizes = draw_sizes(rng, start, factors, largest)
            if course == "clear" or (course != "progress" and rng.random() < 0.12):
                gone = int(rng.choice(range(baseline + 1, n)))
                sizes[gone:] = [0] * (n - gone)
            track = follow(rng, sizes)
        groups.append([track])
        made += 1
    births = []
    if immunotherapy:
        # Often at the last session, where nothing can confirm or clear it any more.
        births += [n - 1] if rng.random() < 0.9 else []
        births += [int(rng.integers(1, n))] if rng.random() < 0.4 and course != "clear" else []
    elif rng.random() < 0.55 or kind == "none":
        births = [int(rng.integers(1, n)) for _ in range(int(rng.choice([1, 2], p=[0.75, 0.25])))]
    for when in births:
        small = not immunotherapy and bool(rng.random() < 0.65)
        groups.append([birth(rng, n, when, small, lasting=course != "clear")])
    return groups


# Geometry


@dataclass
class Frame:
    """The grid of one session and its place in the reference space."""

    affine: np.ndarray
    shape: tuple[int, int, int]
    to_session: np.ndarray


def apply(matrix, points):
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def draw_frames(rng, n, extent):
    """One frame per session; `extent` (3,) is the size of the imaged box in mm. Returns the box centre as well."""
    centre = rng.uniform(-30, 30, size=3)
    grids = ((1.0, 1.0, 1.0), (0.9, 0.9, 1.5), (1.0, 1.0, 2.0))
    usual = grids[rng.choice(3, p=[0.7, 0.15, 0.15])]
    frames = []
    for s in range(n):
        to_session = np.eye(4)
        shift = np.zeros(3)
        if s > 0:
            to_session[:3, :3] = random_turn(rng, 8.0)
            move = rng.normal(size=3)
            move *= rng.uniform(0, 6) / np.linalg.norm(move)
            to_session[:3, 3] = centre + move - to_session[:3, :3] @ centre
            shift = rng.uniform(-1.5, 1.5, size=3)
        spacing = np.array(usual if rng.random() < 0.8 else grids[rng.choice(3)])
        order, signs = np.arange(3), np.ones(3)
        stored = rng.random()
        if stored < 0.15:
            signs = np.array([-1.0, -1.0, 1.0])
        elif stored < 0.35:
            order, signs = rng.permutation(3), rng.choice([-1.0, 1.0], size=3)
        tilt = random_turn(rng, 8.0) if rng.random() < 0.15 else np.eye(3)
        shape = np.ceil(extent / spacing).astype(int)[order]
        affine = np.eye(4)
        affine[:3, :3] = tilt @ (np.eye(3)[:, order] * signs * spacing[order])
        affine[:3, 3] = apply(to_session, centre) + shift - affine[:3, :3] @ ((shape - 1) / 2)
        frames.append(Frame(affine, tuple(shape.tolist()), to_session))
    return frames, centre


def fits(frame, point, radius):
    """Whether a ball in the reference space lies well inside the grid."""
    spacing = diameters.spacing_of(frame.affine)
    index = apply(np.linalg.inv(frame.affine), apply(frame.to_session, point))
    low, high = index * spacing, (np.array(frame.shape) - 1 - index) * spacing
    return bool((low >= radius + MARGIN_MM).all() and (high >= radius + MARGIN_MM).all())


def place(rng, groups, frames, centre, extent):
    """Give every group an anchor, away from the borders and from the others over all time; False if there is no room.

    Distances are kept between the bounding spheres of whole lives, because an absent lesion is still looked for where
    it was last seen.
    """
    taken = []
    by_size = sorted(groups, key=lambda group: -max(r for track in group for _, r in track.spheres()))
    for group in by_size:
        spheres = [sphere for track in group for sphere in track.spheres()]
        for _ in range(150):
            anchor = centre + rng.uniform(-0.5, 0.5, size=3) * extent
            own = [(anchor + offset, radius) for offset, radius in spheres]
            apart = all(np.linalg.norm(p - q) >= r + t + APART_MM for p, r in own for q, t in taken)
            if apart and all(fits(frame, p, r) for p, r in own for frame in frames):
                break
        else:
            return False
        taken += own
        for track in group:
            track.anchor = anchor
    return True


def draw_masks(frame, tracks, e):
    """Tissue and truth of one session, from the steps at position `e`."""
    tissue, truth = np.zeros(frame.shape, np.int8), np.zeros(frame.shape, np.int16)
    spacing = diameters.spacing_of(frame.affine)
    to_index = np.linalg.inv(frame.affine)
    to_reference = np.linalg.inv(frame.to_session)
    drawn = []
    for track in tracks:
        step = track.steps[e]
        for body in [body for piece in (step.pieces if step else []) for body in piece]:
            offset, radius = body.sphere
            index = apply(to_index, apply(frame.to_session, track.anchor + offset))
            reach = (radius + track.edema_mm + 1) / spacing
            low = np.maximum(np.floor(index - reach), 0).astype(int)
            high = np.minimum(np.ceil(index + reach) + 1, frame.shape).astype(int)
            block = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            voxels = np.moveaxis(np.indices(high - low), 0, -1) + low
            points = apply(to_reference, apply(frame.affine, voxels)) - track.anchor
            level = body.level(points)
            drawn.append((track, block, level, radius))
            if track.edema_mm:
                tissue[block][(level - 1) * radius <= track.edema_mm] = 2
    for track, block, level, _ in drawn:
        tissue[block][level <= 1] = 1
        truth[block][level <= 1] = track.number
    for track, block, level, radius in drawn:
        if track.ring and radius >= 4.5:
            tissue[block][level <= 0.5] = 3
    return tissue, truth


# Measuring what was drawn


def measure_cell(session, number, n_pieces, exact):
    """Cell of a present lesion; `exact`: its fitness as a target matters."""
    where = session.truth == number
    if not where.any():
        raise UnclearError("a lesion fell between the voxels")
    block = ndimage.find_objects(where.astype(np.int8))[0]
    where = where[block]
    voxel = abs(np.linalg.det(session.affine[:3, :3]))
    labelled, found = ndimage.label(where, EVERYWHERE)
    if found != n_pieces:
        raise UnclearError("other pieces than scripted")
    fragments, measured = [], []
    for piece in range(1, found + 1):
        mask = labelled == piece
        volume = float(mask.sum() * voxel)
        size = diameters.measure(mask, session.affine)
        if volume < 12 or mask.sum() < 4 or not size.clear:
            raise UnclearError("near a limit of tracking or measuring")
        fragments.append((size.ld, volume))
        measured.append(size)
    main = max(range(found), key=lambda piece: (fragments[piece][1], fragments[piece][0]))  # of equals, the longer one
    ld, perp = measured[main].ld, measured[main].perp
    if exact and ld > 9.99 and abs(perp - 5) < 0.8:
        raise UnclearError("perpendicular at its limit")
    axis = diameters.axial_axis(session.affine)
    enhancing = int((session.tissue[block][where] == 1).sum())
    return response.Cell(
        "present",
        ld,
        perp,
        int(where.any(axis=tuple(a for a in range(3) if a != axis)).sum()),
        tuple(where.shape),
        float(where.sum() * voxel),
        float(enhancing * voxel),
        enhancing,
        tuple(fragments) if found > 1 else (),
    )


# The clinic


def draw_clinic(rng, calendar, has_targets):
    """Doses, clinical status and whether it is due to the tumour, one each per session.

    An increase of steroids is given only where the session after it settles the matter in one way, and a worsening
    only at evaluable sessions.
    """
    n, first = len(calendar.days), calendar.used[calendar.baseline]
    doses, status, related = [None] * n, [None] * n, [None] * n
    with_doses, with_status = rng.random() < 0.3, rng.random() < 0.3
    start = float(rng.choice([0.0, 0.5, 2.0, 4.0, 8.0]))
    raised = None
    for s in range(n):
        after = s > first and calendar.evaluable[s]
        if with_status:
            status[s] = str(rng.choice(["stable", "improved"], p=[0.7, 0.3])) if rng.random() < 0.9 else None
            if after and rng.random() < (0.3 if raised else 0.1):
                status[s], related[s] = "worse", bool(rng.random() < 0.75)
        if not with_doses:
            continue
        doses[s] = start
        if not after:
            continue
        worse = status[s] == "worse" and related[s]
        settled = s + 1 == n or calendar.evaluable[s + 1]
        choice = rng.choice(["same", "half", "none", "more", "unknown"], p=[0.42, 0.18, 0.12, 0.22, 0.06])
        if raised and (worse or rng.random() < 0.4):
            doses[s] = raised  # still as high; if the patient is worse, nothing else may speak for the response
        elif choice == "half":
            doses[s] = start / 2
        elif choice == "none":
            doses[s] = 0.0
        elif choice == "more" and has_targets and settled:
            doses[s] = 2 * start + 2
        elif choice == "unknown":
            doses[s] = None
        increased = doses[s] is not None and doses[s] > 1.1 * start
        if increased and not (has_targets and settled):
            doses[s] = start
            increased = False
        raised = doses[s] if increased else None
    return doses, status, related


# Putting it together


def draw_patient(seed):
    """The patient of a seed; the same seed draws the same patient."""
    for attempt in range(300):
        rng = np.random.default_rng([seed, attempt])
        try:
            return _draw(rng, seed)
        except UnclearError:
            continue
    raise AssertionError(f"no clear patient for seed {seed}")


def _draw(rng, seed):
    kind = str(rng.choice(["none", "small", "usual", "many"], p=[0.04, 0.16, 0.64, 0.16]))
    calendar = draw_calendar(rng, seed, slow=kind in ("none", "small"))
    groups = draw_script(rng, calendar, kind)
    tracks = sorted((track for group in groups for track in group), key=lambda track: track.birth)
    for number, track in enumerate(tracks, start=1):
        track.number = number
    frames = draw_place(rng, groups, len(calendar.days))
    sessions, used = [], calendar.used
    for s, frame in enumerate(frames):
        # At a session that is not evaluable the head is as it was before, or as it will be if nothing is known yet.
        e = max(sum(u <= s for u in used) - 1, 0)
        tissue, truth = draw_masks(frame, tracks, e)
        name, day, evaluable = f"ses-{s + 1}", calendar.days[s], calendar.evaluable[s]
        sessions.append(Session(name, day, evaluable, None, None, None, frame.affine, tissue, truth, frame.to_session))
    cells = {track.number: draw_cells(track, sessions, calendar) for track in tracks}
    spacings = [
        float(diameters.spacing_of(session.affine)[diameters.axial_axis(session.affine)]) for session in sessions
    ]
    first = used[calendar.baseline]
    at_baseline = {number: own[first] for number, own in cells.items()}
    check_ranks(at_baseline, spacings[first])
    targets = response.choose_targets(at_baseline, spacings[first])
    for session, dose, status, related in zip(sessions, *draw_clinic(rng, calendar, bool(targets)), strict=True):
        session.dexamethasone_equiv_mg_per_day = dose
        session.clinical_status, session.clinical_tumour_related = status, related
    visits = [
        response.Visit(
            day=session.day,
            evaluable=session.evaluable,
            session_id=session.session_id,
            dose=session.dexamethasone_equiv_mg_per_day,
            clinical=session.clinical_status,
            tumour_related=session.clinical_tumour_related,
            slice_spacing=spacing,
        )
        for session, spacing in zip(sessions, spacings, strict=True)
    ]
    case = response.Case(
        visits,
        cells,
        calendar.participant["treatment_start_day"],
        calendar.participant["immunotherapy_start_day"],
        calendar.participant["treatment_type"],
    )
    outcome = response.assess(case)
    rows = [row for track in tracks for row in lesion_rows(track, case, used)]
    order = {session.session_id: s for s, session in enumerate(sessions)}
    rows.sort(key=lambda row: (order[row["session_id"]], row["lesion"]))
    return Patient(calendar.participant, sessions, rows, outcome.rows, outcome.summary, case)


def draw_place(rng, groups, n):
    """Frames of all sessions in a box just large enough for all lesions, which get their anchors."""
    extent = np.array([64.0, 64.0, 56.0])
    while extent[0] <= 136:
        for _ in range(2):
            frames, centre = draw_frames(rng, n, extent)
            if place(rng, groups, frames, centre, extent):
                return frames
        extent = extent + 8
    raise UnclearError("no room")


def draw_cells(track, sessions, calendar):
    """Cells of one lesion at all sessions, measured where it is present."""
    cells, born = [], False
    for s, session in enumerate(sessions):
        if not session.evaluable:
            cells.append(response.Cell("not_evaluable") if born else None)
            continue
        e = calendar.used.index(s)
        step = track.steps[e]
        born = born or step is not None
        if step is None:
            cells.append(None)
        elif step.status == "present":
            cells.append(measure_cell(session, track.number, len(step.pieces), e == calendar.baseline))
        else:
            cells.append(response.Cell("absent"))
    return cells


def check_ranks(cells, slice_spacing):
    """The fifth and the sixth target must not be told apart by their perpendiculars alone."""
    fit = sorted((cell.ld for cell in cells.values() if response.measurable(cell, slice_spacing)), reverse=True)
    if len(fit) > 5 and fit[4] - fit[5] < 1e-3:
        raise UnclearError("two lesions of one size for the last place")


def lesion_rows(track, case, used):
    """The truth about one lesion from its birth on, as a later reader sees it (final view)."""
    view, last = response.Patient(case), len(case.visits) - 1
    rows = []
    for s, cell in enumerate(case.lesions[track.number]):
        if cell is None:
            continue
        seen = cell.status != "not_evaluable"
        step = track.steps[used.index(s)] if seen else Step("not_evaluable", "not_evaluable")
        value = view.value(track.number, s, last, "ld")
        source = {"absent": "absent", "not_evaluable": "ne"}.get(cell.status, "measured")
        if cell.status == "present" and len(cell.fragments) > 1:
            source = "components"
        if cell.status == "absent" and value is None:
            source = "probable_missed_detection"
        rows.append(
            {
                "session_id": case.visits[s].session_id,
                "lesion": track.number,
                "status": cell.status,
                "event": step.event,
                "fused_with": step.fused_with and step.fused_with.number,
                "n_components": (max(1, len(cell.fragments)) if cell.status == "present" else 0) if seen else None,
                "ld_mm": cell.ld if seen else None,
                "vol_wl_mm3": cell.volume if seen else None,
                "ld_rano_mm": value,
                "ld_source": source,
            }
        )
    return rows
