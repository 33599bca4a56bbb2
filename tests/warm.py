"""A Python whose processes start at once: forks of one that has imported what they need.

    [warm.python(), "-m", "snakemake", ...]

Of what a test on brains the size of a plum takes, more than half goes into starts: each job, and Snakemake itself, is a
Python of its own that imports numpy, scipy, pandas and the rest. Whole runs are tested this way, but for those that are
killed and those that show what a user types. What a process does is the same: it begins with a module `__main__` of
its own, and what it changes ends with it.
"""

import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import json
import os
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTED = (
    "numpy", "scipy.ndimage", "scipy.stats", "scipy.optimize", "scipy.spatial", "pandas", "nibabel", "SimpleITK",
    "picsl_greedy", "matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg",
    "skimage.measure", "jinja2", "jsonschema", "yaml", "rich.live", "snakemake.script", "snakemake.cli",
    "snakemake.executors.local", "torch", "nnunetv2.inference.predict_from_raw_data", "monai.networks.nets",
    "mettrail.bias", "mettrail.cohort", "mettrail.cli.run", "mettrail.provenance",
    "mettrail.registration", "mettrail.report.cohort_page", "mettrail.report.method", "mettrail.report.patient_page",
    "mettrail.report.strips", "mettrail.report.viewer_page", "mettrail.response.assessment",
    "mettrail.segmentation.predictors", "mettrail.study.comparing", "mettrail.study.fitting",
    "mettrail.tracking.registry", "mettrail.training.dataset",
)  # fmt: skip

# Started in Python's place: hands over what a process is given, and ends as that process does.
CLIENT = """
import json, os, signal, socket, sys
handles = [int(name) for name in os.listdir("/proc/self/fd")]
handles = [handle for handle in handles if os.path.exists(f"/proc/self/fd/{handle}")]
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    socket.send_fds(server, [b"x"], handles)
    given = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ), handles]).encode()
    server.sendall(len(given).to_bytes(8, "big") + given)
    status = int(server.recv(8) or -signal.SIGKILL)
if status < 0:
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@functools.cache
def python():
    """Return what to call in Python's place; the server behind it ends with the process that asked first."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    program, client, place = folder / "python", folder / "client.py", folder / "socket"
    client.write_text(CLIENT)
    program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-I", "-S", str(client), str(place)])} "$@"\n')
    program.chmod(0o755)
    server = subprocess.Popen([sys.executable, __file__, place, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(server.terminate)
    assert server.stdout.read(1), "it listens"
    return str(program)


def serve(place, program):
    """Fork for each process, until the one that started the server is gone."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
    listener.listen(64)
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()
    os.write(1, b"x")
    sys.path.insert(1, str(ROOT / "scripts"))
    for name in IMPORTED:
        importlib.import_module(name)
    # Every start of the workflow reads all code; what has not changed since is known.
    sys.modules["mettrail.provenance"].project_digest(ROOT)
    # What processes start themselves starts at once, too.
    sys.executable = program
    gc.freeze()
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            watch_process(connection)
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def watch_process(connection):
    """Run a process of its own, however that ends, and say how it did; does not return."""
    process = os.fork()
    if process == 0:
        be_python(connection)
    threading.Thread(target=end_with, args=(connection, process), daemon=True).start()
    _, status = os.waitpid(process, 0)
    with contextlib.suppress(OSError):
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def end_with(connection, process):
    """Kill a process whose client was killed."""
    # The process reads what it is given from the same connection; nothing is taken away from it here.
    while connection.recv(1, socket.MSG_PEEK):
        threading.Event().wait(1)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def be_python(connection):
    """Be the Python that was asked for; does not return."""
    _, sent, _, _ = socket.recv_fds(connection, 1, 64)
    with connection, connection.makefile("rb") as given:
        arguments, folder, environment, handles = json.loads(given.read(int.from_bytes(given.read(8), "big")))
    # None of those that came stands in the place of another.
    sent = [fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, 1000) for handle in sent]
    for handle, target in zip(sent, handles, strict=True):
        os.dup2(handle, target)
        os.close(handle)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[1:1] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", *sys.path)]
    sys.orig_argv = [sys.executable, *arguments]
    sys.stdin, sys.stdout, sys.stderr = (open(n, mode, closefd=False) for n, mode in ((0, "r"), (1, "w"), (2, "w")))  # noqa: SIM115
    status = 0
    try:
        sys.modules.pop("sitecustomize", None)
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module("sitecustomize")
        start(*arguments)
    except SystemExit as err:
        status = err.code if isinstance(err.code, int) else int(err.code is not None)
        if isinstance(err.code, str):
            print(err.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)


def start(what, *arguments):
    """Run a module, code or a script, as Python's own command line does."""
    if what == "-m":
        sys.argv, sys.path[0] = list(arguments), str(Path.cwd())
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    elif what == "-c":
        sys.argv, sys.path[0] = ["-c", *arguments[1:]], ""
        exec(compile(arguments[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[0] = [what, *arguments], str(Path(what).parent)
        runpy.run_path(what, run_name="__main__")


if __name__ == "__main__":
    serve(*sys.argv[1:])
