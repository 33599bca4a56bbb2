"""Colours of lesions and tissues: the same in pictures, pages and the lookup tables beside label maps."""

from __future__ import annotations

import re
import zlib

# Bright enough on black scans, dark enough on paper. Any two differ by at least 12 (CIEDE2000) also with red, green or
# blue blindness (Machado et al. 2009), and by 17 from the colours of PD and CR. More than eight would not.
TRACK_COLOURS = ("#1568ea", "#d32f8c", "#74a102", "#3fc5c1", "#deac84", "#939af5", "#d4788d", "#607937")
EDEMA_COLOUR, NECROSIS_COLOUR, CAVITY_COLOUR = "#ffd447", "#ffffff", "#c8ffb0"
# What was brought over from the prior session: its lesions, edges of its scan.
PRIOR_COLOUR = "#ff9d2e"
# On pictures what enhances has its lesion's colour; a map of tissues alone knows no lesions.
TISSUE_COLOURS = {"enhancing": "#d62f2f", "edema": EDEMA_COLOUR, "necrosis": NECROSIS_COLOUR, "cavity": CAVITY_COLOUR}


def track_colour(track_id: str) -> str:
    """Return a track's colour, the same on every picture and at every session.

    Examples
    --------
    >>> track_colour("L001") == track_colour("1") == track_colour("L009")
    True
    """
    return TRACK_COLOURS[track_index(track_id) % len(TRACK_COLOURS)]


def track_index(track_id: str) -> int:
    """Return the number of a track, from 0: that in its ID, or one made of an ID without a number."""
    number = re.search(r"\d+", str(track_id))
    return int(number.group()) - 1 if number else zlib.crc32(str(track_id).encode())
