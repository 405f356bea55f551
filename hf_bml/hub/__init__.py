"""What is shared: cards, pushes, code beside weights, the pipeline."""
