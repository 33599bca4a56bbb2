"""Random patients with true masks, and histories without: library and oracle, which share no code, say the same."""

import os

import pytest
from agreement import EVENTS, compare_history, score_patients

# The figures in the documents are those of 200.
N_PATIENTS, N_HISTORIES = int(os.environ.get("METTRAIL_PATIENTS", "100")), 150
LEAST_EVENTS, LEAST_SESSIONS = N_PATIENTS / 4, N_PATIENTS / 10
CATEGORIES = ("CR", "PR", "SD", "PD", "uPD", "NE", "NON_CR_NON_PD")


@pytest.fixture(scope="module")
def score():
    score = score_patients(N_PATIENTS)
    print(f"\nlesions at sessions: {score.pairs['true']}")
    for event, name in EVENTS.items():
        print(f"{name}: {score.events[event]['true']}")
    print(score.by_category("response_overall_final").to_string())
    return score


def test_there_is_enough_of_everything(score):
    assert min(score.events[event]["true"] for event in EVENTS) >= LEAST_EVENTS
    sessions = score.by_category("response_overall_final")["sessions"]
    assert min(sessions.get(category, 0) for category in CATEGORIES) >= LEAST_SESSIONS, sessions


def test_every_lesion_is_who_it_is(score):
    assert score.identity_f1 == 1
    assert score.switches == 0


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_found_and_no_other(score, event):
    assert (score.precision(event), score.recall(event)) == (1, 1)


def test_every_response_size_and_day_is_the_same(score):
    assert not score.differences, "\n".join(["truth / library", *score.differences[:50]])


def test_any_history_of_sizes_has_the_responses_of_the_criteria():
    differences = [line for seed in range(N_HISTORIES) for line in compare_history(seed)]
    assert not differences, "\n".join(["truth / library", *differences[:50]])
