"""What `foretell k8s` does: its flags, and what a target says about its values."""
