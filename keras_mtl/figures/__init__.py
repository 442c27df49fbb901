"""Charts, as SVG text and as images."""
