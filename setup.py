"""Put the workflow into the wheel: what lies around the library in a checkout is `mettrail/project/` once installed."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# All that a run needs; `mettrail.project.root` finds it.
PROJECT = (
    "Snakefile",
    "config/*",
    "envs/*",
    "profiles/*/*",
    "requirements.txt",
    "resources/atlas/*",
    "resources/models/**/*",
    "resources/references.bib",
    "resources/weights.yaml",
    "scripts/*.py",
    "workflow/**/*",
)


class BuildWithProject(build_py):
    """Copies the project's files beside the library's modules."""

    def run(self):
        """Build as always, then copy; an editable install finds everything where it is."""
        super().run()
        for source, target in [] if self.editable_mode else self._pairs():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    def _pairs(self):
        inside = Path(self.build_lib, "mettrail", "project")
        files = {path for pattern in PROJECT for path in Path().glob(pattern) if path.is_file()}
        return [(path, inside / path) for path in sorted(files) if "__pycache__" not in path.parts]


setup(cmdclass={"build_py": BuildWithProject})
