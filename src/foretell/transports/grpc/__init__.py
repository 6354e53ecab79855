"""The gRPC door: gRPC over ASGI, its services, its errors table."""
