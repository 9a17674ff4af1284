"""The gRPC interface of quotes as `proto/quotes.proto` compiles to it: messages, client, and base of the server."""

from generated import quotes_pb2 as pb
from generated import quotes_pb2_grpc as pb_grpc

__all__ = ["pb", "pb_grpc"]
