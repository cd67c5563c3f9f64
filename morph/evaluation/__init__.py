"""How good morphs are: what is measured, of what, and beside which other methods (docs/morph-evaluation.md)."""
