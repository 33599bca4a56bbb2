"""What can be wrong with what people give us, named by what has to be mended."""


class InputError(ValueError):
    """A file or setting is not what it has to be.

    Parameters
    ----------
    what : str
        The file or setting, as the user knows it.
    found, expected, advice : str
        What is there, what should be there, and what to do about it.
    reason : str
        One word for the tables (``ne_reason``), e.g. ``not_3d``.

    Examples
    --------
    >>> print(InputError("sub-A_T1w.nii.gz", found="4 dimensions", expected="3", advice="Split it.", reason="not_3d"))
    sub-A_T1w.nii.gz
      found:    4 dimensions
      expected: 3
      to do:    Split it.
    """

    def __init__(self, what: str, *, found: str, expected: str, advice: str, reason: str = "bad_input"):
        self.what, self.found, self.expected, self.advice, self.reason = str(what), found, expected, advice, reason
        super().__init__(f"{what}\n  found:    {found}\n  expected: {expected}\n  to do:    {advice}")

    def __reduce__(self):
        # Exceptions cross process borders (worker pools); keyword-only arguments need help to get there.
        return _rebuild, (type(self), self.what, self.found, self.expected, self.advice, self.reason)


def _rebuild(kind, what, found, expected, advice, reason):
    return kind(what, found=found, expected=expected, advice=advice, reason=reason)


class GridMismatchError(InputError):
    """Two images that must share one voxel grid do not."""


class ModelError(InputError):
    """A model folder cannot be used on these scans."""
