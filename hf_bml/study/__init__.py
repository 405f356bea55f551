"""What a run, a comparison and a sweep are."""
