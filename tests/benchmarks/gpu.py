"""The shipped networks on a GPU beside the same on the CPU, and beside nnU-Net's own command with the same weights.

    PYTHONPATH=scripts python tests/benchmarks/gpu.py OUT resources/models SESSIONS

OUT is the held-out cohort as tests/benchmarks/segmentation.py `make` writes it; its first SESSIONS second visits are
segmented by both networks and fused. Printed: sessions a minute, and which share of the voxels that either device calls
lesion both do; on the CPU in single precision, too, since in bfloat16 it is the CPU that rounds. nnU-Net's command
takes the tile of the plans, which is the patch of training; ours is larger.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from mettrail import images, segmentation
from mettrail.segmentation import fusion, prediction, thresholds
from mettrail.segmentation.fusion import NETWORKS
from mettrail.segmentation.model_folder import POST_CONTRAST
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from segmentation import CONFIG, give_channels, path_of


def read_session(out, patient):
    """Return the inputs of a second visit: image, last visit's lesions."""
    scan = images.read_image(path_of(out, "scans", patient, 2, POST_CONTRAST))
    return scan, images.read_labels(path_of(out, "priors", patient, 2, "dseg"))


def segment(networks, scan, prior, device):
    """Run both networks and fuse; (X, Y, Z) labels."""
    found = {}
    for task, model in networks.items():
        p = prediction.predict_probabilities(
            model, give_channels(task, scan, prior), within=None, device=device, threads=torch.get_num_threads()
        )
        found[task] = images.Image(p, np.eye(4))
    fused = fusion.fuse(
        *found.values(),
        prior,
        touch_mm=CONFIG["segment"]["fusion"]["touch_mm"],
        edema_max_mm=CONFIG["measure"]["edema_max_mm"],
    )
    level = thresholds.edge_level(model.description for model in networks.values())
    edged = segmentation.draw_edges(fused, level=level, least_mm3=CONFIG["instances"]["birth_mm3"])
    return segmentation.decide_on_grid(edged, scan.grid)[0].data


def segment_all(networks, sessions, device):
    """Segment every session; return the label maps and sessions a minute."""
    started = time.time()
    labels = [segment(networks, *session, device) for session in sessions]
    return labels, 60 * len(sessions) / (time.time() - started)


def run_nnunet(networks, sessions, device, folder):
    """Give the same to nnU-Net's own command, network by network; sessions a minute, its start included."""
    seconds = 0
    for task, model in networks.items():
        given, trained = folder / task / "in", folder / task / "model"
        (trained / "fold_0").mkdir(parents=True)
        given.mkdir()
        for name in ("dataset.json", "plans.json"):
            (trained / name).write_bytes((model.folder / name).read_bytes())
        checkpoint = {
            "network_weights": model.read_weights()[0],
            "init_args": {"configuration": model.configuration},
            "trainer_name": nnUNetTrainer.__name__,
            "inference_allowed_mirroring_axes": None,
        }
        torch.save(checkpoint, trained / "fold_0/checkpoint_final.pth")
        for number, session in enumerate(sessions):
            for channel, array in enumerate(give_channels(task, *session).values()):
                images.write_image(given / f"case{number:02d}_{channel:04d}.nii.gz", array, np.eye(4))
        begin = "from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder as main; main()"
        where = ["-i", given, "-o", folder / task / "out", "-m", trained]
        how = ["-f", "0", "--disable_tta", "-device", device]
        started = time.time()
        subprocess.run([sys.executable, "-c", begin, *where, *how], check=True, capture_output=True)
        seconds += time.time() - started
    return 60 * len(sessions) / seconds


def agree(ours, theirs):
    """Return the share of the voxels called lesion (1 or 3) by either that both call so."""
    pairs = [[np.isin(labels, (1, 3)) for labels in pair] for pair in zip(ours, theirs)]
    return sum((a & b).sum() for a, b in pairs) / sum((a | b).sum() for a, b in pairs)


def main(out, models, count, device="cuda"):
    """Print the comparison."""
    networks = {task: segmentation.read_model(Path(models) / task) for task in NETWORKS}
    patients = sorted(path.name[4:] for path in (Path(out) / "priors").iterdir())[: int(count)]
    sessions = [read_session(out, patient) for patient in patients]
    segment(networks, *sessions[0], device)
    ours, rate = segment_all(networks, sessions, device)
    print(f"{device}: {rate:.1f} sessions a minute, both networks and fusion", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        rate = run_nnunet(networks, sessions, device, Path(folder))
    print(f"nnU-Net's command on {device}: {rate:.1f} sessions a minute, both networks", flush=True)
    for precision, has_bfloat16 in (
        ("bfloat16, if it has it", prediction.has_bfloat16),
        ("single precision", lambda _: False),
    ):
        prediction.has_bfloat16 = has_bfloat16
        theirs, rate = segment_all(networks, sessions, "cpu")
        print(f"cpu, {torch.get_num_threads()} threads, {precision}: {rate:.1f} sessions a minute", flush=True)
        print(f"  of the voxels that either calls lesion both do: {agree(ours, theirs):.2%}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
