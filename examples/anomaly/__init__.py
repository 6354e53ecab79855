"""Pumps tell temperature and vibration each second; a model that sees their past watches."""
