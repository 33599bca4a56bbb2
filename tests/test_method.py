"""The method text: what ran is in it, what did not is not, and whom it cites exists."""

import itertools
import json
import re

import pandas as pd
import pytest
from conftest import ROOT, shipped_config
from mettrail import provenance, sidecars
from mettrail.errors import InputError
from mettrail.report import method, ran, references
from mettrail.response import outcomes

BIBLIOGRAPHY = ROOT / "resources" / "references.bib"
ABOUT = method.About("0.1.0", "", "", "3f9a")
# What a run leaves that uses a tool or a method, by the words and keys that then stand in its text.
TRACES = {
    "deepbet": {"deepbet", "Fisch2024"},
    "hd-bet": {"HD-BET", "Isensee2019"},
    "greedy": {"greedy", "Yushkevich2016"},
    "ants": {"ANTs", "Avants2008", "Avants2009"},
    "networks": {"Isensee2021", "Paszke2019"},
    "resegmentation": {"Andrearczyk2024", "re-segment"},
    "manual": {"manually"},
    "regions": {"Desikan2006"},
    "template": {"Fonov2009"},
    "candidates": {"Huang2022"},
    "features": {"MIRP 2.5.0", "Zwanenburg2024", "Zwanenburg2020"},
    "debias": {"N4", "Tustison2010", "SimpleITK"},
}
MODEL = {
    "Name": "site-a", "SHA256": "a1" * 32, "Licence": "CC-BY-4.0", "TrainedOn": "200 scans of one hospital",
    "Threshold": 0.6, "CandidateThreshold": None, "EdgeThreshold": None, "Calibration": None, "Sequences": ["FLAIR"],
}  # fmt: skip
MIRP = {"Name": "MIRP", "Version": "2.5.0"}
ALONE, BOTH = {"detection": MODEL}, {"detection": MODEL, "resegmentation": MODEL | {"SHA256": "b2" * 32}}


class Results:
    """The sidecars of a run, written one by one."""

    def __init__(self, folder):
        self.folder, self.files = folder, {name: [] for name in method_inputs()}

    def leave(self, kind, name, **facts):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts))
        self.files[kind].append(path)

    def add_session(
        self, ses, *, brain="nonzero", networks=None, propagated=False, flags=(), fit=None, other=None, fine=False,
        in_cavities=0, operated=False,
    ):  # fmt: skip
        """Leave what a session of patient A leaves; without networks and propagation its masks were given."""
        more = {"other_method": other} if other else {}
        self.leave("brains", f"sub-A_ses-{ses}_brain.json", method=brain, flags=list(flags), fit=fit, **more)
        self.leave(
            "labels", f"sub-A_ses-{ses}_tissue.json",
            Manual=networks is None and not propagated, Networks=networks or {}, Propagated=propagated,
            FullResolution=fine,
            LesionsInCavities=in_cavities, SurgeryBefore=operated,
        )  # fmt: skip

    def read(self):
        return ran.read_ran(**self.files)


def method_inputs():
    return ("brains", "priors", "references", "places", "sequences", "labels", "features")


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path)


def describe(found, settings=None, about=ABOUT, **more):
    shown = {"any_velocity": False, "any_treated": False} | more
    return method.describe_method(found, settings or shipped_config(), about, references=BIBLIOGRAPHY, **shown)


def names_in(described):
    """Which of `TRACES` a text names; all the words of one, or none of them."""
    text = "\n".join([*described.paragraphs, *(tool.name for tool in described.tools)])
    named = set()
    for name, words in TRACES.items():
        there = {word for word in words if word in text}
        assert there in (set(), words), f"{name}: only {there}"
        named |= {name} if there else set()
    return named


BRAINS = {
    ("nonzero", None): set(),
    ("deepbet", "atlas"): {"deepbet", "template", "greedy"},
    ("hd-bet", "atlas"): {"hd-bet", "template", "greedy"},
    ("atlas", "deepbet"): {"deepbet", "template", "greedy"},
}
LESIONS = {
    "manual": (None, False, {"manual"}),
    "detection": (ALONE, False, {"networks"}),
    "parallel": (BOTH, True, {"networks", "resegmentation"}),
    "resegmentation": ({"resegmentation": MODEL}, True, {"networks", "resegmentation"}),
    "propagation": ({}, True, set()),
}


@pytest.mark.parametrize(
    ("brains", "engine", "lesions", "place"),
    list(itertools.product(BRAINS, ("greedy", "ants", None), LESIONS, (True, False))),
)
def test_what_ran_is_named_and_what_did_not_is_not(results, brains, engine, lesions, place):
    networks, propagated, expected = LESIONS[lesions]
    first, other = brains
    results.add_session(
        "1", brain=first, other=other, fit=0.9 if other else None, networks=networks, propagated=propagated
    )
    results.leave("references", "ref.json", engine="none")
    expected = expected | BRAINS[brains] | {"debias"}
    if engine:
        results.leave("priors", "prior.json", engine=engine)
        expected |= {engine}
    results.leave("places", "place.json", engine="greedy", status="ok" if place else "fail")
    if place:
        expected |= {"regions", "template", "greedy"}
        results.leave("features", "features.json", GeneratedBy=[{"Name": "mettrail"}, MIRP])
        expected |= {"features"}
    described = describe(results.read())
    found = names_in(described)
    # HD-BET is a network of nnU-Net's: its package is listed, and its paper is not cited for it.
    text = " ".join(described.paragraphs)
    assert found - {"networks"} == expected - {"networks"}
    assert ("Isensee2021" in text) == ("networks" in expected)
    assert text.count("[@") == len(re.findall(r"\[@\w+(?:; @\w+)*\]", text))


def test_each_reference_is_cited_by_some_run_and_each_key_exists(tmp_path):
    """The text cites no unknown key (`describe` would fail), and nothing lies in the file that no run can cite."""
    cited = set()
    settings = shipped_config()
    for irano, (first, other) in itertools.product((True, False), BRAINS):
        found = Results(tmp_path / f"{irano}-{first}")
        found.add_session("1", brain=first, other=other, fit=0.9, networks={"detection_sensitive": MODEL, **BOTH})
        found.leave("priors", "greedy.json", engine="greedy")
        found.leave("priors", "ants.json", engine="ants")
        found.leave("places", "place.json", engine="greedy", status="ok")
        found.leave("features", "features.json", GeneratedBy=[MIRP])
        changed = settings | {"rano": settings["rano"] | {"irano": irano}}
        described = describe(found.read(), changed, any_velocity=True, any_treated=True)
        cited |= {reference.key for reference in described.references}
        assert ("Okada2015" in references.as_bibtex(described.references)) == irano
    assert cited == set(references.read_references(BIBLIOGRAPHY))


def test_criteria_and_program_are_cited_by_every_run_also_an_empty_one(results):
    described = describe(results.read())
    assert {reference.key for reference in described.references} == {
        *("mettrail", "Moelder2021", "Gorgolewski2016", "Lin2015", "Eisenhauer2009"),
    }
    assert "0 sessions of 0 patients" in described.paragraphs[0]


def test_sessions_with_masks_are_counted_beside_those_with_networks(results):
    for ses, networks in (("1", None), ("2", ALONE), ("3", BOTH), ("4", BOTH), ("5", None), ("6", BOTH)):
        results.add_session(ses, networks=networks)
    text = " ".join(describe(results.read()).paragraphs)
    for words in (
        "6 sessions of 1 patient had lesion labels",
        "Lesions of 2 of 6 sessions were segmented manually",
        "Lesions of 4 of 6 sessions were segmented by convolutional neural networks",
        "In 3 sessions a detection network",
        "In 1 session the detection network alone",
    ):
        assert words in text, words


def test_a_network_for_edema_is_told_from_those_that_find_lesions(results):
    drawn = MODEL | {"Name": "edema", "SHA256": "e" * 64, "Sequences": ["FLAIR"], "Calibration": None}
    results.add_session("1", networks=ALONE)
    results.add_session("2", networks=ALONE | {"edema": drawn})
    text = " ".join(describe(results.read()).paragraphs)
    assert "In 2 sessions the detection network alone was run" in text
    assert "Edema beside these lesions was drawn in 1 session by a network of its own (`edema`)" in text
    assert "which is also given FLAIR; the lesions do not depend on it" in text


def test_a_network_for_cavities_is_told_and_what_it_took_away(results):
    drawn = MODEL | {"Name": "cavity", "SHA256": "c" * 64, "Sequences": [], "Calibration": None}
    results.add_session("1", networks=ALONE | {"cavity": drawn})
    text = " ".join(describe(results.read()).paragraphs)
    assert "Resection cavities were drawn in 1 session by a network of its own (`cavity`)" in text
    assert "This decided about" not in text
    for ses, operated in (("2", False), ("3", True)):
        results.add_session(ses, networks=ALONE | {"cavity": drawn}, in_cavities=2, operated=operated)
    said = "This decided about more than half of a lesion in 2 sessions, 1 of them after surgery."
    assert said in " ".join(describe(results.read()).paragraphs)


def test_second_looks_at_fine_scans_are_counted(results):
    results.add_session("1", networks=ALONE)
    assert "a second time" not in " ".join(describe(results.read()).paragraphs)
    results.add_session("2", networks=ALONE, fine=True)
    text = " ".join(describe(results.read()).paragraphs)
    assert "In 1 session, whose scans are finer than 0.85 mm, detection was run a second time" in text


def test_a_brain_mask_that_was_replaced_is_the_second_methods(results):
    results.add_session("1", brain="deepbet", other="atlas", fit=0.9)
    results.add_session("2", brain="atlas", other="deepbet", fit=0.8, flags=["brain_replaced"])
    text = " ".join(describe(results.read()).paragraphs)
    assert "(Fisch2024)" not in text
    assert re.search(r"template .* in 1 of 2 sessions; deepbet [\d.]+ \[@Fisch2024\] in 1 of 2 sessions\.", text)
    assert "In 1 of 2 sessions the first method's mask had an implausible volume or shape" in text


def test_what_failed_or_was_skipped_did_not_run(results):
    results.add_session("1", networks=ALONE)
    results.add_session("2", brain="hd-bet", networks=BOTH)
    results.leave("priors", "prior.json", engine="ants")
    declared = {"sub": "A", "ses": "2", "stage": "strip", "reason": "error", "detail": "", "log": "", "skipped": False}
    for kind in ("brains", "labels", "priors"):
        results.files[kind][-1].write_bytes(b"mettrail: no result\n" + json.dumps(declared).encode())
    found = results.read()
    assert (found.sessions, found.brains, found.priors, found.fused) == (1, {"nonzero": 1}, {}, {"detection": 1})


def test_a_network_is_named_with_its_hash_licence_and_training(results):
    results.add_session("1", networks=ALONE)
    results.add_session("2", networks=ALONE)
    results.add_session("3", networks={"detection": MODEL | {"Name": "site-b", "SHA256": "c3" * 32}})
    described = describe(results.read())
    assert [(each.name, each.sessions) for each in described.networks] == [("site-a", 2), ("site-b", 1)]
    described.write(ABOUT, licence=None, **{name: results.folder / name for name in ("citation", "bibtex", "readme")})
    page = (results.folder / "citation").read_text()
    for words in ("a1" * 32, "CC-BY-4.0", "200 scans of one hospital", "c3" * 32, "CC0"):
        assert words in page, words
    assert "site-a (SHA-256 a1a1a1a1a1a1, 2 sessions, also given FLAIR)" in " ".join(described.paragraphs)


def test_the_text_says_where_a_network_draws_edges(results):
    results.add_session("1", networks=ALONE)
    assert "edge" not in " ".join(describe(results.read()).paragraphs)
    results.add_session("2", networks={"detection": MODEL | {"SHA256": "c3" * 32, "EdgeThreshold": 0.35}})
    text = " ".join(describe(results.read()).paragraphs)
    assert "site-a` reached 0.6 there was a lesion; its edge was drawn where it fell to 0.35, at most 3 mm" in text


def test_the_text_says_how_lesions_are_confirmed(results):
    calibrated = MODEL | {"SHA256": "c3" * 32, "CandidateThreshold": 0.4, "Calibration": {"intercept": 0, "slope": 1}}
    results.add_session("1", networks=ALONE)
    by_mean = "Lesions with a mean probability below 0.5 were candidates, which count in no response"
    assert by_mean in " ".join(describe(results.read()).paragraphs)
    results.add_session("2", networks={"detection": calibrated})
    text = " ".join(describe(results.read()).paragraphs)
    assert "reached a probability of 0.4 alone was added" in text
    assert "the probability that they are lesions" in text
    assert "was below 0.7. Elsewhere lesions with a mean probability below 0.5 were candidates" in text


def test_sequences_that_were_registered_are_counted(results):
    results.add_session("1", networks=ALONE)
    for name in ("T2w", "FLAIR"):
        results.leave("sequences", f"sub-A_ses-1_res-1mm_desc-preproc_{name}.json", engine="ants")
    text = " ".join(describe(results.read()).paragraphs)
    assert (
        "Further sequences (T2w and FLAIR; 2 scans) were corrected for their bias field with the first 2 levels of N4 "
        "and registered" in text
    )


def test_settings_of_the_run_stand_in_the_text(results):
    results.add_session("1")
    results.leave("priors", "prior.json", engine="greedy")
    settings = shipped_config()
    settings["register"]["greedy"]["radius"] = 7
    settings["rano"] |= {"pr": 0.35, "confirm": False}
    settings["debias"]["shrink_factor"] = 3
    text = " ".join(describe(results.read(), settings).paragraphs)
    for words in ("radius 7 voxels", "of 35 % from baseline;", "shrink factor 3"):
        assert words in text, words


def test_the_text_names_commit_container_and_settings_where_they_are_known(results):
    known = " ".join(describe(results.read(), about=method.About("0.1.0", "c0ffee", "docker", "3f9a")).paragraphs)
    assert "(commit c0ffee, docker container, settings 3f9a, Python" in known
    assert "(settings 3f9a, Python" in " ".join(describe(results.read()).paragraphs)


def test_readers_see_authors_and_years_in_place_of_keys(results):
    results.add_session("1", networks=ALONE)
    described = describe(results.read())
    readable = " ".join(described.readable)
    assert "RANO-BM criteria (Lin et al. 2015)" in readable
    assert "@" not in readable


def test_the_bibtex_of_a_run_is_what_its_text_cites(results, tmp_path):
    results.add_session("1", brain="deepbet", other="atlas", fit=0.9)
    described = describe(results.read())
    (tmp_path / "references.bib").write_text(references.as_bibtex(described.references))
    written = references.read_references(tmp_path / "references.bib")
    assert list(written) == references.keys_in("\n\n".join(described.paragraphs))
    assert written == {key: references.read_references(BIBLIOGRAPHY)[key] for key in written}


def test_every_reference_has_what_a_citation_needs():
    for reference in references.read_references(BIBLIOGRAPHY).values():
        needed = {"title", "author"} | ({"version", "license"} if reference.kind == "software" else {"year", "volume"})
        assert needed <= set(reference.fields), reference.key
        assert reference.kind == "software" or reference.address.startswith("https://"), reference.key
        assert not re.search(r"[{}]", reference.label + reference.title + reference.place)


def test_the_reference_of_the_program_is_that_of_this_version():
    from mettrail import __version__

    assert references.read_references(BIBLIOGRAPHY)["mettrail"].fields["version"] == __version__


@pytest.mark.parametrize(
    "text",
    [
        "@article{A,\n  title = {x},\n  year: 2000,\n}\n",
        "@article{A,\n  title = {x},\n}\n" * 2,
        "@article{A, title={x}}\n",
    ],
)
def test_a_bibliography_that_cannot_be_read_is_refused(tmp_path, text):
    (tmp_path / "a.bib").write_text(text)
    with pytest.raises(InputError, match=r"a\.bib"):
        references.read_references(tmp_path / "a.bib")


def test_a_checkout_knows_its_commit_and_a_folder_within_one_has_none(tmp_path):
    import subprocess

    def git(*words):
        command = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert provenance.find_commit(tmp_path) == ""
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    (tmp_path / "inside").mkdir()
    git("add", "a")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD")
    assert provenance.find_commit(tmp_path) == commit
    assert provenance.find_commit(tmp_path / "inside") == ""
    (tmp_path / "a").write_text("2")
    assert provenance.find_commit(tmp_path) == f"{commit}-dirty"


def test_the_velocity_is_known_where_a_patient_has_one():
    tables = [pd.DataFrame({"brain_metastasis_velocity_first_per_year": values}) for values in ([None, 2.0], [None])]
    assert [outcomes.velocity_known(table) for table in tables] == [True, False]


def test_a_files_origin_is_the_innermost_dataset_that_holds_it():
    roots = {"": "/r/bids/derivatives/out", "raw": "/r/bids", "labels": "/r/bids/derivatives/masks"}
    found = sidecars.describe_origin(
        ["/r/bids/sub-A/a.nii.gz", "/r/bids/derivatives/out/sub-A/b.json", "/r/bids/derivatives/masks/c", "/models/d"],
        datasets=roots, space="/r/bids/../bids/sub-A/a.nii.gz",
    )  # fmt: skip
    assert found == {
        "Sources": ["bids:raw:sub-A/a.nii.gz", "bids::sub-A/b.json", "bids:labels:c"],
        "SpatialReference": "bids:raw:sub-A/a.nii.gz",
    }
