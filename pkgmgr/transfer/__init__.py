"""Moving content between targets. The only room that knows oras, requests and sockets."""
