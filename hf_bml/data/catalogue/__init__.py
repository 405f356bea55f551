"""Data sets: one file each, with one `load(**options) -> datasets.DatasetDict`."""
