"""Rule report_patient: one patient's page."""

from pathlib import Path
from typing import TYPE_CHECKING

import mettrail
from mettrail import cohort, jobs, schema
from mettrail.report import captions, charts, parts, patient_page

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, failable=("pictures", "more", "brains", "registrations", "strips", "viewer")) as output:
    participant = f"sub-{snakemake.wildcards.sub}"
    lesions = schema.read_table(snakemake.input.lesions, "lesions")
    sessions = schema.read_table(snakemake.input.sessions, "sessions")
    patient = schema.read_table(snakemake.input.patient, "patients")
    treatments = schema.read_tsv(snakemake.input.treatments)
    treated = schema.read_table(snakemake.input.treated_lesions, "treated_lesions")
    charts.draw_trajectories(
        lesions,
        sessions,
        treatments,
        output.figure,
        rano=snakemake.params.settings["rano"],
        title=participant,
    )
    pictures = [
        *snakemake.input.pictures,
        *snakemake.input.more,
        *snakemake.input.brains,
        *snakemake.input.registrations,
    ]
    viewer = jobs.given(snakemake.input.viewer)
    page = patient_page.make_page(
        participant,
        lesions,
        sessions,
        dict(patient.iloc[0]),
        treated,
        {
            "trajectories": Path(output.figure),
            "strips": jobs.given(snakemake.input.strips),
            "sessions": parts.group_pictures(jobs.complete(pictures)),
        },
        links={
            "cohort": "index.html",
            "viewer": Path(viewer).name if viewer else "",
            "Lesions over time": f"{participant}/{participant}_desc-lesions_trajectories.tsv",
            "Sessions": f"{participant}/{participant}_sessions.tsv",
            "Treatments": f"{participant}/{participant}_desc-treatments.tsv",
            "Treated lesions": f"{participant}/{participant}_desc-treated_lesions.tsv",
        },
        problems=cohort.list_problems(snakemake.params.sessions)
        + jobs.read_failures(snakemake.params.out)
        + cohort.read_problems([snakemake.input.problems]),
        captions=captions.read_captions(snakemake.params.captions, snakemake.params.settings),
        settings_hash=snakemake.params.config_hash,
        version=mettrail.__version__,
    )
    Path(output.page).write_text(page, encoding="utf-8")
