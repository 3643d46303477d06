"""The parts of the tiny diffusion pipeline, and how they are trained."""
