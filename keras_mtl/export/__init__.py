"""Export of models to other formats."""
