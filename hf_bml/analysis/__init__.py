"""What runs show: curves and summaries."""
