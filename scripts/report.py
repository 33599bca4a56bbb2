"""Rule report: the page of the cohort, and what says how it was made."""

from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from mettrail import cohort, jobs, results, schema, sidecars
from mettrail.report import captions, charts, cohort_page, method, ran
from mettrail.response import outcomes

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

KINDS = ("lesions", "sessions", "patients", "treated_lesions")
FILES = [f"{name}.{kind}" for name in KINDS for kind in ("csv", "json")]
INPUTS = ("pages", "problems")
OTHERS = ("README.md", "CITATION.md", "references.bib", "cohort.tsv", "not_used.tsv")
TEXTS = ("citation", "bibtex", "readme")
RAN = ("brains", "priors", "references", "places", "sequences", "labels", "features")

with jobs.job(snakemake, failable=(*INPUTS, *RAN), passes_on=False) as output:
    settings = snakemake.params.settings
    lesions, sessions, patients, treated = (schema.read_table(snakemake.input[kind], kind) for kind in KINDS)
    about = method.describe_program(snakemake.params.config_hash)
    limits = {f"{name}_fraction": settings["rano"][name] for name in ("pr", "pd")}
    charts.draw_cohort(patients, sessions, output.figure, **limits)
    charts.draw_spread(patients, sessions, lesions, output.spread, **limits)
    curve = outcomes.incidence(treated, patients)
    charts.draw_incidence(curve, output.incidence)
    found = ran.read_ran(**{name: snakemake.input.get(name, []) for name in RAN})
    shown = {"any_velocity": outcomes.velocity_known(patients), "any_treated": bool(len(curve))}
    described = method.describe_method(found, settings, about, references=snakemake.params.bibliography, **shown)
    texts = {name: Path(vars(output)[name]) for name in TEXTS}
    licence = sidecars.describe_source(snakemake.params.datasets["raw"]).get("License")
    described.write(about, licence=licence, **texts)
    sidecars.describe_dataset(
        snakemake.params.out,
        output.description,
        maker=sidecars.describe_maker(**vars(about)),
        datasets=snakemake.params.datasets,
        references=described.addresses,
        tracks=lesions["track_id"],
    )
    problems = cohort.list_problems(snakemake.params.sessions) + jobs.read_failures(snakemake.params.out)
    problems += cohort.list_not_used(snakemake.params.not_used)
    problems += cohort.read_problems(jobs.complete(snakemake.input.problems))
    problems += results.remove_pages_of_others(snakemake.params.out, list(patients["participant_id"]))
    page = cohort_page.make_page(
        patients,
        sessions,
        lesions,
        problems,
        figures={"cohort": Path(output.figure), "spread": Path(output.spread)}
        | ({"incidence": Path(output.incidence)} if len(curve) else {}),
        links={name: f"tables/{name}" for name in FILES} | {name: name for name in OTHERS},
        pages={Path(page).stem: Path(page).name for page in jobs.complete(snakemake.input.pages)},
        captions=captions.read_captions(snakemake.params.captions, settings),
        method=described,
        settings=yaml.safe_dump(settings, sort_keys=False),
        settings_hash=snakemake.params.config_hash,
        version=about.version,
    )
    Path(output.page).write_text(page, encoding="utf-8")
