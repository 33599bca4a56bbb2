"""Rule report: the cohort's tables, dictionaries and page."""

from pathlib import Path
from typing import TYPE_CHECKING

import mettrail
import yaml
from mettrail import cohort, figures, joblog, report, sidecars, tables

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

FILES = [f"{name}.{kind}" for name in ("lesions", "sessions", "patients") for kind in ("csv", "json")]

with joblog.to(snakemake.log[0]):
    settings = snakemake.params.settings
    lesions = tables.read_tables(snakemake.input.lesions, "lesions")
    sessions = tables.read_tables(snakemake.input.sessions, "sessions")
    patients = tables.read_tables(snakemake.input.patients, "patients")
    tables.write_csv_mirror(lesions, snakemake.output.lesions, "lesions")
    tables.write_csv_mirror(sessions, snakemake.output.sessions, "sessions")
    tables.write_csv_mirror(patients, snakemake.output.patients, "patients")
    tables.write_table(patients, snakemake.output.participants, "patients")
    sidecars.describe_dataset(
        Path(snakemake.output.description).parent,
        version=mettrail.__version__,
        config_hash=snakemake.params.config_hash,
    )
    figures.draw_cohort(
        patients,
        sessions,
        snakemake.output.figure,
        pr_fraction=settings["rano"]["pr"],
        pd_fraction=settings["rano"]["pd"],
    )
    page = report.cohort_page(
        patients,
        sessions,
        lesions,
        cohort.list_problems(snakemake.params.sessions),
        figures={"cohort": Path(snakemake.output.figure)},
        links={name: f"tables/{name}" for name in FILES} | {"cohort.tsv": "cohort.tsv"},
        pages={participant: f"{participant}.html" for participant in patients["participant_id"]},
        captions=report.read_captions(snakemake.params.captions, settings),
        settings=yaml.safe_dump(settings, sort_keys=False),
        settings_hash=snakemake.params.config_hash,
        version=mettrail.__version__,
    )
    Path(snakemake.output.page).write_text(page, encoding="utf-8")
