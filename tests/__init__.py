"""The tests, as a package of their own: torch-fidelity installs another one of this name."""
