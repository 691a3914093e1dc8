"""Evidence x endorsements x binding x time -> verified claims, or an error that names the step. Pure."""
