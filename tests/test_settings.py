import copy
from pathlib import Path

import pytest
import yaml
from mettrail import settings
from mettrail.errors import InputError

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "workflow" / "schemas" / "config.yaml"


@pytest.fixture
def config():
    return yaml.safe_load((ROOT / "config" / "config.yaml").read_text()) | {"bids": "a", "out": "b"}


def test_the_config_that_is_shipped_is_complete_and_valid(config):
    settings.check_config(config, SCHEMA)


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


def test_the_hash_tells_settings_apart_and_not_places(config):
    first = settings.config_hash(config)
    assert settings.config_hash(config | {"out": "elsewhere", "threads": 7}) == first
    config["rano"]["pr"] = 0.31
    assert settings.config_hash(config) != first
