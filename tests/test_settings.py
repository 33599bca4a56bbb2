import copy
import datetime
from pathlib import Path

import pytest
import yaml
from mettrail import settings
from mettrail.errors import InputError
from snakemake.cli import parse_config

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "workflow" / "schemas" / "config.yaml"


@pytest.fixture
def config():
    return yaml.safe_load((ROOT / "config" / "config.yaml").read_text()) | {"bids": "a", "out": "b"}


def test_the_config_that_is_shipped_is_complete_and_valid(config):
    assert settings.check_config(config, SCHEMA) is None


def test_numbers_given_in_braces_on_the_command_line_are_numbers(config):
    meant = copy.deepcopy(config)
    config["match"]["gap_mm"], meant["match"]["gap_mm"] = "4", 4
    config["rano"]["confirm"], meant["rano"]["confirm"] = "false", False
    config["register"]["greedy"]["iterations"], meant["register"]["greedy"]["iterations"] = ["20", "5"], [20, 5]
    config["labels"]["sessions"] = meant["labels"]["sessions"] = ["01"]
    settings.read_numbers(config, SCHEMA)
    assert config == meant
    config["match"]["gap_mm"] = "wide"
    settings.read_numbers(config, SCHEMA)
    with pytest.raises(InputError, match=r"match\.gap_mm"):
        settings.check_config(config, SCHEMA)


def test_an_unknown_setting_is_named_with_what_was_probably_meant(config):
    config["register"]["engin"] = "ants"
    with pytest.raises(InputError, match=r"register\.engin\b") as caught:
        settings.check_config(config, SCHEMA)
    assert "Did you mean engine?" in str(caught.value)


def test_every_single_setting_is_required_and_no_other_is_known(config):
    for block, values in config.items():
        if isinstance(values, dict):
            for key in values:
                short = copy.deepcopy(config)
                del short[block][key]
                with pytest.raises(InputError, match=f"{block}.*{key}"):
                    settings.check_config(short, SCHEMA)
            longer = copy.deepcopy(config)
            longer[block]["surplus"] = 1
            with pytest.raises(InputError, match="surplus"):
                settings.check_config(longer, SCHEMA)


@pytest.mark.parametrize("place", ["bids", "out"])
def test_a_folder_that_was_not_given_is_asked_for(config, place):
    config[place] = ""
    with pytest.raises(InputError, match=r"--config bids=FOLDER out=FOLDER"):
        settings.check_config(config, SCHEMA)


def test_values_out_of_range_are_refused(config):
    config["threads"] = 0
    with pytest.raises(InputError, match="threads"):
        settings.check_config(config, SCHEMA)


IMPOSSIBLE = [
    # Not numbers, or no end
    ("rano.pd", float("nan"), "rano.pd"),
    ("rano.pr", float("inf"), "rano.pr"),
    ("rano.pr", 0, "rano.pr"),
    ("strip.volume_warn_ml", [float("nan"), 2000], "strip.volume_warn_ml.0"),
    ("register.ants.step", float("inf"), "register.ants.step"),
    ("train.alpha.sensitive", float("nan"), "train.alpha.sensitive"),
    ("sensitivity.values", {"match.gap_mm": [1, float("nan")]}, "sensitivity.values.match.gap_mm.1"),
    # In the wrong order
    ("strip.volume_warn_ml", [2000, 900], "strip.volume_warn_ml"),
    ("rano.treatment_effect_days", [540, 90], "rano.treatment_effect_days"),
    ("strip.fit_fail", 0.9, "strip.fit_fail and strip.fit_warn"),
    ("register.dice_fail", 0.97, "register.dice_fail and register.dice_warn"),
    ("instances.keep_mm3", 11, "instances.keep_mm3 and instances.birth_mm3"),
    ("instances.keep_vox", 4, "instances.keep_vox and instances.birth_vox"),
    ("rano.perp_min_mm", 11, "rano.perp_min_mm and rano.ld_min_mm"),
    ("train.priors.fictitious_dilate_vox", [6, 0], "train.priors.fictitious_dilate_vox"),
    ("train.priors.fictitious_erode_vox", [3, 0], "train.priors.fictitious_erode_vox"),
    ("train.priors.fictitious_shift_vox", [6, -6], "train.priors.fictitious_shift_vox"),
    ("train.priors.nothing_radius_mm", [7, 1.5], "train.priors.nothing_radius_mm"),
    ("sensitivity.values", {"rano.treatment_effect_days": [[9, 8]]}, "sensitivity.values: rano.treatment_effect_days"),
    # Out of range, or of another kind
    ("train.tile_vox", 0, "train.tile_vox"),
    ("train.tile_vox", 0.001, "train.tile_vox"),
    ("threads", 2.5, "threads"),
    ("threads", True, "threads"),
    ("rano.confirm", "maybe", "rano.confirm"),
    ("rano.confirm", "{", "rano.confirm"),
    ("match.gap_mm", "wide", "match.gap_mm"),
    ("match.gap_mm", "12:30", "match.gap_mm"),
    ("sensitivity.values", {"match.frac": [0.5, 7]}, "sensitivity.values: match.frac"),
    ("sensitivity.values", {"rano.confirm": ["maybe"]}, "sensitivity.values: rano.confirm"),
    ("rano", None, "rano"),
    ("sensitivity", None, "sensitivity"),
    ("sensitivity.values", None, "sensitivity.values"),
    ("sensitivity.values", {"match.gap_mm": 3}, "sensitivity.values.match.gap_mm"),
    ("rano", {1: 2}, "rano.1"),
    # Wildcards of Snakemake
    ("out", "run{1}", "out"),
    ("out", "run}", "out"),
    ("strip.hd_bet_weights", "{name}.pth", "strip.hd_bet_weights"),
]
# What Snakemake and YAML make of text that looks like something else.
NO_TEXT = {
    "out": [20240101, 7, 1e5, float("1e3"), True, datetime.date(2024, 1, 1)],
    "bids": [7, 0, False],
    "overrides": [7],
    "frozen": [20240101],
    "labels.folder": [7],
    "labels.sessions": [[1, 2], ["01", 2], [datetime.date(2031, 1, 1)], [True]],
    "index.edits": [7],
    "segment.models.detection": [7, [7]],
    "train.test_patients": [[1], ["A", 2]],
    "train.task": [1.1],
    "train.licence": [4.0],
    "sequences": [["T1w", False]],
    "segment.fusion.rule": [1],
}


def change(config, name, value):
    *blocks, key = name.split(".")
    for block in blocks:
        config = config[block]
    config[key] = value


def refuse(config):
    settings.read_numbers(config, SCHEMA)
    with pytest.raises(InputError) as caught:
        settings.check_config(config, SCHEMA)
    return caught.value


@pytest.mark.parametrize(("name", "value", "named"), IMPOSSIBLE, ids=lambda part: str(part)[:60])
def test_what_cannot_be_meant_is_refused_by_name(config, name, value, named):
    change(config, name, value)
    assert refuse(config).what == f"config: {named}"


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in NO_TEXT.items() for value in values])
def test_a_number_where_text_was_meant_is_told_how_to_be_quoted(config, name, value):
    change(config, name, value)
    error = refuse(config)
    assert error.what.startswith(f"config: {name}")
    assert error.reason == "not_text"
    assert '"007"' in error.advice
    assert ("--config" in error.advice) == ("." not in error.what.removeprefix("config: "))


@pytest.mark.parametrize(
    ("typed", "read"),
    [("out=./007", "./007"), ("out=results", "results"), ("out=run-007", "run-007"), ("out=true", "true")],
)
def test_a_path_is_text_as_it_was_typed(config, typed, read):
    config.update(parse_config([typed]))
    settings.read_numbers(config, SCHEMA)
    settings.check_config(config, SCHEMA)
    assert config["out"] == read


@pytest.mark.parametrize(
    "typed", ["out=20240101", "bids=007", "out=1e5", "out=True", "out=nan", "out=run{1}", "out=[a]", "bids={1}"]
)
def test_what_snakemake_makes_of_a_name_is_refused(config, typed):
    config.update(parse_config([typed]))
    assert refuse(config).what == f"config: {typed.partition('=')[0]}"


@pytest.mark.parametrize(
    ("typed", "name", "meant"),
    [
        ("match={gap_mm: 010}", "gap_mm", 10),
        ("match={gap_mm: 1e1}", "gap_mm", 10.0),
        ("match={miss_max_sessions: 2.0}", "miss_max_sessions", 2),
        ("instances={connectivity: 18}", "connectivity", 18),
        ("instances={birth_mm3: 10.5}", "birth_mm3", 10.5),
    ],
)
def test_numbers_on_the_command_line_are_decimal(config, typed, name, meant):
    block, given = next(iter(parse_config([typed]).items()))
    config[block] |= given
    settings.read_numbers(config, SCHEMA)
    settings.check_config(config, SCHEMA)
    assert config[block][name] == meant
    assert type(config[block][name]) is type(meant)


def test_values_to_try_are_numbers_even_from_the_command_line(config):
    config["sensitivity"] |= parse_config(["sensitivity={values: {match.gap_mm: [1, 2.5]}}"])["sensitivity"]
    settings.read_numbers(config, SCHEMA)
    settings.check_config(config, SCHEMA)
    assert config["sensitivity"]["values"] == {"match.gap_mm": [1, 2.5]}


def test_limits_may_be_the_same(config):
    for name in settings.RANGES:
        change(config, name, [2, 2])
    config["sensitivity"]["values"] = {"instances.keep_mm3": [9]}
    for low, high in settings.ORDERED:
        change(config, low, 1)
        change(config, high, 1)
    assert settings.check_config(config, SCHEMA) is None


def test_every_pair_of_limits_is_held_in_order():
    rules = yaml.safe_load(SCHEMA.read_text())

    def pairs(rule, name):
        for key, each in rule.get("properties", {}).items():
            yield from pairs(each, f"{name}.{key}")
        if rule.get("minItems") == rule.get("maxItems") == 2 and not name.endswith("smooth_vox"):
            yield name.removeprefix(".")

    assert set(pairs(rules, "")) == set(settings.RANGES)


def test_the_hash_tells_settings_apart_and_not_places(config):
    first = settings.config_hash(config)
    assert settings.config_hash(config | {"out": "elsewhere", "threads": 7, "overrides": "there"}) == first
    assert settings.config_hash(config | {"labels": config["labels"] | {"folder": "/masks"}}) == first
    assert settings.config_hash(config | {"labels": config["labels"] | {"scheme": "instances"}}) != first
    config["rano"]["pr"] = 0.31
    assert settings.config_hash(config) != first
