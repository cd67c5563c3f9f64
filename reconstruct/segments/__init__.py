"""Which pixels show whom: segmenters, and what they are asked with."""
