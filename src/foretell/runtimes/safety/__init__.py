"""Safety reads what somebody made before any of it runs: pickles, and the objects in them."""
