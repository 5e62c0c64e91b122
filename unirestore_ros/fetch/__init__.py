"""The published weights: downloaded or given, checked, converted once to one safetensors."""
