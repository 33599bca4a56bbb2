"""Model folders made to do harm or nonsense: each is refused by the file's name, and nothing of it is run."""

import hashlib
import json
import os
import pickle
import shutil
import struct
import sys

import numpy as np
import pytest
import torch
from mettrail import segmentation
from mettrail.errors import ModelError
from mettrail.segmentation import architectures, models
from mettrail.training import cases
from safetensors.torch import load_file, save_file

PLANS, DATASET, DESCRIPTION = "plans.json", "dataset.json", "mettrail.json"
SAFE, CHECKPOINT = "fold_0/weights.safetensors", "fold_0/checkpoint_final.pth"
CONFIGURATION = "3d_fullres"
UNET = "dynamic_network_architectures.architectures.unet"
SONG = "import os, pathlib\nos.environ['CANARY'] = 'sings'\npathlib.Path('canary').touch()\n"
HUB = SONG + "def network(*args, **kwargs):\n    return None\n"
NETWORK = {
    "features": [4, 8], "convs_encoder": [1, 1], "convs_decoder": [1], "patch": [16, 16, 16], "batch": 2
}  # fmt: skip

PROCESSES = []


def _watch(event, arguments):
    if event in ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen"):
        PROCESSES.append((event, arguments))


sys.addaudithook(_watch)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder that is as it should be."""
    folder = tmp_path_factory.mktemp("models") / "m"
    plans, dataset = cases.make_plans("detection", **NETWORK), cases.make_dataset_json("detection", cases=2)
    torch.manual_seed(1)
    network = architectures.build_from_plans(plans, CONFIGURATION, channels=1, outputs=4, path=folder)
    description = {
        "task": "detection", "input": "brain", "channels": ["ce-gadolinium_T1w"], "configuration": CONFIGURATION,
        "spacing_mm": [1, 1, 1], "normalisation": ["ZScoreNormalization"], "mirror_axes": [], "tile": None,
        "threshold": 0.5, "min_component_score": 0, "trained_on": "nothing", "licence": "none",
    }  # fmt: skip
    models.write_model(folder, network, plans=plans, dataset=dataset, description=description, card="", half=False)
    (folder / "hubconf.py").write_text(HUB)
    return folder


def rehash(folder):
    """State the hashes that the files have now, as whoever tampers would."""
    description = json.loads((folder / DESCRIPTION).read_text())
    names = [PLANS, DATASET, *(str(p.relative_to(folder)) for p in folder.glob("fold_*/*"))]
    description["sha256"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names if (folder / name).is_file()
    }
    (folder / DESCRIPTION).write_text(json.dumps(description))


def raw(name, content):
    """Write these bytes in place of a file."""

    def act(folder):
        data = content((folder / name).read_bytes()) if callable(content) else content
        (folder / name).unlink()
        (folder / name).write_bytes(data)
        if name != DESCRIPTION:
            rehash(folder)

    return act


def edit(name, change):
    """Change a JSON file's content, or put something else in its place."""

    def act(content):
        read = json.loads(content)
        new = change(read)
        return json.dumps(read if new is None else new).encode()

    return raw(name, act)


def described(**values):
    return edit(DESCRIPTION, lambda d: d.update(values))


def planned(**values):
    return edit(PLANS, lambda d: d["configurations"][CONFIGURATION].update(values))


def built(name=None, /, *, imported=(), **arguments):
    """Change the network that the plans describe."""

    def change(plans):
        architecture = plans["configurations"][CONFIGURATION]["architecture"]
        architecture["network_class_name"] = name or architecture["network_class_name"]
        if name:
            architecture |= {"arch_kwargs": {}, "_kw_requires_import": []}
        architecture["arch_kwargs"] |= arguments
        architecture["_kw_requires_import"] += imported

    return edit(PLANS, change)


def text(name, old, new):
    return raw(name, lambda content: content.decode().replace(old, new, 1).encode())


def unhashed(act):
    """Do something and leave the hashes as they were."""

    def whole(folder):
        before = json.loads((folder / DESCRIPTION).read_text())["sha256"]
        act(folder)
        edit(DESCRIPTION, lambda d: d.update(sha256=before))(folder)

    return whole


def link(name, target):
    """Put a link in place of a file, to a copy of it that lies outside."""

    def act(folder):
        (folder / name).rename(folder.parent / "outside")
        (folder / name).symlink_to(target(folder))

    return act


def fifo(folder):
    (folder / PLANS).unlink()
    os.mkfifo(folder / PLANS)


def directory(folder):
    (folder / PLANS).unlink()
    (folder / PLANS).mkdir()


def copy_fold(folder):
    shutil.copytree(folder / "fold_0", folder / "fold_1")


def lose_fold(folder):
    copy_fold(folder)
    rehash(folder)
    shutil.rmtree(folder / "fold_1")


def fold_elsewhere(folder):
    (folder / "fold_0").rename(folder.parent / "fold_0")
    (folder / "fold_0").symlink_to(folder.parent / "fold_0")


class Harmful:
    def __reduce__(self):
        return exec, (SONG,)


def checkpoint(save):
    def act(folder):
        (folder / SAFE).unlink()
        save(folder / CHECKPOINT)
        rehash(folder)

    return act


def tensors(change):
    """Change what weights.safetensors holds."""

    def act(folder):
        read = load_file(folder / SAFE)
        change(read)
        save_file(read, folder / SAFE)
        rehash(folder)

    return act


def header(change):
    """Change the header of weights.safetensors."""

    def act(content):
        (size,) = struct.unpack("<Q", content[:8])
        read = json.loads(content[8 : 8 + size])
        change(read)
        new = json.dumps(read).encode()
        return struct.pack("<Q", len(new)) + new + content[8 + size :]

    return raw(SAFE, act)


def forget_plans(description):
    del description["sha256"][PLANS]


def swap_hashes(description):
    hashes = description["sha256"]
    hashes[PLANS], hashes[DATASET] = hashes[DATASET], hashes[PLANS]


def old_plans(plans):
    """Plans as nnU-Net wrote them before 2.4."""
    configuration = plans["configurations"][CONFIGURATION]
    arguments = configuration.pop("architecture")["arch_kwargs"]
    configuration |= {
        "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 4, "unet_max_num_features": 8,
        "n_conv_per_stage_encoder": arguments["n_conv_per_stage"], "num_pool_per_axis": [1, 1, 1],
        "n_conv_per_stage_decoder": arguments["n_conv_per_stage_decoder"],
        "pool_op_kernel_sizes": arguments["strides"], "conv_kernel_sizes": arguments["kernel_sizes"],
    }  # fmt: skip


def hostile_old_plans(plans):
    old_plans(plans)
    plans["configurations"][CONFIGURATION]["UNet_class_name"] = "os.system"


def inherit(parent, **others):
    def change(plans):
        plans["configurations"] |= others
        plans["configurations"][CONFIGURATION]["inherits_from"] = parent

    return edit(PLANS, change)


SING = {"command": "touch canary"}
HUB_ARGUMENTS = {"repo_or_dir": ".", "model": "network", "source": "local"}

# What is done to a folder, and the file that has to be named.
TAMPERED = {
    # Names of networks and parts
    "torch.hub behind a module": (built("mettrail.training.losses.torch.hub.load", **HUB_ARGUMENTS), PLANS),
    "os.system behind torch.nn": (
        built(nonlin="torch.nn.modules.module.warnings.os.system", nonlin_kwargs=SING), PLANS),
    "os.system through torch itself": (
        built(nonlin="torch.nn.modules.module.torch.os.system", nonlin_kwargs=SING), PLANS),
    "os.system as the network": (built("torch.nn.modules.module.warnings.os.system", **SING), PLANS),
    "a process as the network": (built("subprocess.check_call", args="touch canary", shell=True), PLANS),
    "a module of the folder": (built("hubconf.network"), PLANS),
    "a module of the folder as a part": (built(norm_op="hubconf.network"), PLANS),
    "the import function": (built("builtins.__import__", name="hubconf"), PLANS),
    "the import function by its bare name": (built("__import__", name="hubconf"), PLANS),
    "eval": (built(nonlin="builtins.eval", nonlin_kwargs={"source": 1}), PLANS),
    "attributes of attributes": (built("torch.nn.Module.__init__.__globals__"), PLANS),
    "a method of a network": (built(f"{UNET}.PlainConvUNet.initialize"), PLANS),
    "torch.load through a network's module": (built(f"{UNET}.torch.load", f=CHECKPOINT, weights_only=False), PLANS),
    "shutil.rmtree through our own module": (built("mettrail.segmentation.models.shutil.rmtree", path="."), PLANS),
    "a network's name in another place": (built("hubconf.PlainConvUNet"), PLANS),
    "a network's name with a line break": (built(f"{UNET}.PlainConvUNet\n"), PLANS),
    "a network's name with a letter from Cyrillic": (built(f"{UNET}.PlainC\u043envUNet"), PLANS),
    "a network's name that is a list": (built([f"{UNET}.PlainConvUNet"]), PLANS),
    "a part in a list": (built(nonlin=["torch.nn.LeakyReLU"]), PLANS),
    "a part that is no nonlinearity": (built(nonlin="torch.nn.Conv3d"), PLANS),
    "a container of modules as a part": (built(nonlin="torch.nn.Sequential"), PLANS),
    "another argument that is to be imported": (built(imported=["block"], block="os.system"), PLANS),
    "an argument that networks do not have": (built(hook="os.system"), PLANS),
    "an argument that we give": (built(num_classes=4), PLANS),
    # Names that nnU-Net looks up
    "another label manager": (edit(PLANS, lambda d: d.update(label_manager="join")), PLANS),
    "another preprocessor": (planned(preprocessor_name="join"), PLANS),
    "another normalisation": (planned(normalization_schemes=["ABC"]), PLANS),
    "another resampling": (planned(resampling_fn_data="recursive_find_python_class"), PLANS),
    "another resampling of probabilities": (planned(resampling_fn_probabilities="sys"), PLANS),
    "an argument of resampling": (planned(resampling_fn_seg_kwargs={"device": "cuda:7"}), PLANS),
    "an argument of another resampling": (planned(resampling_fn_seg="resample_torch_fornnunet"), PLANS),
    "an old plan's network": (edit(PLANS, hostile_old_plans), PLANS),
    "a configuration that inherits from itself": (inherit(CONFIGURATION), PLANS),
    "configurations in a circle": (inherit("b", b={"inherits_from": CONFIGURATION}), PLANS),
    "a configuration that inherits from a file": (inherit("../../secret"), PLANS),
    "a configuration that inherits from a list": (inherit(["3d_lowres"]), PLANS),
    "a configuration by a path": (described(configuration="../../secret"), PLANS),
    "a configuration's name that clears the screen": (
        edit(PLANS, lambda d: d["configurations"].update({"\x1b[2J": {}})), PLANS),
    # Numbers
    "a kernel of a thousand million": (built(kernel_sizes=[[10**9] * 3] * 2), PLANS),
    "channels that take terabytes": (built(features_per_stage=[4096] * 2, kernel_sizes=[[99] * 3] * 2), PLANS),
    "a million stages": (built(n_stages=10**6), PLANS),
    "a million convolutions": (built(n_conv_per_stage=10**6), PLANS),
    "fewer channels than none": (built(features_per_stage=[-4, 8]), PLANS),
    "half a channel": (built(features_per_stage=[4.5, 8]), PLANS),
    "no channels": (built(features_per_stage=[]), PLANS),
    "a stride of 0": (built(strides=[[1, 1, 1], [0, 2, 2]]), PLANS),
    "strides that the patch does not stand": (built(strides=[[1, 1, 1], [3, 3, 3]]), PLANS),
    "true as a number": (built(n_stages=True), PLANS),
    "an epsilon that is not a number": (built(norm_op_kwargs={"eps": float("nan")}), PLANS),
    "a patch that is not a number": (planned(patch_size=[float("nan")] * 3), PLANS),
    "a patch without voxels": (planned(patch_size=[0, 16, 16]), PLANS),
    "a patch of a million": (planned(patch_size=[10**6] * 3), PLANS),
    "a patch of two sides": (planned(patch_size=[16, 16]), PLANS),
    "voxels of a nanometre": (planned(spacing=[1e-6] * 3), PLANS),
    "infinite voxels": (planned(spacing=[float("inf")] * 3), PLANS),
    "a number beyond all floats": (text(PLANS, '"eps": 1e-05', '"eps": 1e999'), PLANS),
    "a number of 5,000 digits": (text(PLANS, '"n_stages": 2', '"n_stages": 2' + 5000 * "0"), PLANS),
    "axes that are none": (edit(PLANS, lambda d: d.update(transpose_forward=[0, 0, 7])), PLANS),
    "axes that are not brought back": (edit(PLANS, lambda d: d.update(transpose_forward=[1, 2, 0])), PLANS),
    "more normalisations than channels": (planned(use_mask_for_norm=[True, True]), PLANS),
    "a threshold that is not a number": (described(threshold=float("nan")), DESCRIPTION),
    "a threshold in words": (described(threshold="0.5"), DESCRIPTION),
    "a threshold of true": (described(threshold=True), DESCRIPTION),
    "an infinite component score": (described(min_component_score=float("inf")), DESCRIPTION),
    "an edge's threshold that is a list": (described(edge_threshold=[0.1]), DESCRIPTION),
    "a calibration without end": (described(calibration={"intercept": 0, "slope": float("inf")}), DESCRIPTION),
    "a calibration that is a program": (described(calibration={"intercept": "print()", "slope": 1}), DESCRIPTION),
    "a candidate's threshold that is a list": (described(candidate_threshold=[0.1]), DESCRIPTION),
    "a tile of a million": (described(tile=[10**6] * 3), DESCRIPTION),
    "a tile of 0": (described(tile=[0, 16, 16]), DESCRIPTION),
    "a tile that the network does not stand": (described(tile=[17, 16, 16]), PLANS),
    "an axis that is none": (described(mirror_axes=[9]), DESCRIPTION),
    "voxels of a size that is not a number": (described(spacing_mm=[float("nan")] * 3), DESCRIPTION),
    # Types and texts
    "a list of plans": (edit(PLANS, lambda d: [d]), PLANS),
    "text instead of configurations": (edit(PLANS, lambda d: d.update(configurations="3d_fullres")), PLANS),
    "text instead of an architecture": (planned(architecture="PlainConvUNet"), PLANS),
    "a description that is a number": (raw(DESCRIPTION, b"7"), DESCRIPTION),
    "a channel that clears the screen": (described(channels=["\x1b[2J"]), DESCRIPTION),
    "a channel twice": (described(channels=["ce-gadolinium_T1w"] * 2), DESCRIPTION),
    "a channel's number that is a path": (edit(DATASET, lambda d: d.update(channel_names={"../0": "T1"})), DATASET),
    "labels that are a list": (edit(DATASET, lambda d: d.update(labels=[0, 1])), DATASET),
    "a label of true": (edit(DATASET, lambda d: d.update(labels={"background": 0, "lesion": True})), DATASET),
    "one label under two names": (
        edit(DATASET, lambda d: d.update(labels={"background": 0, "lesion": 1, "enhancing": 2})), DATASET),
    "nothing": (raw(PLANS, b""), PLANS),
    "a hundred thousand brackets": (raw(PLANS, b"[" * 100_000), PLANS),
    "brackets within a value": (planned(architecture=json.loads("[" * 400 + "]" * 400)), PLANS),
    "a byte order mark": (raw(PLANS, lambda content: b"\xef\xbb\xbf" + content), PLANS),
    "UTF-16": (raw(PLANS, lambda content: content.decode().encode("utf-16")), PLANS),
    "Latin-1": (raw(DATASET, lambda content: content.replace(b"501_", b"501\xe4")), DATASET),
    "zeros at the end": (raw(PLANS, lambda content: content + b"\0\0"), PLANS),
    "a key twice": (text(PLANS, '"label_manager"', '"label_manager": "join", "label_manager"'), PLANS),
    "a key twice in the description": (text(DESCRIPTION, '"threshold"', '"threshold": 0.1, "threshold"'), DESCRIPTION),
    "a file of 20 MB": (raw(PLANS, lambda content: content + b" " * (20 << 20)), PLANS),
    # Hashes and files
    "plans that were changed": (unhashed(built(nonlin="torch.nn.ReLU")), PLANS),
    "a dataset that was changed": (unhashed(edit(DATASET, lambda d: d.update(numTraining=3))), DATASET),
    "hashes that were swapped": (edit(DESCRIPTION, swap_hashes), DATASET),
    "no hash of the plans": (edit(DESCRIPTION, forget_plans), PLANS),
    "no hashes": (described(sha256={}), DATASET),
    "a hash of a file elsewhere": (edit(DESCRIPTION, lambda d: d["sha256"].update({"../../x": "0" * 64})), DESCRIPTION),
    "a hash that is a path": (edit(DESCRIPTION, lambda d: d["sha256"].update({PLANS: "../../x"})), DESCRIPTION),
    "a fold that was added": (copy_fold, "fold_1/weights.safetensors"),
    "a fold that was lost": (lose_fold, "fold_1/weights.safetensors"),
    "weights that are a link": (link(SAFE, lambda folder: folder.parent / "outside"), SAFE),
    "plans that are a link": (link(PLANS, lambda folder: folder.parent / "outside"), PLANS),
    "plans that are a relative link": (link(PLANS, lambda folder: "../outside"), PLANS),
    "a description that is a link": (link(DESCRIPTION, lambda folder: folder.parent / "outside"), DESCRIPTION),
    "a fold that is a link": (fold_elsewhere, SAFE),
    "a link to itself": (link(PLANS, lambda folder: PLANS), PLANS),
    "a pipe": (fifo, PLANS),
    "a directory": (directory, PLANS),
    # Weights
    "a checkpoint that runs code": (
        checkpoint(lambda path: torch.save({"network_weights": Harmful()}, path)), CHECKPOINT),
    "a pickle that runs code": (
        checkpoint(lambda path: path.write_bytes(pickle.dumps({"network_weights": Harmful()}))), CHECKPOINT),
    "a checkpoint of an older torch that runs code": (
        checkpoint(lambda p: torch.save({"network_weights": Harmful()}, p, _use_new_zipfile_serialization=False)),
        CHECKPOINT),
    "a checkpoint without weights": (checkpoint(lambda path: torch.save({"weights": {}}, path)), CHECKPOINT),
    "a checkpoint that is a list": (checkpoint(lambda path: torch.save([1], path)), CHECKPOINT),
    "weights that are a number": (checkpoint(lambda path: torch.save({"network_weights": 1}, path)), CHECKPOINT),
    "weights that are numbers": (
        checkpoint(lambda path: torch.save({"network_weights": {"a": np.float64(1)}}, path)), CHECKPOINT),
    "a checkpoint cut short": (checkpoint(lambda path: path.write_bytes(b"PK\x03\x04")), CHECKPOINT),
    "a pickle under another name": (raw(SAFE, pickle.dumps(Harmful())), SAFE),
    "weights cut short": (raw(SAFE, lambda content: content[:-100]), SAFE),
    "a header of a petabyte": (raw(SAFE, lambda content: struct.pack("<Q", 10**15) + content[8:]), SAFE),
    "metadata that are no text": (header(lambda d: d.update(__metadata__={"hook": ["os.system"]})), SAFE),
    "a tensor that overlaps another": (
        header(lambda d: [t.update(data_offsets=[0, 16]) for t in d.values() if "shape" in t]), SAFE),
    "weights that are not numbers": (
        tensors(lambda read: next(iter(read.values())).fill_(float("nan"))), SAFE),
    "weights of another shape": (tensors(lambda read: read.update({next(iter(read)): torch.zeros(3)})), SAFE),
    "more weights than the network has": (tensors(lambda read: read.update(surplus=torch.zeros(3))), SAFE),
}  # fmt: skip
WEIGHTS = list(TAMPERED)[list(TAMPERED).index("a checkpoint that runs code") :]


@pytest.fixture
def folder(model, tmp_path, monkeypatch):
    """A copy, in which a canary sings as soon as anything of it is run."""
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    monkeypatch.chdir(copy)
    monkeypatch.syspath_prepend(str(copy))
    monkeypatch.delenv("CANARY", raising=False)
    PROCESSES.clear()
    yield copy
    assert not (copy / "canary").exists()
    assert "CANARY" not in os.environ
    assert "hubconf" not in sys.modules
    assert not PROCESSES


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_model_is_refused_and_runs_nothing(folder, monkeypatch, what):
    act, named = TAMPERED[what]
    act(folder)
    read = []
    if what not in WEIGHTS:
        for place in ("torch.load", "safetensors.torch.load_model"):
            monkeypatch.setattr(place, lambda *_, **__: read.append("weights"))
    with pytest.raises(ModelError) as caught:
        segmentation.read_model(folder).read_weights()
    assert caught.value.what == str(folder / named)
    assert not read
    assert len(str(caught.value)) < 3000
    assert "\x1b" not in str(caught.value)


def test_there_are_more_than_forty_of_them():
    assert len(TAMPERED) >= 40


@pytest.mark.parametrize(
    "act",
    [
        lambda folder: None,
        edit(PLANS, old_plans),
        planned(**{f"resampling_fn_{step}": "resample_torch_fornnunet" for step in ("data", "seg", "probabilities")},
                **{f"resampling_fn_{step}_kwargs": {"is_seg": False, "force_separate_z": None}
                   for step in ("data", "seg", "probabilities")}),
        inherit("base", base={"batch_size": 2}),
        edit(PLANS, lambda d: d.update(foreground_intensity_properties_per_channel={"0": {"max": float("nan")}})),
        header(lambda d: d.update(__metadata__={"hook": "__import__('os').system('touch canary')"})),
    ],
    ids=["as it is", "old plans", "torch's resampling", "inheritance", "statistics of nothing", "metadata of code"],
)  # fmt: skip
def test_what_nnunet_writes_is_read(folder, act):
    act(folder)
    (weights,) = segmentation.read_model(folder).read_weights()
    assert weights


def test_an_older_folder_is_told_what_to_write(folder):
    edit(DESCRIPTION, lambda d: d.update(sha256={}))(folder)
    with pytest.raises(ModelError) as caught:
        segmentation.read_model(folder)
    lines = caught.value.advice.partition('"sha256": ')[2]
    edit(DESCRIPTION, lambda d: d.update(sha256=json.loads(lines)))(folder)
    assert segmentation.read_model(folder)
