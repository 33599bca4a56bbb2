"""Rule report_lesions: the film strip of each lesion of a patient."""

from typing import TYPE_CHECKING

from mettrail import jobs, schema
from mettrail.report import scans, strips

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

# Of each usable session: fields of `scans.Visit`.
FILES = ("scan", "lesions", "tissue", "brain", "affine", "quality")

with jobs.job(snakemake, failable=(*FILES, "prior", "space"), folders=("strips",)) as output:
    lesions = schema.read_table(snakemake.input.lesion_table, "lesions")
    sessions = schema.read_table(snakemake.input.session_table, "sessions")
    names = snakemake.params.sessions
    files = {name: snakemake.input.get(name, []) for name in FILES}
    priors = dict(zip(snakemake.params.followups, snakemake.input.get("prior", []), strict=True))
    visits = {
        names[n]: scans.Visit(
            **{name: paths[n] for name, paths in files.items()}, prior=jobs.given(priors.get(names[n]))
        )
        for n in jobs.complete_positions(*files.values())
    }
    spaces = dict(zip(snakemake.params.reference_sessions, snakemake.input.get("space", []), strict=True))
    shown, space = scans.find_shown(visits, spaces)
    scans.draw_strips(
        strips.make_strips(lesions, sessions),
        lesions,
        shown,
        space,
        output.strips,
        participant=f"sub-{snakemake.wildcards.sub}",
        failed=output.record,
    )
