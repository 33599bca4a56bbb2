"""Say where the tables of a run are and what they hold: `python scripts/show_tables.py OUT`."""

import sys
from pathlib import Path

from mettrail import schema

if __name__ == "__main__":
    out = Path(sys.argv[1])
    patients = schema.read_table(out / "tables" / "patients.csv", "patients")
    shown = ["participant_id", "n_sessions", "n_tracks_total", "best_response", "progressed", "best_change_ld_pct"]
    print(f"\n{patients[shown].to_string(index=False)}\n")
    print(
        f"tables:  {out}/tables/lesions.csv  sessions.csv  patients.csv  (columns explained in the .json beside each)"
    )
    print(f"pages:   {(out / 'index.html').absolute()}")
