"""Processes that start at once: what they are given, how they end, what ends with them."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import warm


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit('words')", 1, "words\n"),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("import missing_module", 1, "missing_module"),
    ],
)
def test_a_process_ends_as_it_would(code, status, said):
    done = subprocess.run([warm.python(), "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert said in done.stderr


def test_a_process_has_its_own_folder_environment_words_and_handles(tmp_path, monkeypatch):
    monkeypatch.setenv("B", "not handed on")
    code = """
import os, sys
os.write(int(sys.argv[1]), f"{os.getcwd()} {os.environ.get('A')} {os.environ.get('B')}".encode())
"""
    ours, theirs = os.pipe()
    subprocess.run(
        [warm.python(), "-c", code, str(theirs)], cwd=tmp_path, env={"A": "b"}, pass_fds=[theirs], check=True
    )
    os.close(theirs)
    assert os.read(ours, 9999).decode() == f"{tmp_path} b None"
    os.close(ours)


def test_a_process_whose_caller_is_killed_ends(tmp_path):
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); os.rename('pid', 'began'); time.sleep(60)"
    process = subprocess.Popen([warm.python(), "-c", code], cwd=tmp_path)
    while not (tmp_path / "began").exists() and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.wait()
    pid, until = (tmp_path / "began").read_text(), time.time() + 30
    while Path(f"/proc/{pid}").exists() and time.time() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
