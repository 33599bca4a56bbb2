import json
import subprocess
import sys
from pathlib import Path

import pytest
from mettrail import joblog
from mettrail.errors import InputError


def test_a_failed_job_leaves_a_record_that_says_why(tmp_path):
    log = tmp_path / "logs" / "strip" / "sub-A_ses-02.log"
    with pytest.raises(SystemExit), joblog.to(log):
        raise InputError("a.nii.gz", found="x", expected="y", advice="z", reason="not_3d")
    (record,) = joblog.read_failures(tmp_path)
    assert (record["sub"], record["ses"], record["stage"], record["reason"]) == ("A", "02", "strip", "not_3d")
    assert log.read_text().rstrip().endswith("to do:    z")


def test_a_job_that_ends_well_leaves_none_and_clears_an_old_one(tmp_path):
    log = tmp_path / "logs" / "strip" / "sub-A_ses-02.log"
    with pytest.raises(SystemExit), joblog.to(log):
        raise RuntimeError("first try")
    with joblog.to(log):
        print("second try")
    assert not joblog.read_failures(tmp_path)
    assert "second try" in log.read_text()


def test_a_job_that_is_killed_leaves_a_record_too(tmp_path):
    log = tmp_path / "logs" / "segment" / "sub-A_ses-02.log"
    code = f"import os; from mettrail import joblog\nwith joblog.to({str(log)!r}): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    (record,) = joblog.read_failures(tmp_path)
    assert record["reason"] == "did_not_finish"


def test_what_the_tools_say_below_python_reaches_the_log(tmp_path):
    log = tmp_path / "logs" / "strip" / "sub-A.log"
    with joblog.to(log):
        subprocess.run(["echo", "from C"], check=True)
    assert "from C" in log.read_text()


def test_records_are_whole_json_files(tmp_path):
    log = tmp_path / "logs" / "assess" / "sub-A.log"
    with pytest.raises(SystemExit), joblog.to(log):
        raise ValueError("bad")
    record = json.loads(Path(joblog.failure_record(log)).read_text())
    assert record["ses"] is None
    assert record["detail"] == "ValueError: bad"
