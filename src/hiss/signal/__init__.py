"""Pure functions on tensors: spectra, mel bands, mixing and losses."""
