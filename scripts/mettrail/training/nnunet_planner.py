"""nnU-Net's planner for brain images at 1 mm."""

from __future__ import annotations

from typing import Any

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner


class BrainPlanner(ExperimentPlanner):  # type: ignore[misc]
    """nnU-Net's planner; images are normalised within the brain always, not only where the field of view is wide."""

    def determine_normalization_scheme_and_whether_mask_is_used_for_norm(self) -> Any:
        """Return nnU-Net's schemes; every one that can keep to the mask does: outside it images are 0."""
        # nnU-Net asks how much cropping takes away, which here says how tightly the scanner's field of view was set.
        self.dataset_fingerprint["median_relative_size_after_cropping"] = 0.0
        return super().determine_normalization_scheme_and_whether_mask_is_used_for_norm()
