"""A server on loopback, and a small set that is downloaded from it through the same code as the real ones."""

import hashlib
import http.server
import io
import threading
from functools import partial

import numpy as np
import torch

from gencourse.data.formats import read_npz
from gencourse.data.sources import Content, File, Mirror, Source
from gencourse.space import Space

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
LABELS = (np.arange(40) % 10).astype(np.uint8)


class Server:
    """Serves `files[path]`: bytes, or a status code, or (bytes, announced length) for a body that breaks off."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | int | tuple[bytes, int]] = {}
        self.asked: list[str] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                what = server.files.get(self.path, 404)
                if isinstance(what, int):
                    self.send_error(what)
                    return
                body, length = what if isinstance(what, tuple) else (what, len(what))
                self.send_response(200)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)
                if length > len(body) and self.path.startswith("/stall"):
                    self.wfile.flush()
                    server.stop_stalling.wait(60)

            def log_message(self, *args: object) -> None:
                pass

        self.stop_stalling = threading.Event()
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=partial(self.http.serve_forever, poll_interval=0.01), daemon=True).start()

    def close(self) -> None:
        self.stop_stalling.set()
        self.http.shutdown()
        self.http.server_close()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def fake_source(*files: File) -> Source:
    def split(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        x, y = torch.from_numpy(arrays["images"])[:, None], torch.from_numpy(arrays["labels"]).long()
        return {"train": x[:20], "valid": x[20:30], "test": x[30:], "train_labels": y[:20]}

    content = {
        name: Content(a.shape, hashlib.sha256(a.tobytes()).hexdigest()) for name, a in [("images", IMAGES), ("labels", LABELS)]
    }
    mirrors = tuple(Mirror((file,), lambda paths: read_npz(paths, "images", "labels")) for file in files)
    return Source(Space((1, 4, 4), levels=256), content, mirrors, split, 0.001, "none", "nobody")
