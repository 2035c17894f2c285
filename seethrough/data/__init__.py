"""Samples on disk and the datasets that training reads them with."""
