"""The examples: three training scripts, and the demo that packs and serves what they make."""
