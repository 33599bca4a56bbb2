"""Rule compare_predict: a method's predictions of the patients to compare on."""

from typing import TYPE_CHECKING

import pandas as pd
from mettrail import jobs, segmentation
from mettrail.study import methods, predicting

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, passes_on=False, in_place=True) as output:
    model = segmentation.read_model(snakemake.input.model)
    if snakemake.wildcards.method in methods.DERIVED:
        model = predicting.without_detector(model)
    costs = []
    for session in snakemake.params.sessions:
        mask, probabilities, cost = predicting.predict_session(
            model,
            session,
            grow_mm=snakemake.params.grow_mm,
            device=snakemake.params.device,
            threads=snakemake.threads,
        )
        predicting.write_prediction(output.predictions, session, mask, probabilities)
        costs.append({"sub": session["sub"], "ses": session["ses"], "cpu_s": cost.cpu_s, "gmacs": cost.gmacs})
    pd.DataFrame(costs).to_csv(output.costs, index=False)
