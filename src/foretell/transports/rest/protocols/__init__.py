"""Contracts of other servers over REST: the Open Inference Protocol, KServe V1, MLflow."""
