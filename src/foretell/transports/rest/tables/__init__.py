"""Tables over REST: which form a request has, and endless streams of lines."""
