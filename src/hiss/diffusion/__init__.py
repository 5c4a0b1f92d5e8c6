"""The mathematics of diffusion, free of networks and audio: noise levels, parameterizations, samplers, guidance, edits.

One convention: the state is x = clean + sigma * noise, and the denoiser D(x, sigma) returns the expected clean signal.
The variance-preserving state of the literature is x / sqrt(1 + sigma^2). Data have unit variance.
"""
