"""Which methods refuse what a property of `hf_bml.testing` is about; proof methods included."""

from __future__ import annotations

REFUSED = {
    "1 to 4 modalities": {"greedy"},
    "own losses": {"gradient_blending", "mmpareto", "own_heads"},
    "fsdp2": {"gradient_blending", "greedy", "inforeg", "mmpareto", "relearning", "two_gradients"},
    "segments": {"detached_head", "dgl", "greedy", "mla", "tcmax"},
    "questions": {"g2d", "greedy", "mla", "pmr", "tcmax", "umt"},
    "language model": {
        "amco",
        "cml",
        "data_remixing",
        "g2d",
        "gradient_blending",
        "greedy",
        "lfm",
        "mbsd",
        "mcr",
        "mla",
        "mmpareto",
        "own_heads",
        "pmr",
        "reconboost",
        "relearning",
        "sample_valuation",
        "tcmax",
        "umt",
    },
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
