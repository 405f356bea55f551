"""PNGs, one kind of figure a file; `style` holds what they share. Needs matplotlib."""
