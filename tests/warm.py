"""Snakemake whose jobs are forks of a Python that has imported what they need.

    python tests/warm.py -m snakemake ...

A job is a Python of its own, and on a brain the size of a plum more than half of its time goes into importing numpy,
scipy, pandas and the rest. Whole runs are tested this way, but for those that are killed and those that show what a
user types. What a job does is the same: it begins with a module `__main__` of its own and imports the library itself,
and what it changes ends with it.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import shlex
import socket
import sys
import tempfile
import threading
import traceback
from pathlib import Path

IMPORTED = (
    "numpy", "scipy.ndimage", "scipy.stats", "scipy.optimize", "scipy.spatial", "pandas", "nibabel", "SimpleITK",
    "picsl_greedy", "matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg",
    "skimage.measure", "jinja2", "jsonschema", "yaml", "snakemake.script",
)  # fmt: skip

# Started for each job in Python's place: hands over what a process is given, and ends as the job does.
CLIENT = """
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    socket.send_fds(server, [b"x"], [0, 1, 2])
    server.sendall(json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    status = int(server.recv(8) or -signal.SIGKILL)
if status < 0:
    os.kill(os.getpid(), -status)
os._exit(status)
"""


def serve(listener, parent):
    """Fork for each job, until the process that runs Snakemake is gone."""
    threading.Thread(target=lambda: (os.read(parent, 1), os._exit(0)), daemon=True).start()
    while True:
        connection, _ = listener.accept()
        # Nothing is imported for a dry run.
        for name in IMPORTED:
            importlib.import_module(name)
        gc.freeze()
        if os.fork() == 0:
            listener.close()
            watch_job(connection)
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def watch_job(connection):
    """Run a job in a process of its own, however that ends, and say how it did; does not return."""
    job = os.fork()
    if job == 0:
        run_job(connection)
    _, status = os.waitpid(job, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def run_job(connection):
    """Be the Python that was asked for; does not return."""
    _, handles, _, _ = socket.recv_fds(connection, 1, 3)
    for target, handle in enumerate(handles):
        os.dup2(handle, target)
        os.close(handle)
    sent = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    (script, *arguments), folder, environment = json.loads(sent)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv, sys.orig_argv = [script, *arguments], [sys.executable, script, *arguments]
    sys.path[0] = str(Path(script).parent)
    sys.stdin, sys.stdout, sys.stderr = (open(n, mode, closefd=False) for n, mode in ((0, "r"), (1, "w"), (2, "w")))  # noqa: SIM115
    status = 0
    try:
        if "sitecustomize" in sys.modules:
            importlib.reload(sys.modules["sitecustomize"])
        runpy.run_path(script, run_name="__main__")
    except SystemExit as err:
        status = err.code if isinstance(err.code, int) else int(err.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)


def main():
    """Start the server, then be the Python that the arguments ask for."""
    with tempfile.TemporaryDirectory() as folder:
        client, place = Path(folder, "client.py"), str(Path(folder, "socket"))
        client.write_text(CLIENT)
        alive, ours = os.pipe()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(place)
        listener.listen(64)
        if os.fork() == 0:
            os.close(ours)
            serve(listener, alive)
        listener.close()
        os.close(alive)
        python = sys.executable
        sys.executable = f"{shlex.quote(python)} -I -S {shlex.quote(str(client))} {shlex.quote(place)}"
        module = sys.argv[2]
        sys.argv, sys.path[0] = [module, *sys.argv[3:]], ""
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
