"""Scores of tasks: translating their dev and test sets, metrics, reports."""
