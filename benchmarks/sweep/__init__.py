"""The parts of `compare_schedules.py`: reads a sweep, plans its runs, and runs them."""
