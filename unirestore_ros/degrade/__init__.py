"""Degradations of clean frames: benchmark corruptions and physical driving weather."""
