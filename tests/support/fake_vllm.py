"""A stand-in for vLLM's server that fails as it is told: `fake_vllm.py -m MODULE --model FOLDER --uds SOCKET ...`

FAKE_VLLM_CONTROL names a JSON file, read at every request: `{"/pause": "hang", "nearfirst_reload": "broken"}`. What was
asked for is appended to the file that FAKE_VLLM_LOG names. Answers are one token: the loaded folder's name's length.
"""

import json
import os
import signal
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

CONTROL, LOG = Path(os.environ["FAKE_VLLM_CONTROL"]), Path(os.environ["FAKE_VLLM_LOG"])
MIXED = 999
state: dict[str, Any] = {"folder": sys.argv[sys.argv.index("--model") + 1], "is_mixed": False}


def told(name: str) -> Any:
    return json.loads(CONTROL.read_text()).get(name)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self.answer({"version": "0-fake"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        path = self.path.partition("?")[0]
        name = body["method"] if path == "/collective_rpc" else path
        with LOG.open("a") as log:
            log.write(f"{name}\n")
        match told(name):
            case "hang":
                time.sleep(60)
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "error":
                self.answer({"error": {"message": "scripted"}}, status=500)
                return
        if path == "/collective_rpc":
            self.answer({"results": [self.rpc(name, body.get("args", []))]})
        elif path == "/v1/completions":
            self.answer(self.completions(body))
        else:
            self.answer({"success": told(name) != "unsuccessful"})

    def rpc(self, method: str, arguments: list[str]) -> dict[str, Any]:
        if method == "nearfirst_describe":
            return {"device": "cpu", "precision": "float32"}
        if method == "nearfirst_check":
            return {"reasons": ["scripted"] if told(method) == "refused" else []}
        if told(method) == "broken":
            state["is_mixed"] = True
            return {"state": "broken", "reasons": ["scripted"]}
        state["folder"] = arguments[0]
        return {"state": "loaded"}

    def completions(self, body: dict[str, Any]) -> dict[str, Any]:
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        token = MIXED if state["is_mixed"] else len(Path(state["folder"]).name)
        choices = [
            {"index": index, "text": str(token), "token_ids": [token], "finish_reason": "length"}
            for index in range(len(prompts))
        ]
        return {"choices": choices, "usage": {"completion_tokens": 1}}

    def answer(self, value: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


if __name__ == "__main__":
    if told("start") == "fail":
        sys.exit("scripted: no start")
    if told("start") == "hang":
        time.sleep(60)
    Server(sys.argv[sys.argv.index("--uds") + 1], Handler).serve_forever()
