"""The drawings of this kit."""
