from mettrail import provenance


def digest(tmp_path, text, monkeypatch):
    (tmp_path / "part.py").write_text(text)
    (tmp_path / "script.py").write_text("from mettrail import part\n")
    monkeypatch.setattr(provenance, "LIBRARY", tmp_path)
    provenance._read_module.cache_clear()
    return provenance.source_digest(tmp_path / "script.py")


def test_a_change_in_an_imported_module_changes_the_digest_and_a_comment_does_not(tmp_path, monkeypatch):
    first = digest(tmp_path, 'def f():\n    """Old."""\n    return 1\n', monkeypatch)
    assert digest(tmp_path, 'def f():\n    """New words."""\n    return 1  # why\n', monkeypatch) == first
    assert digest(tmp_path, "def f():\n    return 2\n", monkeypatch) != first
