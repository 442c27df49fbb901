"""The parts of `build_debian_docs.py`: real translations of technical English from Debian."""
