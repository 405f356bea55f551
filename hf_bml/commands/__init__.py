"""The commands of `hf-bml`, one module each."""
