"""Settings as people write them: one changed at a time. `yes` are taken, `no` refused by name."""

nan, inf = float("nan"), float("inf")

# setting, value: refused, and the message names the setting.
NO = [
    *[(name, value) for value in (nan, inf, -inf) for name in (
        "rano.pd", "rano.pr", "rano.pd_abs_mm", "rano.ld_min_mm", "rano.new_definite_mm", "rano.physiologic_dex_mg",
        "volume.pd", "volume.pd_abs_ml", "match.gap_mm", "match.vol_ratio_max", "match.dilate_mm",
        "instances.birth_mm3",
        "instances.merge_gap_mm", "measure.chord_gap_vox", "measure.edema_max_mm", "strip.grow_mm", "strip.fit_warn",
        "register.mask_grow_mm", "register.dice_fail", "debias.spline_distance_mm", "segment.fusion.touch_mm",
        "segment.confidence_limits.all", "train.gpu_memory_gb", "train.alpha.sensitive", "train.priors.shift_mm")],
    ("rano.pd", ".nan"), ("rano.pd", "nan"), ("rano.pd", "20%"), ("rano.pd", "0,2"), ("rano.pd", ""), ("rano.pd", None),
    ("rano.pd", -0.2), ("rano.pr", 30), ("rano.pr", 1.5), ("rano.pd", [0.2]), ("rano.pd", True), ("rano.pd", "true"),
    ("rano.max_targets", 0), ("rano.max_targets", 2.5), ("rano.max_targets", nan), ("rano.confirm", "maybe"),
    ("rano.confirm", 2),
    ("rano.confirm_days", -1), ("rano.confirm_days", nan), ("rano.tsm_mode", "floor"), ("rano.abs_rule", None),
    # Limits in the wrong order, or with something that is no number.
    ("rano.treatment_effect_days", [540, 90]), ("rano.treatment_effect_days", [90, nan]), ("rano.treatment_effect_days",
    [90]),
    ("strip.volume_warn_ml", [2000, 900]), ("strip.volume_warn_ml", [900, nan]), ("strip.volume_warn_ml",
    [900, inf]), ("strip.volume_warn_ml", [900, 1000, 2000]),
    ("strip.volume_warn_ml",
    [0, 900]), ("register.dice_fail", 0.99), ("register.dice_warn", 0.5), ("instances.keep_mm3", 11),
    ("instances.keep_vox", 4), ("train.priors.fictitious_dilate_vox", [6, 0]), ("train.priors.fictitious_shift_vox",
    [6, -6]),
    ("train.priors.nothing_radius_mm", [7, 1.5]), ("train.priors.nothing_radius_mm", [1.5, nan]),
    # Nothing where something is needed, or more than can be.
    ("train.tile_vox", 0), ("train.tile_vox", -37), ("train.tile_vox", nan), ("train.folds", 0), ("train.folds", 1),
    ("train.epochs", 0), ("train.steps", 0),
    ("train.gpu_memory_gb", 0), ("debias.iterations", []), ("debias.iterations",
    [0]), ("debias.shrink_factor", 0), ("debias.spline_distance_mm", 0),
    ("register.greedy.iterations", []), ("register.greedy.iterations",
    [nan, 1]), ("register.greedy.radius", 0), ("register.ants.step", 0), ("register.seed", -1),
    ("threads", 0), ("threads", -1), ("threads", 1.5), ("threads", "all"), ("threads", None), ("threads", nan),
    # Another kind of thing.
    ("sequences", "T2w"), ("sequences", ["t2w"]), ("sequences",
    ["T2w", "T2w"]), ("sequences", None), ("reference", "T1w.nii.gz"), ("reference", ""),
    ("reference", "ce-gadolinium"), ("labels.sessions", "01"), ("labels.sessions", [1.5]), ("labels.sessions",
    [None]), ("labels.folder", None), ("labels.folder", ["masks"]),
    ("labels.scheme", "brats"), ("labels.scheme", {1: 7}), ("labels.scheme", {"a": 1}), ("labels.scheme", {1.5: 1}),
    ("labels.scheme", {-1: 1}), ("labels.scheme", 2023), ("labels.scheme", None),
    ("index", None), ("rano", []), ("segment.models.detection",
    []), ("segment.models.detection", ""), ("segment.models.detection", None),
    ("segment.confidence_limits.all", 95), ("match.frac", 50), ("sensitivity.values", {"rano.pdd": [0.1]}),
    ("sensitivity.values", {"rano.pd": [nan]}),
    ("sensitivity.values", {"rano.pd": 0.1}), ("sensitivity.values", {"match.gap_mm": ["wide"]}),
    # Places.
    ("bids", ""), ("out", ""), ("bids", None), ("out", None), ("bids",
    ["a"]), ("out", True), ("out", 1.5), ("out", {"run": 1}), ("out", " "),
    # Names.
    ("rano.pdd", 0.2), ("labels.session", ["01"]), ("rano.PD", 0.2), ("treads", 2),
]  # fmt: skip

# Taken.
YES = [
    ("threads", 1), ("rano.pd", 0.25), ("rano.pd", "0.25"), ("rano.confirm", "false"), ("rano.pd_abs_mm", 0),
    ("labels.sessions", ["01", "1"]), ("labels.sessions", []),
    ("labels.scheme", "brats2021"), ("labels.scheme", "brats2023"), ("labels.scheme", "instances"), ("labels.scheme",
    {1: 3, 3: 1}), ("labels.scheme", {"1": 3, "3": 1}),
    ("labels.scheme", "{1: 3, 3: 1}"), ("sequences",
    []), ("reference", "T1w"), ("reference", "ce-gadobutrol_T1w"), ("rano.treatment_effect_days", [60, 365]),
    ("strip.volume_warn_ml",
    [10, 100]), ("segment.models.detection", "a/model"), ("out", "results of may/ünï"), ("bids",
    "/data/sub-study/bids"),
    ("register.dice_fail", 0.95), ("instances.keep_mm3", 10), ("sensitivity.values", {}),
]  # fmt: skip

# Either: taken for what was meant, or refused by name.
EITHER = [
    ("out", 20240101), ("bids", 7), ("out", "run{1}"), ("out", "a\nb"), ("threads", 2.0), ("rano.max_targets", 5.0),
    ("rano.pd", "1e-1"),
    ("labels.sessions", [True]),
    ("labels.sessions", ["01", 1]), ("labels.scheme", {1: 0}), ("rano.pr", 0), ("rano.pr", 1), ("rano.pd", 0),
]  # fmt: skip
