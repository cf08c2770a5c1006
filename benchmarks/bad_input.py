"""Bad input: what files and people can get wrong ends in one line and exit code 2.

    python -m benchmarks.bad_input --out results.json

Each case runs the command line in a process of its own. Of each are checked: the exit code, one
line on stderr that names the program, no traceback, no results, the peak of memory.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import shlex
import signal
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tifffile

from benchmarks.support.machine import describe_machine
from benchmarks.support.requirements import report_checks
from benchmarks.support.results import format_markdown, write_results
from napari_sam2.cli import main as run_command

MAX_BYTES = 1_000_000_000
"""Memory that a refused input may take."""

_EXIT_ERROR = 2
_TIMEOUT_S = 60
_PROMPTS = "track,frame,kind,y,x\n1,0,point,20,20\n"
_ENDINGS = [
    "tif",
    "ome.tif",
    "png",
    "jpg",
    "bmp",
    "gif",
    "webp",
    "npy",
    "nii",
    "nii.gz",
    "nrrd",
    "dcm",
    "mp4",
    "avi",
    "czi",
    "nd2",
    "lif",
    "stk",
    "lsm",
    "xyz",
]


@dataclass(frozen=True)
class Case:
    """A bad input: what it is, the files it needs, and the words of the command line."""

    name: str
    words: str
    make: Callable[[Path], object] = lambda folder: None


@dataclass(frozen=True)
class Outcome:
    """What a case came to; `problem` is empty if it was refused as it should be."""

    name: str
    line: str
    peak_bytes: int
    problem: str


def list_cases() -> list[Case]:
    """All cases, each name once."""
    return [
        *_list_broken_files(),
        *_list_arrays(),
        *_list_headers(),
        *_list_prompt_files(),
        *_list_options(),
        *_list_job_files(),
        *_list_models(),
        *_list_labels(),
    ]


def _write(name: str, content: bytes | str) -> Callable[[Path], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def _make_folder(name: str, folder: Path) -> None:
    (folder / name).mkdir()


def _cut_tiff(count: int, folder: Path) -> None:
    (folder / "cut.tif").write_bytes((folder / "good.tif").read_bytes()[:count])


def _save_array(array: np.ndarray, folder: Path) -> None:
    np.save(folder / "a.npy", array)


def _make_store(text: str, folder: Path) -> None:
    (folder / "s.zarr").mkdir()
    (folder / "s.zarr" / "zarr.json").write_text(text)


def _list_broken_files() -> Iterator[Case]:
    """Files of all formats that are empty, of another kind, cut off, or folders."""
    contents = {"empty": b"", "text": b"hello\n" * 20, "noise": bytes(range(256)) * 8}
    for ending in _ENDINGS:
        for kind, content in contents.items():
            name = f"bad.{ending}"
            yield Case(
                f"{kind} {ending}", f"track {name} --prompts p.csv --out out", _write(name, content)
            )
    for ending in ("tif", "npy", "nrrd"):
        yield Case(
            f"folder {ending}",
            f"track bad.{ending} --prompts p.csv --out out",
            partial(_make_folder, f"bad.{ending}"),
        )
    for count in (8, 40, 200):
        yield Case(
            f"tif cut at {count}",
            "track cut.tif --prompts p.csv --out out",
            partial(_cut_tiff, count),
        )
    yield Case("no such file", "track nowhere.tif --prompts p.csv --out out")
    yield Case("name of 300 characters", f"track {'n' * 300}.tif --prompts p.csv --out out")
    yield Case("out of 300 characters", f"track good.tif --prompts p.csv --out {'o' * 300}")
    yield Case("glob without a match", "track *.xyz --prompts p.csv --out out")


def _list_arrays() -> Iterator[Case]:
    """Arrays that are no images."""
    arrays = {
        "no pixels": np.zeros((0, 8, 8), np.uint8),
        "no rows": np.zeros((3, 0, 8), np.uint8),
        "one axis": np.zeros(9, np.uint8),
        "no axis": np.array(3),
        "seven axes": np.zeros((1,) * 7, np.uint8),
        "text": np.array([["a", "b"], ["c", "d"]]),
        "dates": np.zeros((4, 8, 8), "datetime64[s]"),
        "complex": np.zeros((4, 8, 8), np.complex64),
        "records": np.zeros((4, 8), [("a", "u1"), ("b", "f4")]),
        "only NaN": np.full((4, 32, 32), np.nan, np.float32),
        "infinite": np.full((4, 32, 32), np.inf, np.float32),
    }
    for name, array in arrays.items():
        axes = "TYX" if array.ndim == 3 else "YX"
        yield Case(
            f"array: {name}",
            f"track a.npy --axes {axes} --prompts p.csv --out out",
            partial(_save_array, array),
        )
    yield Case(
        "array: pickle",
        "track a.npy --axes TYX --prompts p.csv --out out",
        lambda folder: np.save(folder / "a.npy", np.array([{}, []], object), allow_pickle=True),
    )


def _make_tiff(width: int, height: int, bits: int = 8) -> bytes:
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 200), (277, 1)]
    tags += [(278, height), (279, 64)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value & 0xFFFFFFFF) for tag, value in tags)
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries
    return head.ljust(200, b"\0") + bytes(64)


def _list_headers() -> Iterator[Case]:
    """Headers that declare what is not there."""
    sizes = {"0×0": (0, 0), "0×8": (0, 8), "-1×8": (-1, 8), "2³¹ wide": (2**31, 2**31)}
    for name, (width, height) in sizes.items():
        yield Case(
            f"tiff {name}",
            "track t.tif --axes YX --prompts p.csv --out out",
            _write("t.tif", _make_tiff(width, height)),
        )
    yield Case(
        "tiff 7 bits", "track t.tif --prompts p.csv --out out", _write("t.tif", _make_tiff(8, 8, 7))
    )
    for sizes_text in ("0 0 0", "-4 4 4", "4 4", "4 4 99999999", "4 4 x"):
        header = f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: {sizes_text}\nencoding: raw\n\n"
        yield Case(
            f"nrrd sizes {sizes_text}",
            "track n.nrrd --prompts p.csv --out out",
            _write("n.nrrd", header.encode() + bytes(64)),
        )
    for type_ in ("block", "uint7", ""):
        header = f"NRRD0004\ntype: {type_}\ndimension: 2\nsizes: 8 8\nencoding: raw\n\n"
        yield Case(
            f"nrrd type {type_ or 'missing'}",
            "track n.nrrd --prompts p.csv --out out",
            _write("n.nrrd", header.encode() + bytes(64)),
        )
    for name, shape in {
        "zero": (3, 0, 4, 4),
        "negative": (3, -4, 4, 4),
        "huge": (3, 30000, 30000, 3000),
    }.items():
        head = struct.pack("<i36xh8h", 348, *(list(shape) + [1] * 5)[:9])
        nifti = head.ljust(348, b"\0")[:344] + b"n+1\0" + bytes(100)
        yield Case(f"nifti {name}", "track n.nii --prompts p.csv --out out", _write("n.nii", nifti))
        yield Case(
            f"nifti {name} gz",
            "track n.nii.gz --prompts p.csv --out out",
            _write("n.nii.gz", gzip.compress(nifti)),
        )
    stores = {
        "not json": "{",
        "list": "[]",
        "no shape": '{"zarr_format": 3, "node_type": "array"}',
        "negative": '{"zarr_format": 2, "shape": [-1, 8, 8], "chunks": [1, 8, 8], "dtype": "|u1"}',
        "number": "7",
        "group": '{"zarr_format": 3, "node_type": "group", "attributes": {"ome": 3}}',
    }
    for name, text in stores.items():
        yield Case(
            f"zarr {name}",
            "track s.zarr --prompts p.csv --out out",
            partial(_make_store, text),
        )


def _list_prompt_files() -> Iterator[Case]:
    rows = {
        "empty": "",
        "only columns": "track,frame,kind,y,x\n",
        "no columns": "1,0,point,5,5\n",
        "column twice": "track,track,frame,kind,y,x\n1,1,0,point,5,5\n",
        "cell missing": "track,frame,kind,y,x\n1,0,point,5\n",
        "cell too many": "track,frame,kind,y,x\n1,0,point,5,5,5\n",
        "huge cell": "track,frame,kind,y,x\n1,0,point,5," + "9" * 200_000 + "\n",
        "huge number": "track,frame,kind,y,x\n1,0,point,5,1e400\n",
        "huge track": "track,frame,kind,y,x\n99999999999,0,point,5,5\n",
        "huge frame": "track,frame,kind,y,x\n1,1e300,point,5,5\n",
        "nan": "track,frame,kind,y,x\n1,0,point,nan,5\n",
        "nan track": "track,frame,kind,y,x\nnan,0,point,5,5\n",
        "infinite frame": "track,frame,kind,y,x\n1,inf,point,5,5\n",
        "kind": "track,frame,kind,y,x\n1,0,circle,5,5\n",
        "track 0": "track,frame,kind,y,x\n0,0,point,5,5\n",
        "half a frame": "track,frame,kind,y,x\n1,0.5,point,5,5\n",
        "outside": "track,frame,kind,y,x\n1,0,point,500,5\n",
        "frame outside": "track,frame,kind,y,x\n1,77,point,5,5\n",
        "only negative": "track,frame,kind,y,x,positive\n1,0,point,5,5,0\n",
        "positive": "track,frame,kind,y,x,positive\n1,0,point,5,5,maybe\n",
        "box without ends": "track,frame,kind,y,x\n1,0,box,5,5\n",
        "box reversed": "track,frame,kind,y,x,y2,x2\n1,0,box,9,9,5,5\n",
        "box outside": "track,frame,kind,y,x,y2,x2\n1,0,box,90,90,99,99\n",
        "quote open": 'track,frame,kind,y,x\n1,0,point,5,"5\n',
        "zero byte": "track,frame,kind,y,x\n1,0,point,5,\0\n",
    }
    for name, text in rows.items():
        yield Case(f"csv {name}", "track good.tif --prompts q.csv --out out", _write("q.csv", text))
    yield Case(
        "csv not UTF-8",
        "track good.tif --prompts q.csv --out out",
        _write("q.csv", b"\xff\xfe\xff"),
    )
    texts = {
        "empty": "",
        "not json": "{",
        "list": "[]",
        "null": "null",
        "number": "3",
        "no prompts": "{}",
        "huge number": '{"version": 1e999}',
        "deep": "[" * 100_000,
        "deep object": '{"a":' * 100_000,
        "nan": '{"prompts": [{"frame": NaN}]}',
        "prompts of text": '{"version": 1, "prompts": "x"}',
        "other version": '{"version": 99, "prompts": []}',
        "digits": '{"version": ' + "9" * 5_000 + "}",
    }
    for name, text in texts.items():
        yield Case(
            f"json {name}", "track good.tif --prompts q.json --out out", _write("q.json", text)
        )
    for path in ("nowhere.csv", "q.xlsx", ".", "p.csv/q.csv"):
        yield Case(f"prompts {path}", f"track good.tif --prompts {path} --out out")


def _list_options() -> Iterator[Case]:
    track = "track good.tif --prompts p.csv --out out"
    for option in (
        ["--axes", "QYX"], ["--axes", "YX"], ["--axes", ""], ["--axes", "TTYX"],
        ["--spacing", "0,0"], ["--spacing", "a,b"], ["--spacing", "nan,1"], ["--spacing", "-1,1"],
        ["--spacing", "1,1,1,1"], ["--spacing", "1e400,1"], ["--interval", "-1"],
        ["--interval", "nan"], ["--interval", "x"], ["--at", "z=9"], ["--at", "q"],
        ["--at", "t=1"], ["--contrast", "5,5"], ["--contrast", "9,1"], ["--contrast", "a,b"],
        ["--contrast", "nan,1"],
        ["--frames", "9:2"], ["--frames", "x"], ["--frames", "5:5"], ["--frames", "90:99"],
        ["--patience", "0"], ["--patience", "x"], ["--channel", "9"], ["--channel", "-1"],
        ["--device", "abacus"], ["--device", "cuda:99"], ["--model", "nanno"], ["--model", ""],
        ["--model", "good.tif"], ["--along", "z"], ["--along", "q"], ["--format", "gif"],
        ["--model-on", "foo://x"], ["--model-on", "tcp://10.0.0.9:1"], ["--model-on", ""],
        ["--model-on", "tls://x:99999999"], ["--model-on", "tls://127.0.0.1:1"],
    ):  # fmt: skip
        yield Case(
            f"track {' '.join(option)}", " ".join([track, *(word or "''" for word in option)])
        )
    count = "count good.tif --out out --diameter-px 12"
    for words in (
        "--seeds nowhere", "--seeds classical --rule large", "--seeds classical --rule :area_px>5",
        "--seeds classical --rule a:import", "--seeds classical --rule a:area_px>",
        "--seeds classical --rule a:__class__", "--diameter-px 0", "--diameter-px nan",
        "--diameter-px -3", "--diameter-px 1e9", "--diameter 3 --diameter-px 4", "--least 0",
        "--least 999", "--also xyz", "--trust nobody", "--kind line",
    ):  # fmt: skip
        yield Case(f"count {words}", f"{count} {words}")
    yield Case("out is empty", "track good.tif --prompts p.csv --out ''")
    yield Case("out is a file", "track good.tif --prompts p.csv --out p.csv")
    yield Case("out below a file", "track good.tif --prompts p.csv --out p.csv/out")
    yield Case("prompts and masks", f"{track} --masks good.tif")
    yield Case("no prompts", "track good.tif --out out")
    yield Case("no command", "")
    yield Case("unknown command", "tracks good.tif")
    yield Case("no project", "track --project . --out out")


def _list_job_files() -> Iterator[Case]:
    stack, prompts = '[[stacks]]\ninput = "good.tif"\n', 'prompts = "p.csv"\n'
    texts = {
        "empty": "",
        "not toml": "= 3",
        "no stacks": 'out = "out"\n',
        "counting is a number": f'out = "out"\n[defaults]\ncounting = 3\n{stack}',
        "counting is text": f'out = "out"\n{stack}counting = "x"\n',
        "defaults are a number": 'out = "out"\ndefaults = 3\n' + stack,
        "stacks are a number": 'out = "out"\nstacks = 3\n',
        "stack without input": f'out = "out"\n[[stacks]]\n{prompts}',
        "unknown field": f'out = "out"\n{stack}promts = "p.csv"\n',
        "huge number": f'out = "out"\n{stack}out = "{{number:99999999999}}"\n{prompts}',
        "format of text": f'out = "out"\n{stack}out = "{{stem:d}}"\n{prompts}',
        "attribute": f'out = "out"\n{stack}out = "{{stem.__class__}}"\n{prompts}',
        "index": f'out = "out"\n{stack}out = "{{stem[999]}}"\n{prompts}',
        "unknown name": f'out = "out"\n{stack}out = "{{sten}}"\n{prompts}',
        "deep": 'out = "out"\na = ' + "[" * 50_000,
        "deep keys": ".".join("a" * 20_000) + " = 1\n",
        "out is a number": f"out = 3\n{stack}",
        "digits": 'out = "out"\na = ' + "9" * 5_000 + "\n",
        "scheduler": f'out = "out"\n[cluster]\nscheduler = "foo://x"\n{stack}{prompts}',
        "scheduler is empty": f'out = "out"\n[cluster]\nscheduler = ""\n{stack}{prompts}',
        "tcp": f'out = "out"\n[cluster]\noptions = {{ protocol = "tcp://" }}\n{stack}{prompts}',
        "kind": f'out = "out"\n[cluster]\nkind = "cloud"\n{stack}{prompts}',
        "workers": f'out = "out"\n[cluster]\nworkers = 0\n{stack}{prompts}',
        "options": f'out = "out"\n[cluster]\noptions = {{ colour = "red" }}\n{stack}{prompts}',
        "no match": f'out = "out"\n[[stacks]]\ninput = "*.xyz"\n{prompts}',
        "long name": f'out = "out"\n{stack}out = "{"o" * 300}"\n{prompts}',
        "long input": f'out = "out"\n[[stacks]]\ninput = "{"i" * 300}"\n{prompts}',
        "zero byte": f'out = "out"\n[[stacks]]\ninput = "a\\u0000b"\n{prompts}',
    }
    for name, text in texts.items():
        yield Case(f"jobs {name}", "batch j.toml", _write("j.toml", text))
    recipes = {
        "not toml": "= 3",
        "unknown field": "colour = 3\n",
        "text": 'steps = "many"\n',
        "nan": "learning_rate = nan\n",
        "negative": "steps = -1\n",
        "deep": "a = " + "[" * 50_000,
    }
    for name, text in recipes.items():
        yield Case(
            f"recipe {name}",
            "finetune good.tif --recipe r.toml --out m.safetensors",
            _write("r.toml", text),
        )
    yield Case("batch: no file", "batch nowhere.toml")
    yield Case("batch: not UTF-8", "batch j.toml", _write("j.toml", b"\xff\xfe"))


def _make_safetensors(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _list_models() -> Iterator[Case]:
    nan = struct.pack("<f", float("nan"))
    files = {
        "empty": b"",
        "text": b"hello",
        "short": b"\x08\0\0",
        "huge header": struct.pack("<Q", 2**60),
        "no tensors": _make_safetensors({}),
        "one tensor": _make_safetensors(
            {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, nan
        ),
        "list": _make_safetensors([]),
        "offsets": _make_safetensors(
            {"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}, nan
        ),
    }
    for name, content in files.items():
        for ending in ("safetensors", "pt"):
            yield Case(
                f"import {ending} {name}",
                f"models import m.{ending}",
                _write(f"m.{ending}", content),
            )
    yield Case("fetch unknown", "models fetch nanno")
    yield Case("verify unknown", "models verify nanno")
    yield Case("fetch by gopher", "models fetch sam2.1-tiny --url gopher://x/y.pt")
    yield Case("fetch by nothing", "models fetch sam2.1-tiny --url ''")
    yield Case("import without a file", "models import nowhere.pt")
    yield Case("import a folder", "models import .")


def _list_labels() -> Iterator[Case]:
    yield Case("measure: no labels", "measure nowhere.tif --image good.tif --out out")
    yield Case("measure: an image", "measure float.npy --image good.tif --out out", _save_float)
    yield Case("measure: other shape", "measure small.npy --image good.tif --out out", _save_small)
    yield Case("measure: no cells", "measure good.tif --image good.tif --cells no.tif --out out")
    yield Case("evaluate: no truth", "evaluate good.tif nowhere.tif")
    yield Case("evaluate: other shape", "evaluate good.tif small.npy", _save_small)
    yield Case("evaluate: floats", "evaluate float.npy good.tif", _save_float)
    yield Case("evaluate: folder", "evaluate . good.tif")
    yield Case("masks: floats", "track good.tif --masks float.npy --out out", _save_float)
    yield Case("masks: other shape", "track good.tif --masks small.npy --out out", _save_small)
    yield Case("masks: frame", "track good.tif --masks good.tif --frame 99 --out out")
    yield Case("finetune: no data", "finetune nowhere --out m.safetensors")
    yield Case(
        "finetune: empty folder", "finetune e --out m.safetensors", lambda f: (f / "e").mkdir()
    )
    yield Case("finetune: minutes", "finetune good.tif --minutes nan --out m.safetensors")
    yield Case("finetune: out", "finetune good.tif --out m.txt")


def _save_float(folder: Path) -> None:
    np.save(folder / "float.npy", np.random.default_rng(0).random((3, 48, 48)))


def _save_small(folder: Path) -> None:
    np.save(folder / "small.npy", np.ones((2, 9, 9), np.uint8))


def run_case(case: Case, base: Path) -> Outcome:
    """Run a case in a process of its own."""
    base.mkdir()
    _write_good_files(base)
    case.make(base)
    before = {path.relative_to(base) for path in base.rglob("*")}
    with tempfile.TemporaryFile() as errors:
        child = os.fork()
        if not child:
            _run_child(case, base, errors.fileno())
        _, status, usage = os.wait4(child, 0)
        errors.seek(0)
        lines = errors.read().decode(errors="replace").splitlines()
    peak = usage.ru_maxrss * 1024
    left = [
        str(path.relative_to(base))
        for path in base.rglob("*")
        if path.relative_to(base) not in before
    ]
    return Outcome(case.name, lines[-1] if lines else "", peak, _judge(status, lines, left, peak))


def _judge(status: int, lines: Sequence[str], left: Sequence[str], peak: int) -> str:
    """What is wrong with an outcome; "" if nothing."""
    code = os.waitstatus_to_exitcode(status)
    lines = [line for line in lines if line.strip()]
    files = [path for path in left if path not in ("out", ".napari-sam2.lock")]
    if any("Traceback" in line for line in lines):
        return f"traceback: {lines[-1][:90]}"
    if code != _EXIT_ERROR:
        return f"exit code {code}"
    usage = [line for line in lines if not line.startswith(("usage:", " "))]  # of argparse
    if len(usage) != 1 or not usage[0].startswith("napari-sam2"):
        return f"{len(usage)} lines: {usage[0][:80] if usage else ''}"
    if files:
        return f"left: {', '.join(sorted(files)[:3])}"
    return "memory" if peak > MAX_BYTES else ""


def _run_child(case: Case, folder: Path, errors: int) -> None:
    """Run the command line, and end this process."""
    code = 1
    try:
        os.chdir(folder)
        os.dup2(errors, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        resource.setrlimit(resource.RLIMIT_AS, (12 * MAX_BYTES,) * 2)
        signal.alarm(_TIMEOUT_S)
        code = run_command(shlex.split(case.words))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(code)


def _write_good_files(folder: Path) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :48]
    plane = np.where((y - 20) ** 2 + (x - 20) ** 2 < 60, 180, 40) + rng.normal(0, 5, (3, 48, 48))
    tifffile.imwrite(
        folder / "good.tif", plane.astype(np.uint8), imagej=True, metadata={"axes": "TYX"}
    )
    (folder / "p.csv").write_text(_PROMPTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all cases, print a table, write JSON; 0 if all of them were refused well."""
    options = _parse_options(arguments)
    _import_everything()
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAM2_CACHE"] = str(Path(folder) / "cache")
        for number, case in enumerate(list_cases()):
            if options.only and options.only not in case.name:
                continue
            outcomes.append(run_case(case, Path(folder) / str(number)))
            if outcomes[-1].problem:
                print(f"{case.name}: {outcomes[-1].problem}", flush=True)
    wrong = [each for each in outcomes if each.problem]
    rows = [[each.name, each.problem, each.line[:120]] for each in wrong]
    print(format_markdown(["case", "problem", "last line"], rows))
    peak = max(each.peak_bytes for each in outcomes)
    print(f"{len(outcomes)} cases, {len(wrong)} wrong; peak of memory {peak / 1e6:.0f} MB")
    results = {"machine": describe_machine(), "cases": [vars(each) for each in outcomes]}
    write_results(results, options.out)
    return report_checks(
        [("one line and exit code 2 each", not wrong), ("memory below 1 GB", peak < MAX_BYTES)]
    )


def _import_everything() -> None:
    """What the cases need, once for all: a forked process has it already."""
    import napari_sam2.api.count
    import napari_sam2.api.job
    import napari_sam2.api.tables
    import napari_sam2.batch.command
    import napari_sam2.models.load
    import napari_sam2.train.finetune  # noqa: F401


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bad_input", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", help="cases whose name contains this")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
