"""Rule sensitivity_patient: the response of one patient with settings changed one at a time."""

from typing import TYPE_CHECKING

from mettrail import cohort, images, jobs, schema, sidecars
from mettrail.response import sensitivity
from mettrail.schema import tsv
from mettrail.tracking import follow

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

FILES = ("labels", "masks", "brains", "components", "evidence", "qualities", "affines")

with jobs.job(snakemake, failable=(*FILES, "reference")) as output:
    files = {name: snakemake.input[name] for name in FILES}
    rows = cohort.mark_failed(
        snakemake.params.sessions, [why for paths in files.values() for why in jobs.failures_in(paths)]
    )
    whole = jobs.complete_positions(*files.values())
    files = {name: [paths[n] for n in whole] for name, paths in files.items()}
    space = sidecars.read_json(files["qualities"][-1])["reference_session"] if whole else "n/a"
    responses = sensitivity.vary_patient(
        follow.read_visits(rows, **files),
        rows,
        snakemake.params.participant,
        config=snakemake.params.config,
        values=snakemake.params["values"],
        grid=images.read_image(snakemake.input.reference[snakemake.params.reference_sessions.index(space)]).grid
        if whole
        else None,
        reference_session=space,
        overrides=tsv.read_frame(snakemake.input.decisions),
    )
    schema.write_tsv(responses, output.responses)
