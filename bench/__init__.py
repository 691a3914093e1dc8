"""Side-by-side measurements: ours and a named peer in one run, reported as ratios. ``make bench`` runs all of them."""
