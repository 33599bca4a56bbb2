"""Rule report_lesions: the film strip of each lesion of a patient, and the viewer."""

from pathlib import Path
from typing import TYPE_CHECKING

import mettrail
from mettrail import jobs, schema
from mettrail.report import scans, strips, viewer_page

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
    participant = f"sub-{snakemake.wildcards.sub}"
    said = strips.make_strips(lesions, sessions)
    scans.draw_strips(said, lesions, shown, space, output.strips, participant=participant, failed=output.record)
    grid, volumes = scans.sample_visits(shown, space, failed=output.record)
    page = viewer_page.make_viewer(
        participant,
        said,
        scans.find_places(lesions, shown),
        grid,
        volumes,
        page=f"{participant}.html",
        version=mettrail.__version__,
    )
    Path(output.viewer).write_text(page, encoding="utf-8")
