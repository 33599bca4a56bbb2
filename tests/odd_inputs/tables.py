"""Tables as editors, spreadsheets and scripts leave them."""

from odd_inputs.making import CE, DEX, case, not_used, patient_out, refused, session_out, told, used

TABLE, OWN = "participants.tsv", "sub-01_sessions.tsv"
TABLE_OUT = patient_out("bad_table", OWN)


# Hands on participants.tsv (P) and on sub-01_sessions.tsv (S).
def text(which, change):
    """Change the text of a table; the new one may be bytes."""

    def disturb(c):
        path = c.participants if which == "P" else c.sessions
        new = change(path.read_text())
        path.write_bytes(new.encode() if isinstance(new, str) else new)

    return disturb


def each_line(which, change):
    return text(which, lambda t: "".join(change(n, line) + "\n" for n, line in enumerate(t.splitlines(), 1)))


def encoded(which, encoding, start=""):
    return text(which, lambda t: (start + t.replace("lung", "Lungenkrebs, Größe 3")).encode(encoding))


def row_id(new):
    return lambda c: c.replace(c.participants, "sub-01\t", f"{new}\t")


def participant(column, value):
    return lambda c: c.participant(column, value)


def start(value):
    return participant("treatment_start_date", value)


def start_day(value):
    def disturb(c):
        c.participant("treatment_start_date", "n/a")
        c.participant("treatment_start_day", value)

    return disturb


def treatment(value):
    return participant("treatment_type", value)


def cell(column, value, ses="02"):
    return lambda c: c.cell(column, value, ses)


def dates(*values):
    """The acquisition times of all three sessions."""
    return lambda c: [c.cell("acq_time", value, ses) for ses, value in zip(("01", "02", "03"), values)]


def instead(name):
    """The table is there under another name only."""
    return lambda c: c.move(c.participants if "participants" in name.lower() else c.sessions, name)


def scans_table(c, ses, *rows):
    lines = ["filename\tacq_time", *("\t".join(row) for row in rows)]
    c.write(c.patient / f"ses-{ses}/sub-01_ses-{ses}_scans.tsv", "\n".join(lines) + "\n")


def anat(ses, role=CE):
    return f"anat/sub-01_ses-{ses}_{role}.nii.gz"


def dates_in_scans(c, name=anat):
    """The dates are in scans.tsv; the first row there is another scan's, of another day."""
    days = {"01": "2031-01-10", "02": "2031-03-11", "03": "2031-05-11"}
    for ses, day in [(s, d) for s, d in days.items() if c.scan(ses=s).exists()]:
        other = (anat(ses, "T2w"), "2030-12-24T08:00:00")
        scans_table(c, ses, other, (name(ses), f"{day}T09:30:00"))


def only_scans(c, name=anat):
    dates("n/a", "n/a", "n/a")(c)
    dates_in_scans(c, name)


def no_sessions_table(c):
    dates_in_scans(c)
    c.sessions.unlink()


def two_rows(c):
    c.lines(c.sessions, lambda lines: [*lines, lines[2]])


def two_rows_that_differ(c):
    c.lines(c.sessions, lambda lines: [*lines, lines[2].replace("2031-03-11", "2031-04-11")])


def dangling_table(which):
    def disturb(c):
        path = c.participants if which == "P" else c.sessions
        path.unlink()
        path.symlink_to("../.git/annex/objects/gone.tsv")

    return disturb


def table_is_folder(c):
    c.participants.unlink()
    c.participants.mkdir()


def warning(column, value, what="n/a", ses="02", file=OWN):
    """The cell is not used, and file, column and value are said."""
    return used(says=(file, column, value), **{column: {ses: what}})


def no_start(value, file=TABLE):
    """The start of treatment is not used, and that is said."""
    return used(says=(file, value), treatment_start_day="n/a")


def read_or_refused(which, says=()):
    return [used(), refused(TABLE, *says)] if which == "P" else [used(), patient_out("bad_table", (OWN, *says))]


ROWS = [
    # Who a row of participants.tsv is for.
    *[case(f"participants.tsv has {name!r} for sub-01", "Excel", row_id(name), refused(TABLE, name, "sub-01", "line 2"))
      for name in ("1", "001", "sub-001", "sub-1", "SUB-01", "Sub-01")],
    *[case(f"participants.tsv has {name!r} for sub-01", "Excel", row_id(name), used(quiet=True))
      for name in ("sub-01 ", " sub-01", "01")],
    case("participants.tsv has a hard blank behind sub-01", "Excel", row_id("sub-01\xa0"), used(),
         refused(TABLE, "sub-01")),
    case("participants.tsv has sub_01", "user", row_id("sub_01"),
         refused(TABLE, "sub_01"), not_used("nobody", "sub_01", treatment_start_day="n/a")),
    case("a row for nobody", "user", text("P", lambda t: t + "sub-99\tn/a\tn/a\tsrs\tlung\n"),
         not_used("nobody", ("sub-99", "line 5"))),
    case("no row is anybody's", "user", text("P", lambda t: t.replace("sub-0", "CQ")), refused(TABLE, "CQ1"),
         not_used("nobody", "CQ1", treatment_start_day="n/a"), gone=("02", "03")),
    case("a row nearly somebody's who has one", "user", text("P", lambda t: t + "sub-001\tn/a\tn/a\tsrs\tlung\n"),
         not_used("nobody", "sub-001"), refused(TABLE, "sub-001")),
    case("two rows for one patient", "user", text("P", lambda t: t + "sub-01\t2031-02-15\tn/a\twbrt\tlung\n"),
         refused(TABLE, "sub-01", "line")),
    case("the same row twice", "user", text("P", lambda t: t + t.splitlines()[1] + "\n"),
         refused(TABLE, "sub-01", "line")),
    case("one patient with and without sub-", "user", text("P", lambda t: t + "01\tn/a\tn/a\tsrs\tlung\n"),
         refused(TABLE, "line")),
    case("a patient without a row", "BIDS", each_line("P", lambda n, line: line.replace("sub-01", "sub-99")),
         not_used("nobody", "sub-99", treatment_start_day="n/a")),
    case("no participants.tsv at all", "BIDS", lambda c: c.participants.unlink(),
         used(quiet=True, treatment_start_day="n/a"), gone=("02", "03")),
    # Shape of participants.tsv.
    case("a tab at the end of every row but the header", "Excel", each_line("P", lambda n, line: line + "\t" * (n > 1)),
         used(), refused(TABLE, "line 2")),
    case("a tab at the end of every line", "Excel", each_line("P", lambda n, line: line + "\t"), used(),
         refused(TABLE, "line 1")),
    case("a tab at the end of the header", "Excel", each_line("P", lambda n, line: line + "\t" * (n == 1)),
         used(), refused(TABLE, "line")),
    case("three tabs at the end of one row", "Excel", each_line("P", lambda n, line: line + "\t\t\t" * (n == 2)),
         used(), refused(TABLE, "line 2")),
    case("a row has a cell too many", "user", each_line("P", lambda n, line: line + "\tx" * (n == 3)),
         refused(TABLE, "line 3")),
    case("a row has a cell too few", "user", each_line("P",
         lambda n, line: line.rsplit("\t", 1)[0] if n == 3 else line), refused(TABLE, "line 3")),
    case("a tab at the start of a row", "user", each_line("P", lambda n, line: "\t" * (n == 2) + line),
         refused(TABLE, "line 2")),
    case("two tabs between two cells", "user", each_line("P",
         lambda n, line: line.replace("\t", "\t\t", 1) if n == 2 else line), refused(TABLE, "line 2")),
    case("blanks for tabs", "user", text("P", lambda t: t.replace("\t", "    ")), refused(TABLE, "tab")),
    case("blanks for tabs in one row", "user", each_line("P",
         lambda n, line: line.replace("\t", "    ") if n == 3 else line), refused(TABLE, "line 3")),
    case("commas for tabs", "Excel", text("P", lambda t: t.replace("\t", ",")), refused(TABLE, "tab", "comma"),
         refused(TABLE, "tab", "','"), refused(TABLE, "tab", ",")),
    case("semicolons for tabs", "Excel", text("P", lambda t: t.replace("\t", ";")), refused(TABLE, "tab")),
    case("an index column from pandas", "pandas", each_line("P",
         lambda n, line: ("" if n == 1 else str(n - 2)) + "\t" + line),
         used(), refused(TABLE, "participant_id"), refused(TABLE, "line 1")),
    case("blank lines at the end", "user", text("P", lambda t: t + "\n\n   \n"), used(quiet=True)),
    case("rows of tabs at the end", "Excel", text("P", lambda t: t + "\t\t\t\t\n" * 3), used(),
         refused(TABLE, "line 5")),
    case("a blank line in the middle", "user", text("P", lambda t: t.replace("\nsub-02", "\n\nsub-02")), used(),
         refused(TABLE, "line 3")),
    case("a blank line at the start", "user", text("P", lambda t: "\n" + t), used(), refused(TABLE, "line 1")),
    case("a line of remarks at the start", "user", text("P", lambda t: "# exported 2031-06-01\n" + t), used(),
         refused(TABLE, "line 1"), refused(TABLE, "participant_id")),
    case("no line break at the end", "user", text("P", str.rstrip), used(quiet=True)),
    case("line ends of Windows", "Excel", text("P", lambda t: t.replace("\n", "\r\n")), used(quiet=True)),
    case("line ends of the old Macintosh", "Excel", text("P", lambda t: t.replace("\n", "\r")), used(), refused(TABLE)),
    case("an empty participants.tsv", "filesystem", text("P", lambda t: ""), refused(TABLE)),
    case("participants.tsv is nothing but zeros", "filesystem", text("P", lambda t: bytes(400)), refused(TABLE)),
    case("a zero byte in a cell", "filesystem", text("P", lambda t: t.replace("lung", "lu\0ng")), used(),
         refused(TABLE)),
    case("participants.tsv has a header only", "user", text("P", lambda t: t.splitlines()[0] + "\n"),
         used(treatment_start_day="n/a"), refused(TABLE), gone=("02", "03")),
    case("participants.tsv was not fetched", "annex", dangling_table("P"), refused(TABLE)),
    case("participants.tsv is a pointer into the annex", "annex", text("P",
         lambda t: "/annex/objects/MD5E-s99--00.tsv\n"), refused(TABLE)),
    case("participants.tsv is a folder", "filesystem", table_is_folder, refused(TABLE)),
    case("participants.tsv is an Excel file by another name", "Excel", text("P",
         lambda t: b"PK\3\4\x14\0\6\0" + bytes(range(256)) * 4), refused(TABLE)),
    case("participants.tsv is the web page of a login", "user", text("P",
         lambda t: "<!DOCTYPE html>\n<html><body>Log in</body></html>\n"), refused(TABLE)),
    *[case(f"the table of patients is called {name}", "Excel", instead(name), refused(name), told(name))
      for name in ("participants.csv", "participants.xlsx", "participants.tsv.txt", "Participants.tsv")],
    # Its columns.
    case("the first column has another name", "user", text("P", lambda t: t.replace("participant_id", "subject_id")),
         refused(TABLE, "participant_id")),
    case("participant_id in capitals", "user", text("P", lambda t: t.replace("participant_id", "Participant_ID")),
         used(), refused(TABLE, "participant_id")),
    case("participant_id is the last column", "user", each_line("P",
         lambda n, line: "\t".join([*line.split("\t")[1:], line.split("\t")[0]])),
         used(), refused(TABLE, "participant_id")),
    case("a column twice", "user", each_line("P",
         lambda n, line: line + "\t" + ["treatment_start_date", "n/a", "n/a", "n/a"][n - 1]),
         refused(TABLE, "treatment_start_date")),
    case("a column's name has a blank behind it", "Excel", text("P",
         lambda t: t.replace("treatment_start_date", "treatment_start_date ")),
         used(), refused(TABLE, "treatment_start_date"), told("treatment_start_date")),
    case("a column's name in capitals", "user", text("P",
         lambda t: t.replace("treatment_start_date", "Treatment_Start_Date")),
         used(), refused(TABLE, "Treatment_Start_Date"), told("Treatment_Start_Date")),
    case("a column's name is misspelt", "user", text("P",
         lambda t: t.replace("treatment_start_date", "treatment_start_data")),
         used(), refused(TABLE, "treatment_start_data"), told("treatment_start_data")),
    case("a column that nobody knows", "BIDS", each_line("P",
         lambda n, line: line + "\t" + ["hair", "x", "y", "z"][n - 1]), used(quiet=True)),
    # Quotes.
    case("a quote opens and never closes", "user", text("P", lambda t: t.replace("lung", '"lung')), used(quiet=True)),
    case("a quote opens and closes two rows on", "user", text("P",
         lambda t: t.replace("\tchemo", '\t"chemo', 1).replace("melanoma", 'mela"noma')),
         used(), refused(TABLE, '"chemo'), refused(TABLE, "line")),
    case("a cell with a comma is quoted", "Excel", text("P", lambda t: t.replace("lung", '"lung, left"')),
         used(quiet=True)),
    case("every cell is quoted", "R", each_line("P",
         lambda n, line: "\t".join(f'"{cell}"' for cell in line.split("\t"))), used(),
         refused(TABLE, "participant_id")),
    case("a cell has two lines", "Excel", text("P", lambda t: t.replace("lung", '"lung\nleft"')),
         refused(TABLE, "line")),
    case("inches in a cell", "user", text("P", lambda t: t.replace("lung", '2"')), used(quiet=True)),
    # Encodings.
    case("participants.tsv in UTF-8 with a mark", "Excel", encoded("P", "utf-8-sig"), used(quiet=True)),
    case("participants.tsv in UTF-8 with the mark twice", "Excel", encoded("P", "utf-8-sig", "\ufeff"), used(),
         refused(TABLE, "participant_id")),
    case("participants.tsv as 'Unicode text'", "Excel", encoded("P", "utf-16"), used(), refused(TABLE, "UTF-16")),
    case("participants.tsv in UTF-16, big end first", "Excel", encoded("P", "utf-16-be", "\ufeff"), used(),
         refused(TABLE, "UTF-16")),
    case("participants.tsv in UTF-16 without a mark", "user", encoded("P", "utf-16-le"), used(), refused(TABLE)),
    case("participants.tsv in Latin-1", "Excel", encoded("P", "latin-1"), used(), refused(TABLE)),
    case("participants.tsv in Windows-1252 with an ellipsis", "Excel", text("P",
         lambda t: t.replace("lung", "lung… “left”").encode("cp1252")), used(), refused(TABLE)),
    case("participants.tsv in code page 437 of DOS", "user", encoded("P", "cp437"), used(), refused(TABLE)),
    case("participants.tsv in Japanese", "Excel", text("P", lambda t: t.replace("lung", "肺").encode("shift_jis")),
         used(), refused(TABLE)),
    # When treatment began.
    case("the start with a time of day", "user", start("2031-01-15T00:00:00"), used()),
    case("the start with blanks", "Excel", start(" 2031-01-15 "), used()),
    case("the start without hyphens", "user", start("20310115"), used(), no_start("20310115")),
    *[case(f"the start is {value!r}", source, start(value), no_start(value), refused(TABLE, value))
      for value, source in {"17/03/2031": "Excel", "15.01.2031": "Excel", "1/15/31": "Excel", "47863": "Excel",
      "########": "Excel",
                            "#REF!": "Excel", "2031-13-45": "user", "2031-02-30": "user", "2031-01": "BIDS",
                            "0000-00-00": "SQL",
                            "Jan 2031": "user", "?": "user", "2031-01-15; 2031-03-20": "user",
                            "approx. 2031-01-15": "user"}.items()],
    *[case(f"the start is {value!r}: missing", "pandas", start(value), used(treatment_start_day="n/a"))
      for value in ("", "NA", "N/A", "nan", "NaT", "n/a ", "null")],
    case("the start is a number of days with a point", "pandas", start_day("5.0"), used()),
    case("the start is before the first scan", "user", start_day("-14"), used(treatment_start_day="-14")),
    *[case(f"the day of the start is {value!r}", "user", start_day(value), no_start(value), refused(TABLE, value))
      for value in ("5 d", "5,0", "day 5", "inf", "1_0", "0x5", "5-7", "--5")],
    case("the day of the start is half a day", "user", start_day("5.5"), no_start("5.5"), used(),
         used(treatment_start_day="6"), used(treatment_start_day="5.5")),
    case("date and day of the start disagree", "user", participant("treatment_start_day", "50"),
         refused(TABLE, "50"), used(says=(TABLE, "50")), used(says=(TABLE, "50"), treatment_start_day="n/a"),
         used(says=(TABLE, "50"), treatment_start_day="50")),
    # Words: treatments.
    *[case(f"treatment_type is {value!r}", "user", treatment(value), used(treatment_type=words))
      for value, words in {"SRS": "srs", "Immunotherapy": "immunotherapy", "srs;immunotherapy": "srs;immunotherapy",
                           "SRS + Immunotherapy": "srs;immunotherapy", "srs, wbrt": "srs;wbrt",
                           "srs/chemo": "srs;chemo",
                           " srs ; immunotherapy; ": "srs;immunotherapy", "srs+srs": "srs"}.items()],
    *[case(f"treatment_type is {value!r}", "user", treatment(value),
         refused(TABLE, "treatment_type", value.split(";")[-1], "line 2"), *more)
      for value, more in {"imunotherapy": (), "srs;foo": (), "gamma": (), "2": (), "yes": (),
                          "immunotherapy (pembrolizumab)": (used(treatment_type="immunotherapy"),),
                          "SRS and immunotherapy": (used(treatment_type="srs;immunotherapy"),),
                          "srs immunotherapy": (used(treatment_type="srs;immunotherapy"),)}.items()],
    case("treatment_type is a synonym", "user", treatment("radiosurgery"), used(treatment_type="srs"),
         refused(TABLE, "treatment_type", "radiosurgery")),
    case("treatment_type is missing", "user", treatment("NA"), used(treatment_type="n/a")),
    # sessions.tsv: who a row is for.
    case("a session twice, the same", "user", two_rows, used(says=OWN)),
    case("a session twice, with two dates", "user", two_rows_that_differ,
         session_out("02", "duplicate_row", (OWN, "line"))),
    case("a session with and without ses-, two dates", "user",
         lambda c: c.lines(c.sessions,
         lambda t: [*t, t[2].replace("ses-02", "02").replace("2031-03-11", "2031-04-11")]),
         session_out("02", "duplicate_row", OWN), patient_out("bad_table", OWN), told((OWN, "line 5"))),
    case("a session that has no scan", "user", text("S",
         lambda t: t + t.splitlines()[3].replace("ses-03", "ses-09").replace("05-11", "07-11") + "\n"),
         session_out("09", "no_contrast"), session_out("09", "no_reference"), not_used("nobody", "ses-09")),
    *[case(f"sessions.tsv has {name!r} for ses-02", "Excel",
         lambda c, name=name: c.replace(c.sessions, "ses-02\t", f"{name}\t"), used(), told(OWN), refused(OWN))
      for name in ("02", "2", "ses-2", "ses-002", "SES-02", "ses-02 ")],
    case("a session is not in sessions.tsv", "user", each_line("S",
         lambda n, line: line if n != 3 else "ses-99" + line[6:]), told((OWN, "ses-02")), told("no_dates")),
    case("sessions.tsv holds another patient's rows, too", "user",
         lambda c: [c.lines(c.sessions,
         lambda t: [f"participant_id\t{t[0]}", *(f"sub-01\t{r}" for r in t[1:]), *(f"sub-02\t{r}" for r in t[1:])])],
         TABLE_OUT, session_out("02", "duplicate_row", OWN), patient_out("duplicate_row", OWN), used()),
    # Its shape and encoding.
    case("sessions.tsv: a row has a cell too many", "user", each_line("S", lambda n, line: line + "\tx" * (n == 3)),
         patient_out("bad_table", (OWN, "line 3"))),
    case("sessions.tsv: a row has a cell too few", "user", each_line("S",
         lambda n, line: line.rsplit("\t", 1)[0] if n == 3 else line), patient_out("bad_table", (OWN, "line 3"))),
    case("sessions.tsv: a tab behind every row", "Excel", each_line("S",
         lambda n, line: line + "\t" * (n > 1)), *read_or_refused("S", ["line 2"])),
    case("sessions.tsv: a tab behind every line", "Excel", each_line("S",
         lambda n, line: line + "\t"), *read_or_refused("S")),
    case("sessions.tsv with semicolons", "Excel", text("S", lambda t: t.replace("\t", ";")),
         patient_out("bad_table", (OWN, "tab"))),
    case("sessions.tsv with commas", "Excel", text("S", lambda t: t.replace("\t", ",")),
         patient_out("bad_table", (OWN, "tab"))),
    case("sessions.tsv without session_id", "user", text("S", lambda t: t.replace("session_id", "visit")),
         patient_out("bad_table", (OWN, "session_id"))),
    case("sessions.tsv has a column twice", "user", each_line("S",
         lambda n, line: line + "\t" + ("contrast" if n == 1 else "false")),
         patient_out("bad_table", (OWN, "contrast"))),
    case("sessions.tsv is empty", "filesystem", text("S", lambda t: ""), TABLE_OUT),
    case("sessions.tsv is nothing but zeros", "filesystem", text("S", lambda t: bytes(400)), TABLE_OUT),
    case("sessions.tsv has a header only", "user", text("S", lambda t: t.splitlines()[0] + "\n"), TABLE_OUT,
         told(("no_dates", OWN))),
    case("sessions.tsv was not fetched", "annex", dangling_table("S"), TABLE_OUT),
    case("sessions.tsv is a pointer into the annex", "annex", text("S", lambda t: "/annex/objects/MD5E-s99--00.tsv\n"),
         TABLE_OUT),
    case("sessions.tsv: a quote never closes", "user", each_line("S",
         lambda n, line: line + ["\tnote", '\t"x', "\ty", "\tz"][n - 1]), used(quiet=True)),
    case("sessions.tsv: a remark of two lines", "Excel", each_line("S",
         lambda n, line: line + ["\tnote", '\t"x\nx"', "\ty", "\tz"][n - 1]), TABLE_OUT),
    case("sessions.tsv with line ends of Windows and a mark", "Excel", text("S",
         lambda t: ("\ufeff" + t).replace("\n", "\r\n")), used(quiet=True)),
    case("sessions.tsv as 'Unicode text'", "Excel", encoded("S", "utf-16"), *read_or_refused("S")),
    case("sessions.tsv in Latin-1", "Excel", lambda c: [each_line("S",
         lambda n, line: line + ["\tnote", "\tmüde", "\ty", "\tz"][n - 1])(c), encoded("S", "latin-1")(c)],
         *read_or_refused("S")),
    *[case(f"the table of sessions is called {name}", "Excel", instead(name), told(name),
         patient_out("bad_table", name))
      for name in ("sub-01_sessions.csv", "sub-01_sessions.xlsx", "sub-1_sessions.tsv", "sessions.tsv")],
    case("a column of sessions.tsv in capitals", "user", text("S",
         lambda t: t.replace("image_quality", "Image_Quality")), used(), told("Image_Quality"),
         refused("Image_Quality"), patient_out("bad_table", "Image_Quality")),
    # Dates of sessions.
    case("dates without a time of day", "user", dates("2031-01-10", "2031-03-11", "2031-05-11"), used()),
    case("dates with a blank before the time", "user", dates("2031-01-10 09:30:00", "2031-03-11 10:00:00",
         "2031-05-11 09:00:00"), used(), told("acq_time")),
    case("dates with fractions of seconds", "dcm2niix", dates("2031-01-10T09:30:00.127500", "2031-03-11T10:00:00.0",
         "2031-05-11T09:00:00"), used()),
    case("some dates with a time zone", "BIDS", dates("2031-01-10T09:30:00Z", "2031-03-11T10:00:00",
         "2031-05-11T09:00:00+02:00"), used(), told("acq_time")),
    case("dates all before 1925, treatment too", "BIDS",
         lambda c: [dates("1831-01-10T15:00:00", "1831-03-11T15:00:00", "1831-05-11T15:00:00")(c),
         start("1831-01-15")(c)], used()),
    case("dates before 1677", "BIDS",
         lambda c: [dates("1531-01-10T09:30:00", "1531-03-11T10:00:00", "1531-05-11T09:00:00")(c),
         start("1531-01-15")(c)], used()),
    case("dates after 2262", "user",
         lambda c: [dates("2431-01-10T09:30:00", "2431-03-10T10:00:00", "2431-05-10T09:00:00")(c),
         start("2431-01-15")(c)],
         used(days=["0", "59", "120"]), told("acq_time")),
    case("scans shifted by a century, treatment not", "BIDS", dates("1831-01-10T09:30:00", "1831-03-11T10:00:00",
         "1831-05-11T09:00:00"),
         used(says="2031-01-15", flag="date_gap", treatment_start_day="n/a")),
    case("treatment shifted by a century, scans not", "BIDS", start("1831-01-15"),
         used(says="1831-01-15", flag="date_gap", treatment_start_day="n/a")),
    case("one scan shifted by a century", "BIDS", cell("acq_time", "1931-03-11T10:00:00"), told("date_gap"),
         session_out("02", "bad_date", "1931-03-11")),
    case("the last scan shifted by a century", "user", cell("acq_time", "2131-05-11T09:00:00", "03"), told("date_gap"),
         session_out("03", "bad_date", "2131-05-11")),
    case("a date in the year 1", "dcm2niix", cell("acq_time", "0001-01-01T00:00:00"), told("date_gap"),
         session_out("02", "bad_date", "0001-01-01")),
    case("two sessions on one day, hours apart", "user", cell("acq_time", "2031-01-10T15:00:00"),
         used(flag="same_date", days=["0", "0", "121"])),
    case("two sessions at the same time", "user", cell("acq_time", "2031-01-10T09:30:00"),
         used(flag="same_date", days=["0", "0", "121"])),
    case("two sessions minutes apart over midnight", "user", dates("2031-01-10T23:50:00", "2031-01-11T00:10:00",
         "2031-05-11T09:00:00"), used(days=["0", "1", "121"])),
    *[case(f"acq_time is {value!r}", source, cell("acq_time", value), session_out("02", "bad_date", value),
         told((OWN, value)))
      for value, source in {"11/03/2031": "Excel", "11.03.2031 10:00": "Excel", "47918": "Excel",
      "2031-02-29T10:00:00": "user",
                            "2031-03-11T25:61:00": "user", "yesterday": "user", "2031-03": "user",
                            "10:00:00": "dcm2niix"}.items()],
    case("one acq_time is missing", "BIDS", cell("acq_time", "n/a"), told("no_dates"), told((OWN, "acq_time"))),
    case("days with a point", "pandas",
         lambda c: [dates("n/a", "n/a", "n/a")(c), *[c.cell("days_from_baseline", d, s) for s, d in (("01", "0.0"),
         ("02", "60.0"), ("03", "121.0"))]],
         used(treatment_start_day="n/a"), used()),
    case("a number of days has its unit", "user",
         lambda c: [dates("n/a", "n/a", "n/a")(c), *[c.cell("days_from_baseline", d, s) for s, d in (("01", "0"), ("02",
         "60 d"), ("03", "121"))]],
         told((OWN, "60 d"))),
    case("a number of days is infinite", "user",
         lambda c: [dates("n/a", "n/a", "n/a")(c), *[c.cell("days_from_baseline", d, s) for s, d in (("01", "0"), ("02",
         "inf"), ("03", "121"))]],
         told((OWN, "inf"))),
    case("days and dates disagree", "user",
         lambda c: [c.cell("days_from_baseline", d, s) for s, d in (("01", "0"), ("02", "300"), ("03", "121"))],
         used(), told((OWN, "days_from_baseline")), session_out("02", "bad_date")),
    # scans.tsv
    case("the dates are in scans.tsv, sessions.tsv says n/a", "heudiconv", only_scans, used()),
    case("the dates are in scans.tsv, there is no sessions.tsv", "heudiconv", no_sessions_table,
         used(image_quality="n/a", contrast="n/a", clinical_status="n/a", kps="n/a", **{DEX: "n/a"})),
    case("scans.tsv writes ./ before the name", "user", lambda c: only_scans(c, lambda s: "./" + anat(s)), used(),
         told("no_dates")),
    case("scans.tsv writes the name from the top", "user", lambda c: only_scans(c,
         lambda s: f"sub-01/ses-{s}/" + anat(s)), used(), told("no_dates")),
    case("scans.tsv has backslashes", "Windows", lambda c: only_scans(c,
         lambda s: anat(s).replace("/", "\\")), used(), told("no_dates")),
    case("scans.tsv has no row for the post-contrast scan", "BIDS", lambda c: only_scans(c,
         lambda s: f"anat/sub-01_ses-{s}_PDw.nii.gz"), told("no_dates")),
    case("scans.tsv dates the post-contrast scan twice", "user",
         lambda c: [only_scans(c), scans_table(c, "02", (anat("02"), "2031-03-11T09:30:00"), (anat("02"),
         "2031-04-11T09:30:00"))],
         told("sub-01_ses-02_scans.tsv")),
    case("scans.tsv has a cell too many", "user",
         lambda c: [only_scans(c), scans_table(c, "02", (anat("02"), "2031-03-11T09:30:00", "x"))],
         patient_out("bad_table", "sub-01_ses-02_scans.tsv"),
         session_out("02", "bad_table", "sub-01_ses-02_scans.tsv")),
    case("scans.tsv has a bad date for the post-contrast scan", "user",
         lambda c: [only_scans(c), scans_table(c, "02", (anat("02"), "11.03.2031"))],
         told(("sub-01_ses-02_scans.tsv", "11.03.2031")),
         session_out("02", "bad_date", "11.03.2031")),
    case("a bad date in scans.tsv for a scan that is not asked for", "user",
         lambda c: [only_scans(c), scans_table(c, "02", (anat("02", "T2w"), "soon"), (anat("02"),
         "2031-03-11T09:30:00"))], used()),
    # Words: contrast, quality, clinic. They take the session out here or, as one word, when responses are made.
    *[case(f"contrast is {value!r}", source, cell("contrast", value),
         session_out("02", ("no_contrast", "excluded_by_reader")), used(contrast={"02": "false"}))
      for value, source in {"FALSE": "Excel", "False": "pandas", "no": "user", "No": "user", "0": "user",
      "none": "user", "false ": "Excel"}.items()],
    *[case(f"contrast is {value!r}", source, cell("contrast", value), used(contrast={"02": "true"}))
      for value, source in {"TRUE": "Excel", "True": "pandas", "yes": "user", "1": "user", "given": "user"}.items()],
    *[case(f"contrast is {value!r}", "user", cell("contrast", value), refused(OWN, "contrast", value, "line 3"))
      for value in ("maybe", "gadolinum?", "2", "post")],
    case("contrast is 1.0", "pandas", cell("contrast", "1.0"), used(contrast={"02": "true"}),
         refused(OWN, "contrast", "1.0")),
    case("contrast is NA", "R", cell("contrast", "NA"), used(contrast={"02": "n/a"})),
    *[case(f"image_quality is {value!r}", "user", cell("image_quality", value),
         session_out("02", "excluded_by_reader"), used(image_quality={"02": "fail"}))
      for value in ("Fail", "FAIL", "poor", "Poor", "bad", "fail ")],
    *[case(f"image_quality is {value!r}", "user", cell("image_quality", value), used(image_quality={"02": "pass"}))
      for value in ("PASS", "Pass", "good", "ok")],
    *[case(f"image_quality is {value!r}", "user", cell("image_quality", value),
         refused(OWN, "image_quality", value, "line 3"))
      for value in ("3", "motion artefacts", "fail?")],
    case("a word that nobody knows, in a session without scan", "user",
         lambda c: [text("S", lambda t: t + "ses-09\t2031-07-11\tmaybe\ttrue\t2\tstable\t80\n")(c)],
         refused(OWN, "maybe"), told("maybe")),
    case("clinical_status in capitals", "user", cell("clinical_status", "WORSE"),
         used(clinical_status={"02": "worse"})),
    case("clinical_status in no list", "user", cell("clinical_status", "so-so"),
         refused(OWN, "clinical_status", "so-so", "line 3")),
    case("steroid_status in capitals", "user", cell("steroid_status", "Increased"),
         used(steroid_status={"02": "increased"}), used()),
    case("steroid_status in no list", "user", cell("steroid_status", "plenty"),
         refused(OWN, "steroid_status", "plenty", "line 3")),
    case("clinical_tumour_related is Yes", "user", cell("clinical_tumour_related", "Yes"),
         used(clinical_tumour_related={"02": "true"})),
    case("clinical_tumour_related is perhaps", "user", cell("clinical_tumour_related", "perhaps"),
         refused(OWN, "clinical_tumour_related", "perhaps")),
    # Numbers.
    *[case(f"the dose is {value!r}", source, cell(DEX, value), warning(DEX, value))
      for value, source in {"4 mg": "user", "4,5": "Excel", "four": "user", "<4": "user", "2-4": "user",
      "4mg/d": "user", "inf": "pandas",
                            "2x2": "user", "#VALUE!": "Excel", "Apr 05": "Excel", "1_6": "user"}.items()],
    case("the dose is below 0", "user", cell(DEX, "-4"), warning(DEX, "-4"), refused(OWN, "-4")),
    *[case(f"the dose is {value!r}: missing", "pandas", cell(DEX, value), used(**{DEX: {"02": "n/a"}}))
      for value in ("", "NA", "N/A", "nan", "NaN", "n/a", " n/a")],
    case("the dose has blanks and a sign", "user", cell(DEX, " +2.0 "), used(), warning(DEX, "+2.0")),
    *[case(f"kps is {value!r}", "user", cell("kps", value), warning("kps", value), *more)
      for value, more in {"90%": (used(),), "good": (), "90-100": (), "900": (refused(OWN, "900"),),
      "-90": (refused(OWN, "-90"),)}.items()],
    *[case(f"ecog is {value!r}", "user", cell("ecog", value), warning("ecog", value), *more)
      for value, more in {"1-2": (), "I": (), "7": (refused(OWN, "7"),), "0.5": (used(ecog={"02": "0.5"}),
      refused(OWN, "0.5"))}.items()],
    case("a bad cell in each of two sessions", "user", lambda c: [c.cell(DEX, "4 mg"), c.cell("kps", "good", "03")],
         used(says=(OWN, "4 mg", "good"), kps={"03": "n/a"}, **{DEX: {"02": "n/a"}})),
]  # fmt: skip


# Corrections of the cohort table by people.
def edits(*rows, header="sub\tses\tcolumn\tvalue", end="\n"):
    def disturb(c):
        path = c.root / "edits.tsv"
        path.write_text(end.join([header, *("\t".join(row) for row in rows)]) + end)
        c.settings["edits"] = str(path)

    return disturb


def no_edits(c):
    c.settings["edits"] = str(c.root / "edits.tsv")


ROWS += [
    case("an edit leaves a session out", "user", edits(("01", "02", "usable", "false")), session_out("02", ())),
    case("an edit leaves a session out in capitals", "Excel", edits(("01", "02", "usable", "FALSE")),
         session_out("02", ()), refused("edits.tsv", "FALSE")),
    case("an edit says maybe", "user", edits(("01", "02", "usable", "maybe")), refused("edits.tsv", "maybe")),
    case("an edit sets a day to a word", "user", edits(("01", "02", "days", "sixty")), refused("edits.tsv", "sixty"),
         used(says=("edits.tsv", "sixty"))),
    case("an edit is for nobody", "user", edits(("99", "02", "usable", "false")), refused("edits.tsv", "99"),
         not_used("nobody", "99")),
    case("an edit is for no session", "user", edits(("01", "77", "usable", "false")), refused("edits.tsv", "77"),
         not_used("nobody", "77")),
    case("an edit is for 1", "Excel", edits(("1", "2", "usable", "false")), refused("edits.tsv"),
         not_used("nobody", "edits.tsv")),
    case("an edit of a column that is none", "user", edits(("01", "02", "usabel", "false")),
         refused("edits.tsv", "usabel")),
    case("an edit names a scan that is none", "user", edits(("01", "02", "reference", "sub-01/gone.nii.gz")),
         refused("edits.tsv", "gone.nii.gz"),
         session_out("02", ("unreadable", "no_reference", "no_contrast"), "gone.nii.gz")),
    case("a row of the edits has a cell too many", "Excel", edits(("01", "02", "usable", "false", "x")),
         refused("edits.tsv", "line 2")),
    case("the edits have commas", "Excel", edits(header="sub,ses,column,value"), refused("edits.tsv")),
    case("the edits are not there", "user", no_edits, refused("edits.tsv")),
]  # fmt: skip
