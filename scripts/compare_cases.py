"""Rule compare_cases: sessions to train on, as arrays."""

from pathlib import Path
from typing import TYPE_CHECKING

from mettrail import jobs
from mettrail.study import cases

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, passes_on=False, in_place=True, failable=("files",)) as output:
    folder = Path(output.cases)
    cases.write_cases(cases.without_failed(snakemake.params.sessions), folder, seed=snakemake.params.seed)
    cases.write_splits(snakemake.params.splits, folder / "splits.json")
