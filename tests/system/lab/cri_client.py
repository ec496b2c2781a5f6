"""Calls of the Container Runtime Interface, as a kubelet makes them: ``[METHOD, REQUEST]`` in a line of standard input
each, the answer or ``{"error": ...}`` in a line of standard output.

It is a process of its own: gRPC has threads, and the tests fork.
"""

from __future__ import annotations

import json
import sys

import grpc
from cri_api.v1 import api_pb2, api_pb2_grpc
from google.protobuf.json_format import MessageToDict, ParseDict

SECONDS = 60


def main(socket: str) -> None:
    channel = grpc.insecure_channel(f"unix://{socket}")
    services = (api_pb2_grpc.RuntimeServiceStub(channel), api_pb2_grpc.ImageServiceStub(channel))
    for line in sys.stdin:
        method, request = json.loads(line)
        call = next(getattr(service, method) for service in services if hasattr(service, method))
        try:
            answer = call(ParseDict(request, getattr(api_pb2, f"{method}Request")()), timeout=SECONDS)
            said = MessageToDict(answer, preserving_proto_field_name=True)
        except grpc.RpcError as error:
            said = {"error": f"{method}: {error.code().name}: {error.details()}"}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
