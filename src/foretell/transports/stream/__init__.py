"""The stream door: messages in, results out, and each acknowledged only when its own is out."""
