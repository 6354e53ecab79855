"""The clients ask a running server, over REST or gRPC, from threads or from asyncio."""
