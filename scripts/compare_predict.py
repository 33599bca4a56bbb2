"""Rule compare_predict: a method's predictions of the patients to compare on."""

from pathlib import Path
from typing import TYPE_CHECKING

from mettrail import jobs, segmentation
from mettrail.study import cases, methods, predicting

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, passes_on=False, in_place=True, failable=("files",)) as output:
    model = segmentation.read_model(snakemake.input.model)
    if snakemake.wildcards.method in methods.DERIVED:
        model = predicting.without_detector(model)
    costs = predicting.predict_all(
        model,
        cases.without_failed(snakemake.params.sessions),
        Path(output.predictions),
        grow_mm=snakemake.params.grow_mm,
        device=snakemake.params.device,
        threads=snakemake.threads,
    )
    costs.to_csv(output.costs, index=False)
