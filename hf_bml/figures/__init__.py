"""PNGs, one kind of figure a file; `style` holds what they share. Needs matplotlib.

In all of them, `path` is the PNG, `title` is shown above the panels, `modalities` are names, and `styles` are line
options per run, by default those of the runs shown.
"""
