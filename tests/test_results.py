"""The results folder: where it may lie, one run at a time, and results that nobody can tell to be up to date."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mettrail import results
from mettrail.errors import InputError


def places(**given):
    config = {
        "bids": "bids",
        "out": "out",
        "labels": {"folder": given.pop("labels", "")},
        "overrides": "",
        "frozen": "",
    }
    return config | given


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("bids/derivatives", "masks", "bids/sub-A"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    "given",
    [
        {"out": "bids"}, {"out": "bids/"}, {"out": "masks/../bids"}, {"out": "link"}, {"out": "bids/results"},
        {"out": "bids/sub-A/results"}, {"out": "."}, {"out": "link/results"}, {"out": "file"},
        {"out": "masks", "labels": "masks"}, {"out": "masks", "overrides": "masks"},
        {"out": "masks", "frozen": "masks"},
        {"out": "masks/sub-A", "labels": "masks"}, {"out": "linked"}, {"out": "link", "overrides": "bids"},
        {"out": "results", "bids": "link", "labels": "results"},
    ],
)  # fmt: skip
def test_results_do_not_go_where_they_overwrite_what_is_given(here, given):
    (here / "link").symlink_to("bids")
    (here / "file").touch()
    (here / "linked/sub-B").mkdir(parents=True)
    (here / "bids/sub-B").symlink_to(here / "linked/sub-B")
    before = sorted(here.rglob("*"))
    with pytest.raises(InputError, match="out = "):
        results.check_place(places(**given))
    assert sorted(here.rglob("*")) == before


def test_results_do_not_go_into_a_folder_that_holds_the_dataset(here):
    with pytest.raises(InputError, match="holds the dataset"):
        results.check_place(places(out="."))


@pytest.mark.parametrize("out", ["out", "bids/derivatives/mettrail", "bids-results", "masks/deeper"])
def test_results_may_go_beside_the_dataset_or_into_its_derivatives(here, out):
    assert results.check_place(places(out=out, labels="masks")) is None


def test_a_second_run_is_told_who_writes_here_and_since_when(here):
    code = "from mettrail import results; print(results.lock('out'), flush=True); input()"
    env = os.environ | {"PYTHONPATH": str(Path(results.__file__).parents[1])}
    first = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, env=env, text=True)
    assert first.stdout.readline() == "None\n"
    owner = results.lock("out")
    assert f"process {first.pid} on" in owner
    assert "the run of 20" in owner
    first.kill()
    first.wait()
    assert results.lock("out") is None, "a killed run leaves no lock"
    results.unlock()


def test_locks_that_a_killed_run_left_are_removed_and_no_others(here, capsys):
    locks = here / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("out/sub-A.html\n")
    (locks / "1.output.lock").write_text("elsewhere/sub-A.html\n")
    assert results.lock("out") is None
    assert [path.name for path in locks.iterdir()] == ["1.output.lock"]
    assert "left a lock, which is removed" in capsys.readouterr().err
    results.unlock()


def test_a_folder_in_which_nothing_was_made_is_left_as_it_was(here):
    results.lock("new/out")
    results.leave("new/out")
    assert list((here / "new").iterdir()) == []
    (here / "old").mkdir()
    (here / "old/mine").touch()
    results.lock("old")
    results.leave("old")
    assert [path.name for path in (here / "old").iterdir()] == ["mine"]
    assert results.lock("old") is None
    results.unlock()


def make_results(folder):
    path = Path(folder, "sub-A", "sub-A_sessions.tsv").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("made")
    Path(folder, "index.html").write_text("made last")
    return path


def is_old(path):
    return path.stat().st_mtime == 0


def test_results_of_this_folder_and_its_memory_are_left_to_snakemake(here):
    results.expire_unknown("out", "facts")
    table = make_results("out")
    results.expire_unknown("out", "other facts")
    assert not is_old(table)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("facts", ["facts", "other facts"])
@pytest.mark.parametrize("lose", ["memory", "folder", "spelling", "state"])
def test_results_without_a_memory_count_if_complete_and_made_of_the_same(here, complete, facts, lose, capsys):
    results.expire_unknown("out", "facts")
    table = make_results("out")
    if complete:
        results.mark_complete("out", since=0)
    out = "out"
    if lose == "memory":
        (here / ".snakemake/mettrail.json").unlink()
    elif lose == "folder":
        (here / "other").mkdir()
        os.chdir(here / "other")
        out = "../out"
    elif lose == "spelling":
        out = str(here / "out")
    else:
        (here / "out/logs/state.json").write_text("cut sho")
    results.expire_unknown(out, facts)
    trusted = complete and facts == "facts" and lose != "state"
    assert is_old(table) is not trusted
    assert ("made again" in capsys.readouterr().err) is not trusted


def test_some_of_the_results_are_not_all_of_them(here):
    results.expire_unknown("out", "facts")
    table = make_results("out")
    results.mark_complete("out", since=time.time() + 1)
    (here / ".snakemake/mettrail.json").unlink()
    results.expire_unknown("out", "facts")
    assert is_old(table), "the page of the cohort was not made in that run"


def test_a_dry_run_says_what_would_be_made_again_and_does_nothing(here, capsys):
    results.expire_unknown("out", "facts")
    table = make_results("out")
    (here / ".snakemake/mettrail.json").unlink()
    before = sorted(here.rglob("*"))
    results.expire_unknown("out", "other facts", write=False)
    assert "made again" in capsys.readouterr().err
    assert not is_old(table)
    assert sorted(here.rglob("*")) == before


def test_two_folders_that_take_turns_do_not_trust_each_others_results(here):
    results.expire_unknown("out", "first")
    table = make_results("out")
    results.mark_complete("out", since=0)
    results.expire_unknown(str(here / "out"), "second")
    assert is_old(table)
    make_results("out")
    results.mark_complete("out", since=0)
    results.expire_unknown("out", "first")
    assert is_old(table), "what this spelling remembers is not what lies there"


def test_pages_of_patients_that_are_gone_go_and_their_results_stay(here):
    for name in (
        "out/sub-A.html",
        "out/sub-B.html",
        "out/figures/sub-B_ses-1_brain.png",
        "out/figures/sub-B_strips/sub-B_desc-L001_strip.png",
        "out/sub-B/x.tsv",
        "out/sub-A/x",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    (problem,) = results.remove_pages_of_others("out", ["sub-A"])
    assert (problem["sub"], problem["reason"]) == ("sub-B", "not_in_dataset")
    left = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file())
    assert left == ["sub-A.html", "sub-A/x", "sub-B/x.tsv"]


def test_what_is_kept_of_the_state_is_json(here):
    results.expire_unknown("out", {"a": Path("x")})
    assert json.loads(Path("out/logs/state.json").read_text())["complete"] is False
