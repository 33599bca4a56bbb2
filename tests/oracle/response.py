"""RANO-BM response of a whole patient, read off sections D and I of the specification as plainly as possible.

Nothing is carried from session to session: every cell is computed anew from the raw data up to the session `known`.
A prospective value has `known` = the session itself, a final value has `known` = the last session.

Choices where the specification leaves room (the first two are switches of `Reading`):

- +5 mm of a merged group: the members are all lesions of the fused mass, also non-targets and new ones.
- A group that was fused at the nadir and has parted since is compared as one, like a merged or split lesion.
- A new lesion counts at every session at which it is seen, as "new lesions: yes" stays on the form: else the session
  that makes an equivocal one certain, and all after it, would show no progression. Back after it was rejected, a lesion
  is looked at afresh.
- D4 asks for "no new lesion" in a non-target CR, D5 has rows for CR with an equivocal one: only a definite one bars CR.
- A session that is not evaluable is NE, unless the clinical status is worse (D5: PD whatever the images say).
- A lesion merged or absorbed has no own minimum at that session (D4 a); its volume is 0 in the sum of D4 b if a
  non-target holds the fused mass, else the sum of that session is unknown. A sum with n/a does not enter D4 b.
- Of a uPD: "next evaluable session >=28 d later" is the first evaluable session that is that late, counted from the
  first uPD that waits; additional new lesions are definite ones that were not there then. What is cleared no longer
  counts as new, but while it is seen nothing is complete: it is treated like an equivocal lesion.
- `steroid_hold` ends at the first later session with a known dose that is no increase, or with worsening, evaluable or
  not. An increase also suspends NON_CR_NON_PD.
- Dose: "decreased" is below baseline / 1.1 (the mirror of "increased"); no baseline dose: "unknown" above 0.75 mg.
- "worse" counts unless it is said not to be tumour-related.
- A track absent at baseline that was most likely missed there (probable miss) is a non-target and not `recurrent`.
- Volumes: with a nadir of 0, PD needs one target of >=0.1 mL. `response_volumetric_prospective` is the
  prospective imaging response; the best volumetric response uses the final ones.
- Like with like (I2): `Case.comparisons` holds what a lesion measures at two sessions where the pieces compared differ.
  The nadir is the complete sum to which this session's sum stands highest; a lesion's own minimum likewise.
- I4: the CR is that of the whole image (before new lesions are weighed under immunotherapy). A target that comes back
  after an unconfirmed one is PD from 5 mm on, as before, else PR; where it is PR (NON_CR_NON_PD without targets), so is
  the CR once that is known. After a confirmed one it stays PD while any lesion is seen.
- Surrogate (a) of non-targets beside targets at SD or PR waits for (b) (I11); beside targets at CR, NE or none it does
  not. For the response by volumes, the targets' response by volumes is asked.
- ND (I8): no lesion at baseline and none since, but new ones that proved to be none. It is not suspended by steroids,
  and the best response if there is nothing but NE beside it.
- What an earlier scan or the mask at baseline shows is known: a remnant that does not enhance at baseline, or a lesion
  that could not be evaluated there, is a non-target and never new (new: absent on all prior scans). Remnants that have
  not enhanced since baseline give no response of non-targets.
- `*_continued` (I12): SD after a PR that was confirmed by then, with no PD since, from the prospective responses.
- Treated before baseline (I3): never a target (whether it has progressed since is a reader's to say).
- Velocity (I7): lesions that are certain in the end count from the session at which they appeared; a distant failure
  is a session at which one appears.
- Columns without a suffix (target_response, nontarget_response, new_lesion, sums) are prospective; pd_reason is that of
  the final overall response.
- `confirmed` of a session: from the first CR or PR to the one that confirms it; n/a unless its final response is CR or
  PR. An unconfirmed CR or PR counts as SD; the 42 d apply to NON_CR_NON_PD too. `best_response_day` is the first day
  of the confirmed pair, or the first that counts as SD; `best_response_confirmed` is n/a unless CR or PR.
- `progression_day` is n/a without progression; days in the summary count from t0. `n_new_total` counts lesions that
  appeared after baseline, recurrent ones too, and were not rejected.
- The border and override rules of target selection are left out: no such input.
"""

from dataclasses import dataclass, field

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Reading:
    """Which of two readings is taken where the specification can be read two ways."""

    members: str = "all"  # or "targets": only targets count as members of a merged group
    parted_as_one: bool = True  # a group fused at the nadir and parted since is compared as one


@dataclass(frozen=True)
class Visit:
    """One session; days on any one axis, doses in mg of dexamethasone per day, slice spacing in mm."""

    day: float
    evaluable: bool = True
    session_id: str = ""
    dose: float | None = None
    clinical: str | None = None
    tumour_related: bool | None = None
    slice_spacing: float = 1.0


@dataclass(frozen=True)
class Cell:
    """One lesion at one session: mm, mm3, voxels; `fragments` holds (diameter, volume) of each piece if several."""

    status: str
    ld: float = 0.0
    perp: float = 0.0
    n_slices: int = 0
    box: tuple[int, int, int] = (0, 0, 0)
    volume: float = 0.0
    et_volume: float = 0.0
    et_voxels: int = 0
    fragments: tuple[tuple[float, float], ...] = ()
    merged_into: int | None = None


@dataclass(frozen=True)
class Pair:
    """A lesion at two sessions, measured alike: diameters in mm, volumes in mm3."""

    ld_now: float
    ld_then: float
    volume_now: float
    volume_then: float


@dataclass(frozen=True)
class Case:
    """All that section D needs of a patient; a cell is None before the lesion is born.

    `comparisons` has keys (session now, session then, lesion); `irradiated` the day of each lesion treated.
    """

    visits: list[Visit]
    lesions: dict[int, list[Cell | None]]
    treatment_start: float | None = None
    immunotherapy_start: float | None = None
    treatment_type: str = ""
    comparisons: dict[tuple[int, int, int], Pair] = field(default_factory=dict)
    irradiated: dict[int, float] = field(default_factory=dict)


@dataclass
class Outcome:
    """One dict per session, one for the patient, and what both rest on."""

    rows: list[dict]
    summary: dict
    roles: dict[int, str] = field(default_factory=dict)


def at_least(a, b):
    """a >= b within the tolerance of section 0."""
    return a >= b - TOLERANCE * max(1.0, abs(b))


def at_most(a, b):
    return at_least(-a, -b)


# D1


def find_baseline(visits, start):
    """Position of the baseline session and its flag."""
    usable = [n for n, visit in enumerate(visits) if visit.evaluable]
    if start is None:
        return usable[0], "assumed"
    before = [n for n in usable if at_most(visits[n].day, start)]
    inside = [n for n in before if at_least(visits[n].day, start - 28)]
    if inside:
        return inside[-1], "in_window"
    if before:
        return before[-1], "out_of_window"
    return usable[0], "post_treatment"


def visible(cell):
    """Whether a lesion is present for RANO: there, and with enhancing tissue above the continuation threshold."""
    return cell is not None and cell.status == "present" and cell.et_volume > 2 and cell.et_voxels >= 2


def measurable(cell, slice_spacing):
    return (
        visible(cell)
        and at_least(cell.et_volume, 0.1 * cell.volume)  # else it may be a cyst (I5)
        and at_least(cell.ld, 10)
        and at_least(cell.perp, 5)
        and cell.n_slices >= 2
        and (at_most(slice_spacing, 5) or at_least(cell.ld, 2 * slice_spacing))
    )


def choose_targets(cells, slice_spacing, treated=()):
    """Up to five lesions not treated before, largest first; `cells` are those of the baseline session."""
    fit = [lesion for lesion, cell in cells.items() if measurable(cell, slice_spacing) and lesion not in treated]

    def rank(lesion):
        cell = cells[lesion]
        # Equal diameters differ in the last bits when computed twice, so they are compared rounded.
        return -round(cell.ld, 6), -round(cell.perp, 6), -round(cell.volume, 6), lesion

    return sorted(fit, key=rank)[:5]


# D5


def imaging_table(target, nontarget, new, immunotherapy=False, never=False):
    """First table of D5; `never`: no lesion was seen at baseline or since."""
    if target == "PD" or nontarget == "PD":
        return "PD"
    if new == "definite":
        return "uPD" if immunotherapy else "PD"
    if target == "CR" and nontarget in ("CR", "NA"):
        return "CR" if new == "none" else "PR"
    if target == "NA" and nontarget == "CR":
        return "CR" if new == "none" else "NON_CR_NON_PD"
    if target in ("CR", "PR"):
        return "PR"
    if target == "SD":
        return "SD"
    if target == "NA" and nontarget == "NON_CR_NON_PD":
        return "NON_CR_NON_PD"
    if target == "NA" and nontarget == "NA" and never:
        return "ND"
    return "NE"


def overall_table(imaging, steroids, worse):
    """Second table of D5; a suspended response is "hold"."""
    if imaging == "PD" or worse:
        return "PD"
    if imaging in ("CR", "PR", "SD", "NON_CR_NON_PD") and steroids == "increased":
        return "hold"
    if imaging == "CR" and steroids in ("stable", "decreased"):
        return "PR"
    return imaging


# D6


def sustained(responses, first, wanted):
    """Whether the response at position `first` is repeated at least 28 days later with CR and PR alone between."""
    for later in range(first + 1, len(responses)):
        day, response = responses[later]
        if response in wanted and at_least(day - responses[first][0], 28):
            return True
        if response not in ("CR", "PR", "NE", "uPD"):
            return False
    return False


def is_confirmed(responses, n):
    """Whether the CR or PR at position n lies between a response and the one that repeats it 28 days later."""
    wanted = ("CR",) if responses[n][1] == "CR" else ("CR", "PR")
    return any(
        responses[first][1] in wanted
        and responses[later][1] in wanted
        and at_least(responses[later][0] - responses[first][0], 28)
        and all(response in ("CR", "PR", "NE", "uPD") for _, response in responses[first : later + 1])
        for first in range(n + 1)
        for later in range(n, len(responses))
    )


def best_response(responses):
    """Best response, its day and whether it is confirmed, from (day since t0, final response) in time order."""
    until = next((n + 1 for n, (_, response) in enumerate(responses) if response == "PD"), len(responses))
    responses = responses[:until]
    for best, wanted in (("CR", ("CR",)), ("PR", ("CR", "PR"))):
        for n, (day, response) in enumerate(responses):
            if response in wanted and sustained(responses, n, wanted):
                return best, day, True
    for day, response in responses:
        if response in ("CR", "PR", "SD", "NON_CR_NON_PD") and at_least(day, 42):
            return ("NON_CR_NON_PD" if response == "NON_CR_NON_PD" else "SD"), day, None
    for last in ("PD", "ND"):
        for day, response in responses:
            if response == last:
                return last, day, None
    return "NE", None, None


def continued(responses):
    """Responses (day, response) where SD after a confirmed PR is PR, until PD (I12)."""
    out, since = [], 0
    for n, (_, response) in enumerate(responses):
        before = responses[since:n]
        kept = any(r in ("CR", "PR") and sustained(before, i, ("CR", "PR")) for i, (_, r) in enumerate(before))
        out.append("PR" if response == "SD" and kept else response)
        if response == "PD":
            since = n + 1
    return out


class Patient:
    """The questions of section D, each answered from the raw data."""

    def __init__(self, case, reading=None):
        self.case, self.reading = case, reading or Reading()
        self.visits, self.lesions = case.visits, case.lesions
        self.baseline, self.baseline_flag = find_baseline(self.visits, case.treatment_start)
        at_baseline = {lesion: cells[self.baseline] for lesion, cells in self.lesions.items()}
        first = self.visits[self.baseline]
        treated = {n for n, day in case.irradiated.items() if not at_least(day, first.day)}
        self.targets = choose_targets(at_baseline, first.slice_spacing, treated)
        self.nontargets = [
            lesion
            for lesion, cell in at_baseline.items()
            if lesion not in self.targets
            and cell is not None
            and (cell.status != "absent" or self.missed_at_baseline(lesion))
        ]
        # First appearance after baseline of every lesion that was not there at baseline.
        self.appeared = {}
        self.born_later = []
        for lesion, cells in self.lesions.items():
            if lesion in self.targets or lesion in self.nontargets:
                continue
            seen = [n for n, cell in enumerate(cells) if visible(cell)]
            after = [n for n in seen if n > self.baseline]
            if after:
                self.appeared[lesion] = after[0]
            if seen and seen[0] > self.baseline:
                self.born_later.append(lesion)
        start = case.treatment_start
        self.t0 = self.visits[self.baseline].day if start is None else start

    def missed_at_baseline(self, lesion):
        cell = self.lesions[lesion][self.baseline]
        return cell is not None and self.probable_missed_detection(lesion, self.baseline, len(self.visits) - 1)

    def roles(self):
        roles = dict.fromkeys(self.lesions, "prebaseline")
        roles |= dict.fromkeys(self.targets, "target") | dict.fromkeys(self.nontargets, "nontarget")
        return roles | {lesion: "new" if lesion in self.born_later else "recurrent" for lesion in self.appeared}

    def seen_between(self, lesion, low, high):
        """Positions low..high at which the lesion was evaluable, born or not."""
        cells = self.lesions[lesion]
        return [
            n
            for n in range(max(low, 0), min(high, len(cells) - 1) + 1)
            if self.visits[n].evaluable and (cells[n] is None or cells[n].status != "not_evaluable")
        ]

    # C and D2

    def probable_missed_detection(self, lesion, s, known):
        """Absent at s alone, and back by `known` with at least half of its last diameter."""
        cells = self.lesions[lesion]
        before, after = self.seen_between(lesion, 0, s - 1), self.seen_between(lesion, s + 1, known)
        if cells[s].status != "absent" or not before or not after:
            return False
        last, back = cells[before[-1]], cells[after[0]]
        if last is None or last.status != "present" or back.status != "present":
            return False
        return at_least(back.ld, 0.5 * last.ld)

    def owner(self, lesion, s):
        while self.lesions[lesion][s].status == "merged":
            lesion = self.lesions[lesion][s].merged_into
        return lesion

    def holder(self, lesion, s):
        """The lesion to which the size of the (perhaps fused) mass is booked: its owner, but a target before others."""
        owner = self.owner(lesion, s)
        group = [
            other
            for other, cells in self.lesions.items()
            if cells[s] is not None and cells[s].status in ("present", "merged") and self.owner(other, s) == owner
        ]
        if owner in self.targets:
            return owner
        return next((target for target in self.targets if target in group), owner)

    def value(self, lesion, s, known, kind):
        """Diameter (`kind` "ld", mm) or volume ("volume", mm3) that counts for a lesion at s; None for n/a."""
        cell = self.lesions[lesion][s]
        if cell is None:
            return 0.0
        if cell.status == "not_evaluable" or not self.visits[s].evaluable:
            return None
        if cell.status == "absent":
            return None if self.probable_missed_detection(lesion, s, known) else 0.0
        if self.holder(lesion, s) != lesion:
            return 0.0
        cell = self.lesions[self.owner(lesion, s)][s]
        if not visible(cell):
            return 0.0
        if kind == "volume":
            return cell.volume
        if len(cell.fragments) > 1:
            return sum(ld for ld, volume in cell.fragments if at_least(volume, 10))
        return cell.ld

    # D3 and D7

    def sum_at(self, s, known, kind):
        """Sum over the targets, or None if one of them is n/a or there are none."""
        values = [self.value(lesion, s, known, kind) for lesion in self.targets]
        return None if not values or None in values else sum(values)

    def pair(self, lesion, now, then, known, kind):
        """Value of a lesion at both sessions, measured alike; None for n/a."""
        values = self.value(lesion, now, known, kind), self.value(lesion, then, known, kind)
        row = self.case.comparisons.get((now, then, lesion))
        if row is None or None in values:
            return values
        return (row.ld_now, row.ld_then) if kind == "ld" else (row.volume_now, row.volume_then)

    def sums(self, t, then, known, kind):
        """Sum of what is known now, and the full sum then, like with like."""
        pairs = [self.pair(lesion, t, then, known, kind) for lesion in self.targets]
        return sum(now for now, _ in pairs if now is not None), sum(before for _, before in pairs)

    def lowest(self, t, known, kind):
        """Sums now and then, and the position of the nadir: where now stands highest to then, the latest of equals."""
        best = None
        for s in range(self.baseline, t):
            if self.sum_at(s, known, kind) is None:
                continue
            now, then = self.sums(t, s, known, kind)
            if best is None or not _lower(best[:2], (now, then)):
                best = now, then, s
        return best

    def growths(self, t, nadir, known, kind):
        """Change since the nadir of every target, or of the group with which it is or was fused."""
        for target in self.targets:
            group = {target}
            while True:
                more = set(group)
                for s in (t, nadir) if self.reading.parted_as_one else (t,):
                    for lesion, cells in self.lesions.items():
                        if cells[s] is not None and cells[s].status == "merged":
                            pair = {lesion, cells[s].merged_into}
                            more |= pair if pair & group else set()
                if more == group:
                    break
                group = more
            if self.reading.members == "targets":
                group &= set(self.targets)
            pairs = [self.pair(lesion, t, nadir, known, kind) for lesion in group]
            if not any(None in pair for pair in pairs):
                yield sum(now for now, _ in pairs) - sum(then for _, then in pairs)

    def target_response(self, t, known, kind="ld"):
        if not self.targets:
            return "NA"
        if not self.visits[t].evaluable:
            return "NE"
        shrink, grow, step = (0.70, 1.20, 5.0) if kind == "ld" else (0.35, 1.728, 100.0)
        values = [self.value(lesion, t, known, kind) for lesion in self.targets]
        known_values = [value for value in values if value is not None]
        low = self.lowest(t, known, kind)
        none_left = low is not None and at_most(low[1], 0)
        if low is None:
            progressed = False
        elif none_left:
            # Asked only where it decides: the answer of one session rests on those before.
            back = any(value > 0 for value in known_values) and self.had_confirmed_cr(t, known, kind)
            progressed = back or any(at_least(value, step) for value in known_values)
        else:
            progressed = at_least(low[0], grow * low[1]) and any(
                at_least(growth, step) for growth in self.growths(t, low[2], known, kind)
            )
        if progressed:
            return "PD"
        # Without the size of all targets at baseline there is nothing to compare with.
        if None in values or self.sum_at(self.baseline, known, kind) is None:
            return "NE"
        cells = [self.lesions[lesion][t] for lesion in self.targets]
        if all(cell.status != "merged" and not visible(cell) for cell in cells):
            return "CR"
        now, first = self.sums(t, self.baseline, known, kind)
        if none_left or at_most(now, shrink * first):
            return "PR"
        return "SD"

    def had_confirmed_cr(self, t, known, kind):
        """Whether before t there was a CR (target, other and new lesions together) that lasted 28 days."""
        responses = []
        for s in range(self.baseline + 1, t):
            answer = "NE"
            if self.visits[s].evaluable:
                target, nontarget = self.target_response(s, known, kind), self.nontarget_response(s, known, kind)
                answer = imaging_table(target, nontarget, self.new_lesion(s, known))
            responses.append((self.visits[s].day, answer))
        return any(answer == "CR" and sustained(responses, n, ("CR",)) for n, (_, answer) in enumerate(responses))

    # D4

    def nontarget_response(self, t, known, kind="ld"):
        if not any(self.was_there(lesion, t, known) for lesion in self.nontargets):
            return "NA"
        if not self.visits[t].evaluable:
            return "NE"
        cells = [self.lesions[lesion][t] for lesion in self.nontargets]
        if any(visible(cell) for cell in cells) and self.had_confirmed_cr(t, known, kind):
            return "PD"
        if self.burden_grew(t, known):
            return "PD"
        if self.one_grew(t, known) and self.target_response(t, known, kind) not in ("SD", "PR"):
            return "PD"
        if any(visible(cell) or cell.status == "merged" for cell in cells):
            return "NON_CR_NON_PD"
        if any(self.value(lesion, t, known, "ld") is None for lesion in self.nontargets):
            return "NE"
        return "NON_CR_NON_PD" if self.new_lesion(t, known) == "definite" else "CR"

    def was_there(self, lesion, t, known):
        """Whether there was disease to respond at baseline or since."""
        cell = self.lesions[lesion][self.baseline]
        if cell.status == "absent":  # that it was only missed is known when it is back
            return self.probable_missed_detection(lesion, self.baseline, known)
        since = self.lesions[lesion][self.baseline : t + 1]
        return cell.status != "present" or any(visible(c) or c.status == "merged" for c in since)

    def one_grew(self, t, known):
        """Rule (a): one of them grew from its own minimum."""
        for lesion in self.nontargets:
            best = None
            for s in range(self.baseline, t):
                if None in (self.own_diameter(lesion, t, known), self.own_diameter(lesion, s, known)):
                    continue
                pair = self.pair(lesion, t, s, known, "ld")
                if best is None or not _lower(best, pair):
                    best = pair
            if best is None:
                continue
            now, low = best
            if at_least(now, 10) and at_least(now - low, 5) and at_least(now, 1.2 * low):
                return True
        return False

    def burden_grew(self, t, known):
        """Rule (b): the sum of their volumes grew from its minimum."""
        best = None
        for s in range(self.baseline, t):
            if None in (self.nontarget_volume(t, known), self.nontarget_volume(s, known)):
                continue
            pairs = [self.pair(lesion, t, s, known, "volume") for lesion in self.nontargets]
            pair = sum(now for now, _ in pairs), sum(then for _, then in pairs)
            if best is None or not _lower(best, pair):
                best = pair
        return best is not None and at_least(best[0], 1.728 * best[1]) and at_least(best[0] - best[1], 1000)

    def review(self, t, known):
        """Whether a reader should look: (a) holds alone, beside targets at SD or PR."""
        return (
            self.visits[t].evaluable
            and self.one_grew(t, known)
            and self.nontarget_response(t, known) == "NON_CR_NON_PD"
        )

    def held_elsewhere(self, lesion, s):
        cell = self.lesions[lesion][s]
        return cell is not None and cell.status in ("present", "merged") and self.holder(lesion, s) != lesion

    def own_diameter(self, lesion, s, known):
        """Diameter of a non-target, None where it cannot be told from a fused mass."""
        return None if self.held_elsewhere(lesion, s) else self.value(lesion, s, known, "ld")

    def nontarget_volume(self, s, known):
        """Sum of the non-target volumes, mm3, None if part of it is unknown."""
        total = 0.0
        for lesion in self.nontargets:
            if self.held_elsewhere(lesion, s) and self.holder(lesion, s) not in self.nontargets:
                return None
            value = self.value(lesion, s, known, "volume")
            if value is None:
                return None
            total += value
        return total

    def is_definite(self, lesion, s):
        cell = self.lesions[lesion][s]
        before = [n for n in range(s) if self.visits[n].evaluable]
        previous = self.visits[before[-1]].slice_spacing
        return (
            visible(cell)
            and at_least(cell.ld, 5)
            and min(cell.box) >= 2
            and cell.n_slices >= 2
            and (previous < 2 * self.visits[s].slice_spacing or at_least(cell.ld, 2 * previous))
        )

    def new_status(self, lesion, t, known):
        """What is known by `known` of a lesion that appeared after baseline by t: definite ... rejected, or None."""
        return self.looked_at_afresh(lesion, t, known)[0]

    def looked_at_afresh(self, lesion, t, known):
        """Its status, and the session at which it appeared: rejected and back, it appears anew."""
        status, appeared, first = None, None, self.appeared[lesion]
        while first is not None and first <= t:
            appeared = first
            status, since = self.status_from(lesion, first, known)
            later = (s for s in range(since + 1, known + 1) if visible(self.lesions[lesion][s]))
            first = next(later, None) if status == "rejected" else None
        return status, appeared

    def status_from(self, lesion, first, known):
        """The status of a lesion seen at `first`, and the session that decided it."""
        if self.is_definite(lesion, first):
            return "definite", first
        seen_again = 0
        told = [s for s in self.seen_between(lesion, first + 1, known) if self.lesions[lesion][s].status != "merged"]
        for n, s in enumerate(told):
            present = visible(self.lesions[lesion][s])
            if n == 0 and not present:
                return "rejected", s
            seen_again += present
            if self.is_definite(lesion, s) or seen_again == 2:
                return "confirmed", s
        return "equivocal", first

    def new_at(self, t, known):
        """New lesions seen at t: the certain ones, the equivocal ones."""
        seen = [lesion for lesion, first in self.appeared.items() if first <= t and visible(self.lesions[lesion][t])]
        status = {lesion: self.new_status(lesion, t, known) for lesion in seen}
        certain = {lesion for lesion in seen if status[lesion] in ("definite", "confirmed")}
        return certain, {lesion for lesion in seen if status[lesion] == "equivocal"}

    def new_lesion(self, t, known):
        certain, equivocal = self.new_at(t, known)
        return "definite" if certain else "equivocal" if equivocal else "none"

    def under_immunotherapy(self, t):
        start = self.case.immunotherapy_start
        if start is None and "immunotherapy" in (self.case.treatment_type or "").split(";"):
            start = self.case.treatment_start
        return start is not None and at_least(self.visits[t].day, start)

    # D5

    def imaging(self, t, known, kind="ld"):
        """Imaging response of session t: every session up to `known` is read in turn, for one judges another."""
        answers, cleared, borne_out, waiting = {}, set(), set(), []

        def read(s):
            certain, equivocal = self.new_at(s, known)
            counted = certain - cleared
            new = "definite" if counted else "equivocal" if certain or equivocal else "none"
            immune = self.under_immunotherapy(s) and not counted & borne_out
            target, nontarget = self.target_response(s, known, kind), self.nontarget_response(s, known, kind)
            return imaging_table(target, nontarget, new, immune, self.never_seen(s, known))

        for s in range(self.baseline + 1, known + 1):
            if not self.visits[s].evaluable:
                answers[s] = "NE"
                continue
            if waiting and at_least(self.visits[s].day - self.visits[waiting[0]].day, 28):
                first = waiting[0]
                before, now = self.new_at(first, known)[0], self.new_at(s, known)[0]
                growth = sum(self.value(lesion, s, known, "ld") or 0.0 for lesion in now)
                growth -= sum(self.value(lesion, first, known, "ld") or 0.0 for lesion in before)
                if (
                    now - before - cleared
                    or at_least(growth, 5)
                    or self.target_response(s, known, kind) == "PD"
                    or self.nontarget_response(s, known, kind) == "PD"
                    or self.is_worse(s)
                ):
                    borne_out |= before | now
                else:
                    cleared |= before
                answers |= {earlier: read(earlier) for earlier in waiting}
                waiting = []
            answers[s] = read(s)
            if answers[s] == "uPD":
                waiting.append(s)
        if answers[t] == "CR" and self.doubted(answers, t, known):
            return "PR" if self.targets else "NON_CR_NON_PD"
        return answers[t]

    def doubted(self, answers, t, known):
        """Whether a lesion comes back by `known` after a CR at t that nothing had confirmed (I4)."""
        waits = ("CR", "NE", "uPD")
        first, after = t, t + 1
        while answers.get(first - 1) in waits:
            first -= 1
        while answers.get(after) in waits:
            after += 1
        if after > known:
            return False
        run = [(self.visits[s].day, answers[s]) for s in range(first, after)]
        confirmed = any(answer == "CR" and sustained(run, n, ("CR",)) for n, (_, answer) in enumerate(run))
        back = any(visible(self.lesions[lesion][after]) for lesion in [*self.targets, *self.nontargets])
        return back and answers[after] in ("PR", "NON_CR_NON_PD") and not confirmed

    def never_seen(self, t, known):
        """Whether no lesion was seen at baseline or since, up to t, but new ones that were rejected by `known`."""
        seen = {
            lesion
            for lesion, cells in self.lesions.items()
            if any(visible(cell) for cell in cells[self.baseline : t + 1])
        }
        return all(n in self.appeared and self.new_status(n, t, known) == "rejected" for n in seen)

    def is_worse(self, t):
        return self.visits[t].clinical == "worse" and self.visits[t].tumour_related is not False

    def steroids(self, t):
        dose, first = self.visits[t].dose, self.visits[self.baseline].dose
        if dose is None:
            return "unknown"
        if at_most(dose, 0.75):
            return "none"
        if first is None:
            return "unknown"
        if not at_most(dose, 1.1 * first):
            return "increased"
        return "stable" if at_least(dose, first / 1.1) else "decreased"

    def overall(self, t, known):
        imaging = self.imaging(t, known)
        answer = overall_table(imaging, self.steroids(t), self.is_worse(t))
        if answer != "hold":
            return answer
        for later in range(t + 1, known + 1):
            if self.is_worse(later):
                return "PD"
            if self.steroids(later) in ("none", "decreased", "stable"):
                return overall_table(imaging, self.steroids(later), self.is_worse(t))
        return "NE"

    def reasons(self, t, known):
        """Why the overall response is PD or uPD, `;`-joined, or None."""
        answer, imaging = self.overall(t, known), self.imaging(t, known)
        if answer not in ("PD", "uPD"):
            return None
        found = {
            "target": self.target_response(t, known) == "PD",
            "nontarget": self.nontarget_response(t, known) == "PD",
            "new": imaging in ("PD", "uPD") and self.new_lesion(t, known) == "definite",
            "clinical": answer == "PD" and (self.is_worse(t) or imaging != "PD"),
        }
        return ";".join(name for name, holds in found.items() if holds)

    def velocity(self, last):
        """New lesions per year since treatment, at the first and at the latest distant failure (I7)."""
        start = self.case.treatment_start
        certain = [self.visits[s].day for s in self.certain_births(last)]
        if start is None or not certain:
            return None, None
        rates = [sum(day <= when for day in certain) / ((when - start) / 365.25) for when in sorted(set(certain))]
        return rates[0], rates[-1]

    def certain_births(self, last):
        """Sessions at which lesions appeared that are certain in the end."""
        looked = [self.looked_at_afresh(lesion, last, last) for lesion in self.appeared]
        return [first for status, first in looked if status in ("definite", "confirmed")]


def _lower(one, other):
    """Whether the first of two pairs (now, then) stands higher, now to then; 0 then is the highest, also to 0 now."""
    ratios = [now / then if not at_most(then, 0) else float("inf") for now, then in (one, other)]
    if ratios[0] == ratios[1] or (at_least(*ratios) and at_most(*ratios)):
        return one[1] < other[1] and not at_least(one[1], other[1])
    return ratios[0] > ratios[1]


COLUMNS = (
    "target_response",
    "target_response_continued",
    "nontarget_response",
    "new_lesion",
    "response_imaging_prospective",
    "response_imaging_final",
    "response_overall_prospective",
    "response_overall_final",
    "response_volumetric_prospective",
    "response_volumetric_final",
    "response_imaging_continued",
    "response_overall_continued",
    "sum_ld_mm",
    "reference_sum_ld_mm",
    "nadir_sum_ld_mm",
    "sum_ld_final_mm",
    "sum_vol_target_ml",
    "sum_vol_target_final_ml",
    "sum_ld_change_baseline_pct",
    "sum_ld_change_nadir_pct",
    "nontarget_review",
    "steroid_status",
    "clinical_status",
    "confirmed",
    "pd_reason",
)


def assess(case, reading=None):
    """RANO-BM of a whole patient: `rows` (one dict per session) and `summary` (one dict)."""
    patient = Patient(case, reading)
    last = len(case.visits) - 1
    follow_ups = range(patient.baseline + 1, last + 1)
    days = [visit.day - patient.t0 for visit in case.visits]
    final = [(days[t], patient.overall(t, last)) for t in follow_ups]
    by_volume = [(days[t], patient.imaging(t, last, "volume")) for t in follow_ups]
    then = {
        "target_response_continued": continued([(days[t], patient.target_response(t, t)) for t in follow_ups]),
        "response_imaging_continued": continued([(days[t], patient.imaging(t, t)) for t in follow_ups]),
        "response_overall_continued": continued([(days[t], patient.overall(t, t)) for t in follow_ups]),
    }
    velocity = patient.velocity(last)
    births = patient.certain_births(last)
    rows = []
    for t, visit in enumerate(case.visits):
        role = "prebaseline" if t < patient.baseline else "baseline" if t == patient.baseline else "followup"
        row = {"session_id": visit.session_id, "session_role": role} | dict.fromkeys(COLUMNS)
        rows.append(row)
        if role != "followup":
            continue
        n = t - patient.baseline - 1
        row["target_response"] = patient.target_response(t, t)
        row["nontarget_response"] = patient.nontarget_response(t, t)
        row["response_imaging_prospective"] = patient.imaging(t, t)
        row["response_imaging_final"] = patient.imaging(t, last)
        row["response_overall_prospective"] = patient.overall(t, t)
        row["response_overall_final"] = final[n][1]
        row["response_volumetric_prospective"] = patient.imaging(t, t, "volume")
        row["response_volumetric_final"] = by_volume[n][1]
        for name, answers in then.items():
            row[name] = answers[n]
        row["steroid_status"] = patient.steroids(t)
        row["clinical_status"] = visit.clinical or "unknown"
        if visit.clinical == "worse" and not patient.is_worse(t):
            row["clinical_status"] = "stable"  # worse for another reason
        if visit.evaluable:
            row["new_lesion"] = patient.new_lesion(t, t)
            row["sum_ld_mm"] = patient.sum_at(t, t, "ld")
            row["sum_ld_final_mm"] = patient.sum_at(t, last, "ld")
            for name, known in (("sum_vol_target_ml", t), ("sum_vol_target_final_ml", last)):
                volume = patient.sum_at(t, known, "volume")
                row[name] = None if volume is None else volume / 1000
            row["nontarget_review"] = patient.review(t, t)
            low = patient.lowest(t, t, "ld")
            row["nadir_sum_ld_mm"] = None if low is None else low[1]
            if low is not None:
                now, row["reference_sum_ld_mm"] = patient.sums(t, patient.baseline, t, "ld")
            if row["sum_ld_mm"] is not None:
                row["sum_ld_change_baseline_pct"] = (
                    100 * (now - row["reference_sum_ld_mm"]) / row["reference_sum_ld_mm"]
                )
                if not at_most(low[1], 0):
                    row["sum_ld_change_nadir_pct"] = 100 * (low[0] - low[1]) / low[1]
        if final[n][1] in ("CR", "PR"):
            row["confirmed"] = is_confirmed(final, n)
        row["pd_reason"] = patient.reasons(t, last)
    best, best_day, best_confirmed = best_response(final)
    pd_day = next((day for day, response in final if response == "PD"), None)
    censored = max(days[t] for t, visit in enumerate(case.visits) if visit.evaluable)
    summary = {
        "baseline_session": case.visits[patient.baseline].session_id,
        "baseline_flag": patient.baseline_flag,
        "targets": list(patient.targets),
        "best_response": best,
        "best_response_day": best_day,
        "best_response_confirmed": best_confirmed,
        "progressed": pd_day is not None,
        "progression_day": pd_day,
        "time_to_progression_days": censored if pd_day is None else pd_day,
        "ttp_event": pd_day is not None,
        "n_new_total": sum(patient.new_status(lesion, last, last) != "rejected" for lesion in patient.appeared),
        "best_response_volumetric": best_response(by_volume)[0],
        "brain_metastasis_velocity_first_per_year": velocity[0],
        "brain_metastasis_velocity_latest_per_year": velocity[1],
        "distant_failure_day": min((days[s] for s in births), default=None),
    }
    return Outcome(rows, summary, patient.roles())
