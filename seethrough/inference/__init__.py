"""Using trained models: from a page to layers, pictures, a PSD and a report."""
