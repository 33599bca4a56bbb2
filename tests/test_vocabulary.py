"""Words, numbers and dates as people and programs write them."""

import pytest
from mettrail.schema import vocabulary
from mettrail.schema.vocabulary import COLUMNS, UnknownWordError, read_cell


@pytest.mark.parametrize(
    ("column", "text", "canonical"),
    [
        ("contrast", "FALSE", "false"), ("contrast", "No", "false"), ("contrast", "0", "false"),
        ("contrast", "0.0", "false"), ("contrast", "none", "false"), ("contrast", "TRUE", "true"),
        ("contrast", "yes ", "true"), ("contrast", "Given", "true"), ("contrast", "1", "true"),
        ("contrast", "NA", "n/a"), ("contrast", "", "n/a"), ("contrast", "NaN", "n/a"), ("contrast", "N/A", "n/a"),
        ("image_quality", "Fail", "fail"), ("image_quality", "poor", "fail"), ("image_quality", "BAD", "fail"),
        ("image_quality", "non-diagnostic", "fail"), ("image_quality", "ok", "pass"), ("image_quality", "Good", "pass"),
        ("treatment_type", "Immunotherapy", "immunotherapy"), ("treatment_type", "SRS", "srs"),
        ("treatment_type", "srs; immunotherapy", "srs;immunotherapy"),
        ("treatment_type", "Chemo+Immunotherapy", "chemo;immunotherapy"),
        ("treatment_type", "WBRT/srs, surgery & TKI", "wbrt;srs;surgery;targeted"),
        ("treatment_type", "surgery and whole-brain  radiotherapy", "surgery;wbrt"),
        ("treatment_type", "srs;SRS;", "srs"), ("treatment_type", "n/a", "n/a"), ("treatment_type", ";", "n/a"),
        ("steroid_status", "Tapered", "decreased"), ("steroid_status", "None", "none"),
        ("clinical_status", "Better", "improved"), ("clinical_status", "unknown", "unknown"),
        ("clinical_tumour_related", "n", "false"), ("split", "Test", "test"), ("split", "training", "train"),
        ("kps", "90", "90"), ("kps", "100", "100"), ("kps", "0", "0"), ("ecog", "5.0", "5.0"),
        ("dexamethasone_equiv_mg_per_day", "1e1", "1e1"), ("treatment_start_day", "-4.5", "-4.5"),
        ("age", "NA", "n/a"), ("age", "61y", "61y"),
    ],
)  # fmt: skip
def test_a_cell_is_read_as_it_was_meant(column, text, canonical):
    assert read_cell(column, text) == canonical


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2031-03-17", "2031-03-17T00:00:00"),
        ("20310317", "2031-03-17T00:00:00"),
        ("2031-03-17T09:30:00", "2031-03-17T09:30:00"),
        ("2031-03-17 09:30", "2031-03-17T09:30:00"),
        ("20310317T093000", "2031-03-17T09:30:00"),
        ("2031-03-17t09:30:00z", "2031-03-17T09:30:00"),
        ("2031-03-17Z", "2031-03-17T00:00:00"),
        ("2031-03-17T09:30:00.123456789", "2031-03-17T09:30:00.123456"),
        ("2031-03-17T09:30:00,5Z", "2031-03-17T09:30:00.500000"),
        ("2031-03-17T00:30:00+02:00", "2031-03-17T00:30:00"),
        ("2031-03-17T23:30:00 -0800", "2031-03-17T23:30:00"),
        ("1867-03-17T09:30:00", "1867-03-17T09:30:00"),
        ("0001-01-01", "0001-01-01T00:00:00"),
    ],
)
def test_a_date_is_what_the_clock_on_the_wall_showed(text, date):
    assert read_cell("acq_time", text) == date


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [
        *[("acq_time", text, "an ISO 8601 date") for text in (
            "17/03/2031", "17.03.2031", "2031-3-7", "2031-02-30", "2031", "203103", "48000", "2031-03-17T25:00:00",
            "2031-03-17x09:30", "2031-W11-1", "spring", "-", "2031-03-17T", "２０３１-03-17",
        )],
        *[("treatment_start_day", text, "a number") for text in (
            "4 mg", "90%", "4,5", "good", "inf", "1e999", "-inf", "1_000", "0x10", "−5", "４", "January", "#N/A",
        )],
        ("kps", "101", "a number from 0 to 100"), ("kps", "-1", "a number from 0 to 100"),
        ("ecog", "5.1", "a number from 0 to 5"), ("ecog", "-0.1", "a number from 0 to 5"),
        ("dexamethasone_equiv_mg_per_day", "-4", "a number, 0 or more"),
    ],
)  # fmt: skip
def test_what_is_no_number_or_date_says_what_was_expected(column, text, expected):
    with pytest.raises(ValueError, match=expected):
        read_cell(column, text)


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("contrast", "maybe"), ("contrast", "post"), ("contrast", '"false"'), ("contrast", "-"), ("image_quality", "3"),
        ("treatment_type", "pembro"), ("treatment_type", "srs;magic"), ("steroid_status", "yes"),
        ("clinical_status", "bad"), ("clinical_tumour_related", "maybe"), ("split", "both"),
    ],
)  # fmt: skip
def test_a_word_in_no_vocabulary_is_refused_with_the_list(column, text):
    with pytest.raises(UnknownWordError) as error:
        read_cell(column, text)
    assert str(error.value) == vocabulary.describe_words(COLUMNS[column].words)


def test_no_synonym_means_two_words_or_nothing_at_all():
    for name, cell in COLUMNS.items():
        spelt = [each for word, same in cell.words.items() for each in (word, *same)]
        assert len(spelt) == len(set(spelt)), name
        for word, same in cell.words.items():
            assert {read_cell(name, each) for each in (word, *same)} == {word}
