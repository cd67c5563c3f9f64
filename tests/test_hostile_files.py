"""A folder of files that mean harm: none runs code, none fills the memory, each gets one line and exit code 2."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

MOST = 1_500_000  # kilobytes that reading all of them may take, with torch and what it needs
COMMANDS = (["info"], ["validate"], ["convert", "--to", "vm", "--steps", "1"], ["render"])


class Runs:
    """What a pickle of it does when it is read: leaves a mark in the folder."""

    def __init__(self, call: Callable[..., Any] = os.system, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments or ("touch executed",)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


def torch_zip(payload: Any) -> bytes:
    """As torch.save writes it, whatever the payload is."""
    buffer = io.BytesIO()
    torch.save(payload, buffer, pickle_module=pickle)
    return buffer.getvalue()


def archive(members: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def npy(header: str, data: bytes = b"") -> bytes:
    """An array as numpy stores it, with that header."""
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def header(kind: str, shape: tuple[int, ...]) -> str:
    return str({"descr": kind, "fortran_order": False, "shape": shape})


def npz(**arrays: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def overlapping() -> bytes:
    """A network whose every matrix is the same few numbers, shown a thousand times."""
    row = torch.zeros(1, 256)
    layers = {f"pts_linears.{i}.weight": row.expand(256 if i else 1 << 24, 256) for i in range(8)}
    return torch_zip({"network_fn_state_dict": layers})


def quiet_state() -> bytes:
    """A tensor's state dict with an object that is rebuilt by a call with a name that torch knows."""
    return torch_zip({"network_fn_state_dict": {"alpha_linear.weight": Runs(eval, "open('executed', 'w')")}})


LAUGHS = "pipeline:\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
PROPERTIES = "x,y,z,f_dc_0,f_dc_1,f_dc_2,opacity,scale_0,scale_1,scale_2,rot_0,rot_1,rot_2,rot_3"
COUNT = b"ply\nformat binary_little_endian 1.0\nelement vertex 99999999999\n" + b"".join(
    f"property float {name}\n".encode() for name in PROPERTIES.split(",")
)
HALF = {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}
SNAPSHOT = {
    "encoding": {"otype": "HashGrid", "log2_hashmap_size": 26, "n_levels": 32},
    "network": {},
    "rgb_network": {},
}

FILES: dict[str, bytes | Callable[[], bytes]] = {
    # Pickles that run something.
    "system.ckpt": lambda: torch_zip(Runs()),
    "system.pt": lambda: torch_zip({"splats": Runs()}),
    "eval.tar": quiet_state,
    "exec.pth": lambda: torch_zip([Runs(exec, "open('executed', 'w')")]),
    "legacy.ckpt": lambda: pickle.dumps(Runs(), 2),
    "text.ckpt": b"cos\nsystem\n(S'touch executed'\ntR.",
    "module.ckpt": b"cthis_module_is_not_there\nx\n.",
    "load.ckpt": lambda: torch_zip(Runs(pickle.loads, pickle.dumps(Runs()))),
    "mask.th": lambda: torch_zip({"kwargs": {}, "state_dict": {}, "alphaMask.mask": np.array([Runs()], object)}),
    "objects.npz": lambda: npz(links=np.array([Runs()], object)),
    "call.ckpt": lambda: torch_zip(Runs(subprocess.call, ["touch", "executed"])),
    # Files that are larger than they are.
    "bomb.ckpt": lambda: archive({"archive/data.pkl": b"\x80\x02}q\0.", "archive/data/0": bytes(1 << 28)}),
    "stride.tar": overlapping,
    "deep.ckpt": b"\x80\x02" + b"(" * 200_000 + b".",
    "long.ckpt": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
    "bomb.npz": lambda: archive({"links.npy": npy(header("<i4", (1 << 26, 1, 1)), bytes(1 << 28))}),
    "bomb.ingp": lambda: zlib.compress(bytes(1 << 28)),
    "bomb-gzip.ingp": lambda: gzip.compress(bytes(1 << 28)),
    "bomb.spz": lambda: gzip.compress(bytes(1 << 28)),
    "array.msgpack": b"\xdd\xff\xff\xff\xff",
    "map.msgpack": b"\xdf\xff\xff\xff\xff\xa8encoding",
    "deep.msgpack": b"\x91" * 1_000_000,
    "lying.msgpack": lambda: msgspec.msgpack.encode(
        {
            **SNAPSHOT,
            "dir_encoding": {"otype": "SphericalHarmonics", "degree": 4},
            "snapshot": {"n_params": 1 << 26, "params_type": "float", "params_binary": b"1234"},
        }
    ),
    # Headers that lie.
    "length.safetensors": lambda: safetensors({}, length=1 << 62),
    "shape.safetensors": lambda: safetensors({"a": HALF}),
    "overlap.safetensors": lambda: safetensors(
        {name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in "ab"}, bytes(4)
    ),
    "deep.safetensors": lambda: safetensors(b"[" * 100_000),
    "spec.safetensors": lambda: safetensors(
        {
            "__metadata__": {
                "fieldcast": json.dumps(
                    {"format": 1, "spec": {"kind": "vm", "sizes": {"resolution": 8192, "density_channels": 1024}}}
                )
            }
        }
    ),
    "shape.npz": lambda: archive({"links.npy": npy(header("<i4", (1 << 20, 1 << 20, 1 << 20)))}),
    "negative.npz": lambda: archive({"links.npy": npy(header("<i4", (-1, 4, 4)), bytes(64))}),
    "header.npz": lambda: archive({"links.npy": npy("__import__('os').system('touch executed')")}),
    "type.npz": lambda: archive({"links.npy": npy(header("|V1000000000", (1 << 40,)))}),
    "count.ply": COUNT + b"end_header\n" + bytes(100),
    "count.splat": bytes(33),
    "count.spz": lambda: gzip.compress(struct.pack("<4sIIBBBB", b"NGSP", 3, (1 << 32) - 1, 3, 12, 0, 0)),
    "length.glb": struct.pack("<4sII", b"glTF", 2, 1 << 31) + struct.pack("<I4s", 1 << 31, b"JSON") + b"{}",
    "outside.obj": b"mtllib ../../../../../../etc/passwd\nv 0 0 0\nf 1 1 1\n",
}
RUNS: dict[str, str] = {
    "object": "pipeline: !!python/object/apply:os.system ['touch executed']\n",
    "new": "pipeline: !!python/object/new:os.system ['touch executed']\n",
    "key": "? !!python/object/apply:os.system ['touch executed']\n: 1\npipeline: {}\n",
    "laughs": LAUGHS,
    "merges": MERGES,
    "deep": "pipeline: " + "[" * 20_000,
    "large": "pipeline: {}\n#" + "x" * (1 << 20),
}

SCRIPT = """
import json, re, sys
from pathlib import Path
from fieldcast.cli import cli
from fieldcast.endings import main_guard
told = {}
for name, command in json.loads(sys.argv[1]):
    print(f"<<{name}", file=sys.stderr)
    told[name] = main_guard(cli, command)
    print(">>", file=sys.stderr)
status = Path("/proc/self/status")  # getrusage counts what the process that started this one had, too
peak = re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1] if status.exists() else 0
print(json.dumps([told, int(peak)]))
"""


def hostile(folder: Path) -> list[Path]:
    """The folder, filled: its files, and the runs whose settings are theirs."""
    for name, data in FILES.items():
        (folder / name).write_bytes(data() if callable(data) else data)
    for name, text in RUNS.items():
        models = folder / f"run-{name}" / "nerfstudio_models"
        models.mkdir(parents=True)
        (models.parent / "config.yml").write_text(text)
        grid = {"_model.field.mlp_base.model.0.hash_table": torch.zeros(8, 2), "_model.field.aabb": torch.zeros(2, 3)}
        torch.save({"pipeline": grid}, models / "step-000000001.ckpt")
    return [folder / name for name in FILES] + [folder / f"run-{name}" / "config.yml" for name in RUNS]


def test_none_runs_code_none_fills_memory_each_gets_a_line(tmp_path: Path) -> None:
    files = hostile(tmp_path)
    assert all(path.stat().st_size < 1 << 21 for path in files)
    work = []
    for path in files:
        command, *options = COMMANDS[len(work) % len(COMMANDS)]
        out = {"convert": ["out.safetensors"], "render": ["out.png"]}.get(command, [])
        work.append((f"{command} {path.relative_to(tmp_path)}", [command, str(path), *out, *options]))
    before = set(tmp_path.rglob("*"))
    call = [sys.executable, "-W", "error", "-c", SCRIPT, json.dumps(work)]
    ran = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr[-2000:]
    codes, peak = json.loads(ran.stdout.splitlines()[-1])
    lines = {part.split("\n", 1)[0]: part.split("\n", 1)[1] for part in ran.stderr.replace(">>\n", "").split("<<")[1:]}
    wrong = {name: (codes[name], lines[name]) for name in codes if codes[name] != 2 or lines[name].count("\n") != 1}
    assert not wrong, "\n".join(f"{name}: {code} {text!r:.300}" for name, (code, text) in wrong.items())
    assert set(tmp_path.rglob("*")) == before  # nothing was run, nothing half-written is left
    assert peak < MOST, f"{peak:,} kB"
