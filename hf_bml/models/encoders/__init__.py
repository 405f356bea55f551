"""Encoders: one file a kind, built by `build_encoder` from the options in `configuration`."""
