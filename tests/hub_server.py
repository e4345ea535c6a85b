"""A Hugging Face Hub for one test: what the real client needs to download and to push, on 127.0.0.1, in memory."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Files = dict[str, bytes]


class HubServer:
    """``with HubServer() as hub:`` serves `hub.repos` at `hub.url`; a repository is its commits by sha, newest last."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, Files]] = {}
        self.lfs: Files = {}
        self.requests: list[str] = []
        self.failures: dict[str, int] = {}  # status for repositories whose requests fail
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def commit(self, repo: str, files: Files) -> str:
        """Add a commit with exactly these files; returns its sha."""
        commits = self.repos.setdefault(repo, {})
        digest = hashlib.sha1(str(len(commits)).encode())
        for name, content in sorted(files.items()):
            digest.update(name.encode() + content)
        commits[digest.hexdigest()] = files
        return digest.hexdigest()

    def files(self, repo: str, revision: str = "main") -> Files:
        return self.repos[repo][self.sha(repo, revision)]

    def sha(self, repo: str, revision: str) -> str:
        """The commit of a revision, which is a sha or ``main``; KeyError if there is none."""
        commits = self.repos[repo]
        if revision != "main" and revision not in commits:
            raise KeyError(revision)
        return next(reversed(commits)) if revision == "main" else revision


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        routes: dict[str, Callable[..., None]] = {
            r"/api/models/([^/]+/[^/]+)/revision/([^/]+)": self._info,
            r"/api/models/([^/]+/[^/]+)/tree/([^/]+)": self._tree,
            r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)": self._resolve,
        }
        self._route(routes)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        routes: dict[str, Callable[..., None]] = {
            r"/api/repos/create": self._create,
            r"/api/validate-yaml": lambda: self._json({"errors": [], "warnings": []}),
            r"/api/models/([^/]+/[^/]+)/preupload/main": self._preupload,
            r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch": self._batch,
            r"/api/models/([^/]+/[^/]+)/commit/main": self._commit,
        }
        self._route(routes)

    def do_PUT(self) -> None:
        self._route({r"/lfs/(\w+)": self._upload})

    def _route(self, routes: dict[str, Callable[..., None]]) -> None:
        path = self.path.split("?")[0]
        self.hub.requests.append(f"{self.command} {path}")
        for repo, status in self.hub.failures.items():
            if repo in path:
                return self._error("", status)
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        for pattern, handler in routes.items():
            if match := re.fullmatch(pattern, path):
                return handler(*match.groups())
        return self._error("EntryNotFound")

    def _revision(self, repo: str, revision: str) -> str | None:
        """The commit, or None after having answered with the error."""
        try:
            return self.hub.sha(repo, revision)
        except KeyError:
            self._error("RevisionNotFound" if repo in self.hub.repos else "RepoNotFound")
            return None

    def _info(self, repo: str, revision: str) -> None:
        if sha := self._revision(repo, revision):
            siblings = [{"rfilename": name} for name in self.hub.files(repo, sha)]
            self._json({"id": repo, "sha": sha, "siblings": siblings, "private": False, "tags": [], "downloads": 0})

    def _tree(self, repo: str, revision: str) -> None:
        if sha := self._revision(repo, revision):
            files = self.hub.files(repo, sha).items()
            self._json([{"type": "file", "path": n, "size": len(c), "oid": _oid(c)} for n, c in files])

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        if sha := self._revision(repo, revision):
            content = self.hub.files(repo, sha).get(name)
            if content is None:
                return self._error("EntryNotFound")
            tag = hashlib.sha256(content).hexdigest() if name.endswith(".safetensors") else _oid(content)
            self._send(content, {"ETag": f'"{tag}"', "X-Repo-Commit": sha})

    def _create(self) -> None:
        if not self.headers.get("Authorization"):
            return self._error("Unauthorized", 401)
        fields = json.loads(self.body)
        repo = f"{fields.get('organization') or 'me'}/{fields['name']}"
        self.hub.repos.setdefault(repo, {}) or self.hub.commit(repo, {".gitattributes": b"*.safetensors filter=lfs\n"})
        self._json({"url": f"{self.hub.url}/{repo}", "name": repo, "id": repo})

    def _preupload(self, repo: str) -> None:
        names = [file["path"] for file in json.loads(self.body)["files"]]
        modes = [
            {"path": n, "uploadMode": "lfs" if n.endswith(".safetensors") else "regular", "shouldIgnore": False}
            for n in names
        ]
        self._json({"files": modes})

    def _batch(self, repo: str) -> None:
        objects = json.loads(self.body)["objects"]
        for entry in objects:
            entry["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{entry['oid']}"}}
        self._json({"transfer": "basic", "objects": objects})

    def _upload(self, oid: str) -> None:
        self.hub.lfs[oid] = self.body
        self._send(b"", {})

    def _commit(self, repo: str) -> None:
        files = dict(self.hub.files(repo))
        for line in self.body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "lfsFile":
                files[entry["value"]["path"]] = self.hub.lfs[entry["value"]["oid"]]
        sha = self.hub.commit(repo, files)
        self._json({"success": True, "commitUrl": f"{self.hub.url}/{repo}/commit/{sha}", "commitOid": sha})

    def _json(self, content: Any) -> None:
        self._send(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _error(self, code: str, status: int = 404) -> None:
        self._send(b"{}", {"X-Error-Code": code}, status)

    def _send(self, content: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _oid(content: bytes) -> str:
    """Name that git gives to a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
