"""Which methods refuse what a property of `hf_bml.testing` is about; proof methods included."""

from __future__ import annotations

ONE_CLASS = {  # defined for one class out of several
    "amco",
    "cml",
    "data_remixing",
    "g2d",
    "lfm",
    "mbsd",
    "mcr",
    "mla",
    "pmr",
    "reconboost",
    "relearning",
    "sample_valuation",
    "tcmax",
}
REFUSED = {
    "1 to 4 modalities": {"greedy"},
    "own losses": {"gradient_blending", "mmpareto", "own_heads"},
    "fsdp2": {"gradient_blending", "greedy", "inforeg", "mmpareto", "relearning", "two_gradients"},
    "segments": {"detached_head", "dgl", "greedy", "mla", "tcmax"},
    "questions": {"g2d", "greedy", "mla", "pmr", "tcmax", "umt"},
    "several labels": ONE_CLASS,
    "regression": {*ONE_CLASS, "dgl", "multi_loss", "two_gradients", "unimodal_loss"},
    "language model": {*ONE_CLASS, "gradient_blending", "greedy", "mmpareto", "own_heads", "umt"},
    "balance": {
        "g2d",
        "gradient_blending",
        "greedy",
        "mla",
        "mmpareto",
        "own_heads",
        "pmr",
        "relearning",
        "tcmax",
        "umt",
    },
}
