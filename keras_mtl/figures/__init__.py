"""Charts as SVG text and PNG images."""
