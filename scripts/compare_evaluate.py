"""Rule compare_evaluate: the methods side by side."""

from pathlib import Path
from typing import TYPE_CHECKING

from mettrail import jobs
from mettrail.study import cases, comparing

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, passes_on=False, in_place=True, failable=("files",)) as output:
    params = snakemake.params
    comparing.compare(
        params.methods,
        cases.without_failed(params.sessions),
        Path(output.page).parent,
        splits=params.splits,
        settings=params.settings,
        fusion_settings=params.fusion,
    )
