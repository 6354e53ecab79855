"""The load test: one model of a running server asked at a steady pace, and what that took."""
