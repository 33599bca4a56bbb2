"""Rule segment_fuse: lesion voxels on the raw reference image."""

from typing import TYPE_CHECKING

from mettrail import contrast, drawn, images, jobs, schema, segmentation, sidecars

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, skippable=("known", "prior"), failable=("fine", "edema", "cavity")) as output:
    raw = images.read_image(snakemake.input.raw)
    if snakemake.input.get("given"):
        labels = drawn.read_drawn(snakemake.input.given, snakemake.params.scheme)
        images.require_same_grid(raw, labels)
        components, evidence = segmentation.manual_evidence(labels)
        whole = labels.like(components.data > 0)
        auc = contrast.labels_auc(raw, labels, images.read_mask(snakemake.input.mask))
        ran, prior, fine, doubtful = {}, None, None, 0
    else:
        names = ("detection", "known", "sensitive", "fine", "cavity", "edema")
        paths = (jobs.given(snakemake.input.get(name)) for name in names)
        read = (images.read_probabilities(path) if path else None for path in paths)
        detection, resegmentation, sensitive, fine, bed, edema = read
        carried = jobs.given(snakemake.input.get("prior"))
        prior = images.read_labels(carried) if carried else None
        fused = segmentation.apply_rule(detection, resegmentation, prior, **snakemake.params.fusion)
        fused = segmentation.add_candidates(fused, detection, sensitive, fine, level=snakemake.params.candidate_level)
        cavities = segmentation.accept_cavities(bed, images.read_mask(snakemake.input.mask)) if bed else None
        fused, cavities, doubtful = segmentation.settle_cavities(
            fused, cavities, operated=snakemake.params.operated, least_mm3=snakemake.params.birth_mm3
        )
        edged = segmentation.draw_edges(fused, level=snakemake.params.edge_level, least_mm3=snakemake.params.birth_mm3)
        drawn_around = segmentation.draw_edema(segmentation.draw_cavities(edged, cavities), edema)
        labels, whole = segmentation.decide_on_grid(drawn_around, raw.grid)
        networks = {"detection": detection, "resegmentation": resegmentation}
        touch_mm = snakemake.params.fusion["touch_mm"]
        components, evidence = segmentation.gather_evidence(
            labels,
            fused,
            networks,
            limits=snakemake.params.limits,
            calibration=snakemake.params.calibration,
            at_prior=None if prior is None else segmentation.near_prior(prior, touch_mm=touch_mm),
            fine=fine,
        )
        ran = networks | {"detection_sensitive": sensitive, "edema": edema, "cavity": cavities}
        auc = None
    images.write_labels(output.labels, labels.data, raw.affine)
    images.write_labels(output.components, components.data, raw.affine)
    images.write_probabilities(output.probabilities, whole.data, raw.affine)
    schema.write_tsv(evidence, output.evidence)
    facts = {
        "Manual": bool(snakemake.input.get("given")),
        # Where FLAIR could not be used, edema cannot be told.
        "ShowsEdema": snakemake.params.shows_edema and not (snakemake.input.get("edema") and ran["edema"] is None),
        # What ran: a session whose prior failed is read like a first one, whatever the settings ask for.
        "Networks": {task: facts for task, facts in snakemake.params.networks.items() if ran.get(task) is not None},
        "Propagated": prior is not None,
        "FullResolution": fine is not None,
        # Whether what was drawn follows the scan; networks saw no other.
        "LabelsAUC": auc,
        "LabelsDoubtful": auc is not None and auc < snakemake.params.labels_auc_warn,
        # Connected components that are lesion or resection cavity: surgery decides.
        "LesionsInCavities": doubtful,
        "SurgeryBefore": snakemake.params.operated,
    }
    origin = sidecars.describe_origin(jobs.complete(list(snakemake.input)), **snakemake.params.origin)
    sidecars.write_json(sidecars.TISSUE | facts | origin, output.sidecar)
    sidecars.write_json(origin, output.components_sidecar)
    sidecars.write_json(origin, output.probabilities_sidecar)
