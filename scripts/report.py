"""Rule report: the cohort's tables, dictionaries and page."""

from pathlib import Path
from typing import TYPE_CHECKING

import mettrail
import yaml
from mettrail import cohort, jobs, results, schema, sidecars
from mettrail.report import captions, charts, cohort_page
from mettrail.response import outcomes

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

KINDS = ("lesions", "sessions", "patients", "treated_lesions")
FILES = [f"{name}.{kind}" for name in KINDS for kind in ("csv", "json")]
INPUTS = ("pages", "lesions", "sessions", "patients", "treated_lesions", "problems")

with jobs.job(snakemake, failable=INPUTS, passes_on=False) as output:
    settings = snakemake.params.settings
    lesions, sessions, patients = (
        schema.read_tables(jobs.complete(snakemake.input[kind]), kind) for kind in ("lesions", "sessions", "patients")
    )
    treated = schema.read_tables(jobs.complete(snakemake.input.treated_lesions), "treated_lesions")
    schema.write_csv_mirror(lesions, output.lesions, "lesions")
    schema.write_csv_mirror(sessions, output.sessions, "sessions")
    schema.write_csv_mirror(patients, output.patients, "patients")
    schema.write_csv_mirror(treated, output.treated_lesions, "treated_lesions")
    schema.write_table(patients, output.participants, "patients")
    sidecars.describe_dataset(
        snakemake.params.out,
        output.description,
        version=mettrail.__version__,
        config_hash=snakemake.params.config_hash,
    )
    charts.draw_cohort(
        patients,
        sessions,
        output.figure,
        pr_fraction=settings["rano"]["pr"],
        pd_fraction=settings["rano"]["pd"],
    )
    curve = outcomes.incidence(treated, patients)
    charts.draw_incidence(curve, output.incidence)
    problems = cohort.list_problems(snakemake.params.sessions) + jobs.read_failures(snakemake.params.out)
    problems += cohort.list_not_used(snakemake.params.not_used)
    problems += cohort.read_problems(jobs.complete(snakemake.input.problems))
    problems += results.remove_pages_of_others(snakemake.params.out, list(patients["participant_id"]))
    page = cohort_page.make_page(
        patients,
        sessions,
        lesions,
        problems,
        figures={"cohort": Path(output.figure)} | ({"incidence": Path(output.incidence)} if len(curve) else {}),
        links={name: f"tables/{name}" for name in FILES} | {name: name for name in ("cohort.tsv", "not_used.tsv")},
        pages={Path(page).stem: Path(page).name for page in jobs.complete(snakemake.input.pages)},
        captions=captions.read_captions(snakemake.params.captions, settings),
        settings=yaml.safe_dump(settings, sort_keys=False),
        settings_hash=snakemake.params.config_hash,
        version=mettrail.__version__,
    )
    Path(output.page).write_text(page, encoding="utf-8")
