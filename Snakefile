"""mettrail: brain metastases over time, from a BIDS cohort to per-lesion trajectories and RANO-BM response."""

from snakemake.utils import min_version

min_version("9.0")


configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/common.smk"
include: "workflow/debias.smk"
include: "workflow/strip.smk"
include: "workflow/preprocess.smk"
include: "workflow/register.smk"
include: "workflow/locate.smk"
include: "workflow/propagate.smk"
include: "workflow/segment.smk"
include: "workflow/measure.smk"
include: "workflow/match.smk"
include: "workflow/assess.smk"
include: "workflow/report.smk"
include: "workflow/radiomics.smk"
include: "workflow/features.smk"
include: "workflow/sensitivity.smk"
include: "workflow/train.smk"
include: "workflow/compare.smk"
include: "workflow/fetch.smk"


rule all:
    default_target: True
    input:
        rules.report.output,


onstart:
    start_run()


onsuccess:
    end_run(succeeded=True)


onerror:
    end_run(succeeded=False)
