"""What can be wrong with what people give us, named by what has to be corrected."""

from __future__ import annotations

from pathlib import Path

from mettrail.reasons import Reason


class InputError(ValueError):
    """A file or setting is not what it has to be.

    Parameters
    ----------
    what : str or Path
        The file or setting, as the user knows it.
    found, expected, advice : str
        What is there, what should be there, and what to do about it.
    reason : Reason
        Its word is what tables show.

    Examples
    --------
    >>> print(InputError("A_T1w.nii.gz", found="4 dimensions", expected="3", advice="Split it.", reason=Reason.NOT_3D))
    A_T1w.nii.gz
      found:    4 dimensions
      expected: 3
      to do:    Split it.
    """

    def __init__(self, what: str | Path, *, found: str, expected: str, advice: str, reason: Reason = Reason.BAD_INPUT):
        self.what, self.found, self.expected, self.advice, self.reason = str(what), found, expected, advice, reason
        super().__init__(f"{what}\n  found:    {found}\n  expected: {expected}\n  to do:    {advice}")

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders (worker pools); keyword-only arguments need help to get there.
        return _rebuild, (type(self), self.what, self.found, self.expected, self.advice, self.reason)

    def in_one_line(self) -> str:
        """Return what was found, what was expected and what to do in one line, for a cell of a table."""
        return f"{self.what}: found {self.found}; expected {self.expected}. {self.advice}"


def _rebuild(kind: type[InputError], what: str, found: str, expected: str, advice: str, reason: Reason) -> InputError:
    return kind(what, found=found, expected=expected, advice=advice, reason=reason)


class GridMismatchError(InputError):
    """Two images that must share one voxel grid do not."""


class ModelError(InputError):
    """A model folder cannot be used on these scans."""
