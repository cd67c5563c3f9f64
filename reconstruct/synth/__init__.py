"""Recordings whose truth is known: clothed bodies that move before a camera."""
