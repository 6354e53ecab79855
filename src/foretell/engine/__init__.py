"""The engine holds loaded models and answers calls: the only room that awaits."""
