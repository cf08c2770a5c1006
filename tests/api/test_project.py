"""Projects: saved continuously, opened after a crash or elsewhere, replayed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_sam2.api.project import Project
from napari_sam2.api.replay import replay_project
from napari_sam2.cli import main
from napari_sam2.core.errors import (
    DeviceError,
    FileError,
    ModelError,
    OutputError,
    PlanError,
    PromptError,
)
from napari_sam2.core.prompt import MaskPrompt, PointPrompt, PromptLog
from napari_sam2.core.track import Presence, Track
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.io.writers.project_labels import ProjectLabels
from napari_sam2.models.gpu_memory import BatchLimitedModel
from napari_sam2.models.load import load_model
from napari_sam2.propagation.session import Session
from napari_sam2.testing.scenes import Scene, make_drifting_scene, make_jumping_scene
from napari_sam2.testing.toy import ToyModel
from tests.models import networks
from tests.propagation.test_evidence import FakeEvidence


def save_stack(scene: Scene, folder: Path) -> Path:
    path = folder / "cells.ome.tif"
    tifffile.imwrite(path, scene.stack.data, metadata={"axes": "TYX"}, ome=True)
    return path


def labels(session: Session) -> np.ndarray:
    return np.stack([session.compute_label_plane(frame) for frame in range(len(session.video))])


def create_project(folder: Path, scene: Scene) -> Project:
    return Project.create(
        folder / "project", open_stack(save_stack(scene, folder)).as_video(), ToyModel().card
    )


def test_reopened_project_has_prompts_labels_and_view(tmp_path: Path) -> None:
    scene = make_jumping_scene()
    with create_project(tmp_path, scene) as project:
        assert not project.needs_replay
        session = project.open_session(ToyModel())
        session.prompt_many(scene.make_log().prompts)
        session.run().finish()
        session.prompt(scene.make_click(1, 5))
        session.run().finish()
        session.lock(2, 3)
        session.describe(Track(1, "Anna", "nucleus"))
        project.view = {"frame": 7, "limits": [0, 1]}
        before, log = labels(session), session.log
        session.close()
    model = ToyModel()
    with Project.open(tmp_path / "project") as project:
        session = project.open_session(model)
        assert (session.log, project.view, project.needs_replay) == (
            log,
            {"frame": 7, "limits": [0, 1]},
            False,
        )
        np.testing.assert_array_equal(labels(session), before)
        assert not model.calls, "nothing is computed again"
        assert session.get_records()[2, 3].presence is Presence.LOCKED
        assert session.undo(), "undo works as before"
        assert project.log == session.log
        session.close()


def test_later_correction_encodes_no_frame_again(tmp_path: Path) -> None:
    scene, models = make_drifting_scene(), (ToyModel(), ToyModel(), ToyModel())
    found = []
    with create_project(tmp_path, scene) as project:
        session = project.open_session(models[0])
        session.prompt_many(scene.make_log().prompts)
        session.run().finish()
        session.close()
    for again, model in ((True, models[1]), (False, models[2])):
        with Project.open(tmp_path / "project") as project:
            session = project.open_session(model)
            session.prompt(scene.make_click(1, 5))
            session.run().finish()
            found.append(labels(session))
            session.undo()
            session.close()
        if again:
            shutil.rmtree(tmp_path / "project" / "embeddings")
    assert sorted(models[0].embedded_frames) == list(range(len(scene.stack.as_video())))
    assert models[1].embedded_frames == [] and models[2].embedded_frames
    np.testing.assert_array_equal(found[0], found[1], err_msg="the same without cached features")


def test_saving_writes_only_what_changed(tmp_path: Path) -> None:
    scene = make_drifting_scene()
    with create_project(tmp_path, scene) as project:
        assert project.save() == 0
        for frame in (0, 1, 1):
            project.put_labels(frame, scene.labels[frame])
        assert (project.save(), project.save()) == (2, 0)
        project.put_labels(0, scene.labels[0])
        project.put_labels(1, scene.labels[2])
        project.view = {"frame": 1}
        assert (project.save(), project.save()) == (2, 0), "one plane and the file"
        np.testing.assert_array_equal(project.read_labels(1), scene.labels[2])


def test_planes_are_saved_later_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_drifting_scene()
    with create_project(tmp_path, scene) as project:
        project.put_labels(0, scene.labels[0])
        project.save()
        project.put_labels(1, scene.labels[1])
        with monkeypatch.context() as patched:
            patched.setattr(ProjectLabels, "put", _raise_disk_full)
            with pytest.raises(OutputError):
                project.save()
        assert project.save() == 1
        np.testing.assert_array_equal(project.read_labels(1), scene.labels[1])


def _raise_disk_full(labels: ProjectLabels, frame: int, plane: np.ndarray) -> bool:
    raise OutputError("free some space")


CHILD = """
import os, sys
from pathlib import Path
from napari_sam2.api.project import Project
from napari_sam2.io.open import open_stack
from napari_sam2.testing.scenes import make_drifting_scene
from napari_sam2.testing.toy import ToyModel

folder, scene = Path(sys.argv[1]), make_drifting_scene(frames=40)
video = open_stack(folder / "cells.ome.tif").as_video()
project = Project.create(folder / "project", video, ToyModel().card)
session = project.open_session(ToyModel())
session.prompt_many([scene.make_click(track, 10) for track in scene.tracks])
for step in session.run():
    project.put_labels(step.step.frame, session.compute_label_plane(step.step.frame))
    project.save()
    print(step.position, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_killed_session_continues_where_it_was(tmp_path: Path) -> None:
    scene = make_drifting_scene(frames=40)
    save_stack(scene, tmp_path)
    started = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout
    for line in started.stdout:
        if int(line) == 10:
            break
    os.kill(started.pid, signal.SIGKILL)
    done = 10 + len(started.communicate(timeout=60)[0].splitlines())
    assert done < 29, "it was killed before the end"
    with Project.open(tmp_path / "project") as project:
        model = ToyModel()
        session = project.open_session(model)
        assert session.unfinished and not project.needs_replay
        np.testing.assert_array_equal(labels(session)[10 : 10 + done], scene.labels[10 : 10 + done])
        np.testing.assert_array_equal(project.read_labels(15), scene.labels[15])
        session.run().finish()
        assert len(model.get_segmented_frames(1)) <= 39 - done
        np.testing.assert_array_equal(labels(session), scene.labels)
        session.close()
    assert not list((tmp_path / "project").glob(".*.part"))


def test_moved_project_finds_its_image_beside_it(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    scene = make_drifting_scene()
    with create_project(here, scene) as project:
        session = project.open_session(ToyModel())
        session.prompt_many(scene.make_log().prompts)
        session.run().finish()
        session.close()
    there = here.rename(tmp_path / "there")
    with Project.open(there / "project") as project:
        session = project.open_session(ToyModel())
        np.testing.assert_array_equal(labels(session), scene.labels)
        session.close()
    assert json.loads((there / "project" / "project.json").read_text())["image"]["path"] == str(
        there / "cells.ome.tif"
    )


def test_changed_or_missing_image_is_refused(tmp_path: Path) -> None:
    create_project(tmp_path, make_drifting_scene()).close()
    save_stack(make_jumping_scene(), tmp_path)
    with pytest.raises(
        FileError,
        match=r"project .*cells\.ome\.tif: is another image or was changed: its pixels differ",
    ):
        Project.open(tmp_path / "project")
    (tmp_path / "cells.ome.tif").unlink()
    with pytest.raises(FileError, match="give its path if it was moved, cells.ome.tif"):
        Project.open(tmp_path / "project")


def test_other_model_is_refused_unless_asked_for(
    tmp_path: Path,
) -> None:
    scene = make_jumping_scene()
    with create_project(tmp_path, scene) as project:
        session = project.open_session(ToyModel())
        session.prompt_many(scene.make_log().prompts)
        session.run().finish()
        session.close()
    other = ToyModel(tolerance=0.2)
    with Project.open(tmp_path / "project") as project:
        with pytest.raises(ModelError, match="the project was made with toy, SHA-256"):
            project.open_session(other)
        session = project.open_session(other, another_model=True)
        log = project.log
        assert project.needs_replay and len(session.log) == 0 and len(log) == 3
        session.close()
    with Project.open(tmp_path / "project") as project:  # closing before the replay loses nothing
        assert project.log == log
        session = project.open_session(other)
        assert project.needs_replay
        project.replay_missing(session)
        assert (project.needs_replay, session.log, project.log) == (False, log, log)
        assert other.get_segmented_frames(1)[0] == 0
        session.close()
    with Project.open(tmp_path / "project") as project:
        assert project.model.sha256 == other.card.sha256
        session = project.open_session(other)
        assert not project.needs_replay
        session.close()


def test_missing_segments_are_replayed(tmp_path: Path) -> None:
    scene = make_drifting_scene()
    with create_project(tmp_path, scene) as project:
        session = project.open_session(ToyModel())
        session.prompt_many(scene.make_log().prompts)
        session.run().finish()
        session.close()
    for left in (tmp_path / "project").glob("trail*"):
        left.unlink()
    with Project.open(tmp_path / "project") as project:
        session = project.open_session(ToyModel())
        assert project.needs_replay
        project.replay_missing(session)
        np.testing.assert_array_equal(labels(session), scene.labels)
        session.close()


def test_project_is_open_in_one_place_at_a_time(tmp_path: Path) -> None:
    with (
        create_project(tmp_path, make_drifting_scene()),
        pytest.raises(OutputError, match="is open in another window"),
    ):
        Project.open(tmp_path / "project")
    Project.open(tmp_path / "project").close()


def test_project_is_not_created_in_a_project(tmp_path: Path) -> None:
    scene = make_drifting_scene()
    create_project(tmp_path, scene).close()
    with pytest.raises(OutputError, match="is a project already"):
        create_project(tmp_path, scene)


def test_prompts_that_do_not_fit_the_image_are_refused(tmp_path: Path) -> None:
    with create_project(tmp_path, make_drifting_scene()) as project:
        project.save_log(PromptLog((PointPrompt(99, 1, [(1, 1)], [True]),)))
    with pytest.raises(PromptError, match="frames 0 to 9"):
        Project.open(tmp_path / "project")


def test_saving_a_log_of_hundreds_of_masks_is_quick(tmp_path: Path) -> None:
    scene = make_drifting_scene(shape=(512, 512))
    with create_project(tmp_path, scene) as project:
        many = PromptLog(tuple(MaskPrompt(0, track, scene.mask(1, 0)) for track in range(1, 301)))
        project.save_log(many)
        began = time.perf_counter()
        project.save_log(many.add(scene.make_click(1)))
        assert time.perf_counter() - began < 1


Says = Callable[[Session, Scene], object]


def _correct(session: Session, scene: Scene) -> None:
    session.prompt_many(scene.make_log().prompts)
    session.run().finish()
    session.prompt(scene.make_click(1, 5))
    session.run().finish()
    session.lock(2, 3)


def _cancel(session: Session, scene: Scene) -> None:
    """Cancel before a correction on a frame that was not reached: it is answered without memory."""
    session.prompt_many(scene.make_log().prompts)
    run = session.run()
    for stepped in run:
        if stepped.position == 4:
            run.cancel()
    session.prompt(scene.make_click(1, 7))
    run = session.run(session.plan(direction="forward"))
    for _ in run:
        run.cancel()


def _cancel_at_once(session: Session, scene: Scene) -> None:
    session.prompt_many(scene.make_log().prompts)
    run = session.run()
    run.cancel()
    run.finish()


def test_project_keeps_its_attention(tmp_path: Path) -> None:
    """With any attention of the given model; projects of old versions have global attention."""
    model, folder = networks.make_model(size=64), tmp_path / "project"
    with Project.create(
        folder, make_jumping_scene().video, model.with_attention("auto").card
    ) as project:
        assert project.open_session(model).model.card.attention == "auto"
    file = json.loads((folder / "project.json").read_text())
    assert file["model"].pop("attention") == "auto"
    (folder / "project.json").write_text(json.dumps(file))
    with (
        Project.open(folder) as project,
        project.open_session(BatchLimitedModel(model.with_attention("local"))) as session,
    ):
        assert session.model.card.attention == "global"
    toy = ToyModel()
    other = Project.create(
        tmp_path / "other", make_jumping_scene().video, replace(toy.card, attention="local")
    )
    with other, pytest.raises(ModelError, match="load it with attention 'local'"):
        other.open_session(toy)


_REFUSED = (
    "the project's precision 'bfloat16': device 'cpu' computes in float32; choose one of these "
    "by precision= (--precision); then everything is computed again"
)


def _set_cpu_instructions(monkeypatch: pytest.MonkeyPatch, *instructions: str) -> None:
    """Let PyTorch report these instructions for this machine's processor."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))


def test_project_keeps_its_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any precision of the given model; projects of old versions are in float32."""
    _set_cpu_instructions(monkeypatch, "avx512_bf16")
    exact, folder = load_model("nano", device="cpu"), tmp_path / "project"
    rough = load_model("nano", device="cpu", precision="bfloat16")
    with Project.create(folder, make_jumping_scene().video, rough.card) as project:
        for model in (exact, rough, BatchLimitedModel(exact), None):
            with project.open_session(model, device="cpu") as session:
                assert session.model.card.precision == "bfloat16"
    file = json.loads((folder / "project.json").read_text())
    assert file["model"].pop("precision") == "bfloat16"
    (folder / "project.json").write_text(json.dumps(file))
    with Project.open(folder) as project, project.open_session(rough) as session:
        assert session.model.card.precision == "float32"
    toy = ToyModel()
    other = Project.create(
        tmp_path / "other", make_jumping_scene().video, replace(toy.card, precision="bfloat16")
    )
    with other, pytest.raises(ModelError, match="load it with precision 'bfloat16'"):
        other.open_session(toy)


def test_other_precision_computes_everything_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a device refused the project's precision; the new one is then the project's."""
    _set_cpu_instructions(monkeypatch, "avx512_bf16")
    scene, folder = make_jumping_scene(), tmp_path / "project"
    rough = load_model("nano", device="cpu", precision="bfloat16")
    project = Project.create(folder, open_stack(save_stack(scene, tmp_path)).as_video(), rough.card)
    with project, project.open_session(rough) as session:
        session.replay(scene.make_log())
        session.run().finish()
        log, before = session.log, labels(session)
    _set_cpu_instructions(monkeypatch, "avx512_f")
    for given in (load_model("nano", device="cpu"), None):
        with Project.open(folder) as project, pytest.raises(DeviceError) as error:
            project.open_session(given, device="cpu")
        assert str(error.value) == _REFUSED
    with (
        Project.open(folder) as project,
        pytest.raises(
            DeviceError, match="^precision 'float16': device 'cpu' computes in float32; "
        ),
    ):
        project.open_session(device="cpu", precision="float16")
    with (
        Project.open(folder) as project,
        project.open_session(device="cpu", precision="float32") as session,
    ):
        assert project.needs_replay and project.model.precision == "float32"
        project.replay_missing(session)
        assert session.log == log and session.model.card.precision == "float32"
        after = labels(session)
        assert ((after > 0) == (before > 0)).mean() > 0.95 and after.any()
    with (
        Project.open(folder) as project,
        project.open_session(device="cpu", precision="float32") as session,
    ):
        assert not project.needs_replay, "it is the project's own now"
        np.testing.assert_array_equal(labels(session), after)


def test_command_line_replays_a_project_in_a_precision(
    scene: Scene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _set_cpu_instructions(monkeypatch, "avx512_bf16")
    rough = load_model("nano", device="cpu", precision="bfloat16")
    project = Project.create(
        tmp_path / "project", open_stack(save_stack(scene, tmp_path)).as_video(), rough.card
    )
    with project, project.open_session(rough) as session:
        session.replay(scene.make_log())
        session.run().finish()
        expected = labels(session)
    call = ["track", "--project", str(tmp_path / "project"), "--device", "cpu", "--out"]
    for out, option in {
        "own": (),
        "bfloat16": ("--precision", "bfloat16"),
        "float32": ("--precision", "float32"),
    }.items():
        assert main([*call, str(tmp_path / out), *option]) == 0
        found = json.loads((tmp_path / out / "provenance.json").read_text())["model"]["precision"]
        assert found == (out if option else "bfloat16")
    for out in ("own", "bfloat16"):
        np.testing.assert_array_equal(
            np.asarray(open_labels(tmp_path / out / "labels.ome.tif").data), expected
        )
    assert main([*call, str(tmp_path / "bfloat16"), "--precision", "bfloat16", "--resume"]) == 0
    assert main([*call, str(tmp_path / "bfloat16"), "--precision", "float32", "--resume"]) == 2
    assert "holds the results of another job" in capsys.readouterr().err
    _set_cpu_instructions(monkeypatch, "avx512_f")
    assert main([*call, str(tmp_path / "other")]) == 2
    assert capsys.readouterr().err == f"napari-sam2: {_REFUSED}\n"


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_jumping_scene()


@pytest.mark.parametrize(
    "say", [_correct, _cancel, _cancel_at_once], ids=["corrected", "cancelled", "never begun"]
)
def test_command_line_replay_gives_identical_labels(
    say: Says, scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = open_stack(save_stack(scene, tmp_path)).as_video()
    model = load_model("nano", device="cpu")
    with Project.create(tmp_path / "project", video, model.card) as project:
        session = project.open_session(model)
        say(session, scene)
        session.describe(Track(1, category="nucleus"))
        expected = labels(session)
        session.close()
    assert (
        main(
            [
                "track",
                "--project",
                str(tmp_path / "project"),
                "--out",
                str(tmp_path / "out"),
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    found = np.asarray(open_labels(tmp_path / "out" / "labels.ome.tif").data)
    np.testing.assert_array_equal(found, expected)
    assert expected.any()
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert provenance["settings"]["job"]["project"].endswith("project")
    assert "nucleus" in (tmp_path / "out" / "objects.csv").read_text()
    assert capsys.readouterr().out.splitlines()[-1].startswith("Done: ")
    with Project.open(tmp_path / "project") as project:
        session = project.open_session(model)
        np.testing.assert_array_equal(labels(session), expected)
        session.close()


def test_interrupted_replay_continues(scene: Scene, tmp_path: Path) -> None:
    model = load_model("nano", device="cpu")
    with Project.create(
        tmp_path / "project", open_stack(save_stack(scene, tmp_path)).as_video(), model.card
    ) as project:
        session = project.open_session(model)
        _cancel(session, scene)
        expected = labels(session)
        session.close()

    class Stop(Exception):
        pass

    def stop(stepped: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        replay_project(tmp_path / "project", tmp_path / "out", device="cpu", progress=stop)
    replay_project(tmp_path / "project", tmp_path / "out", device="cpu", resume=True)
    np.testing.assert_array_equal(
        np.asarray(open_labels(tmp_path / "out" / "labels.ome.tif").data), expected
    )
    assert (
        "finished already"
        in replay_project(tmp_path / "project", tmp_path / "out", device="cpu", resume=True).summary
    )


def test_replay_refuses_another_model_unless_asked_for(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with create_project(
        tmp_path, scene
    ) as project:  # made with the toy model, which has no name to load it by
        session = project.open_session(ToyModel())
        session.prompt_many(scene.make_log().prompts)
        session.close()
    call = ["track", "--project", str(tmp_path / "project"), "--out", str(tmp_path / "out")]
    assert main(call) == 2
    assert "the project was made with toy, SHA-256" in capsys.readouterr().err
    file = tmp_path / "project" / "project.json"
    file.write_text(file.read_text().replace('"asked": "toy"', '"asked": "nano"'))
    assert main(call) == 2
    assert "nano here is another model" in capsys.readouterr().err
    assert main([*call, "--model", "nano", "--device", "cpu"]) == 0
    notes = json.loads((tmp_path / "out" / "provenance.json").read_text())["notes"]
    assert notes == ["another model than the project's own (toy) was asked for"]


def test_moved_image_is_given_as_the_input(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model("nano", device="cpu")
    with Project.create(
        tmp_path / "project", open_stack(save_stack(scene, tmp_path)).as_video(), model.card
    ) as project:
        session = project.open_session(model)
        session.prompt_many(scene.make_log().prompts)
        session.close()
    (tmp_path / "cells.ome.tif").rename(tmp_path / "moved.tif")
    call = [
        "track",
        "--project",
        str(tmp_path / "project"),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]
    assert main(call) == 2
    error = capsys.readouterr().err
    assert (
        "cells.ome.tif (TYX 10 × 64 × 64 uint16, fingerprint" in error
        and len(error.splitlines()) == 1
    )
    assert main([*call, str(tmp_path / "moved.tif")]) == 0


def test_project_without_prompts_is_not_replayed(tmp_path: Path) -> None:
    create_project(tmp_path, make_drifting_scene()).close()
    with pytest.raises(PlanError, match="nothing to replay"):
        replay_project(tmp_path / "project", tmp_path / "out")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("--project {project} --along z", "--along does not go with --project"),
        ("--project {project} --frames 0:3", "--frames does not go with --project"),
        ("--project {folder}", "expected a project folder"),
        ("--prompts {folder}/p.csv", "no INPUT"),
    ],
)
def test_contradictory_calls_give_one_line(
    call: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_project(tmp_path, make_drifting_scene()).close()
    words = call.format(project=tmp_path / "project", folder=tmp_path).split()
    assert main(["track", *words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("parts", ["none", "presence", "all"])
def test_a_project_keeps_its_evidence_and_replays_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: str
) -> None:
    scene = make_drifting_scene()
    seen = np.array(scene.labels)
    seen[5:] = 0
    for module in ("project", "replay"):
        monkeypatch.setattr(
            f"napari_sam2.api.{module}.make_evidence",
            lambda video, given, options: None if given == "none" else FakeEvidence(seen),
        )
    video = open_stack(save_stack(scene, tmp_path)).as_video()
    folder = tmp_path / "project"
    with (
        Project.create(folder, video, ToyModel().card, evidence=parts) as project,
        project.open_session(ToyModel()) as session,
    ):
        session.prompt_many(scene.make_log().prompts)
        session.run().finish()
        propagated = labels(session)
    assert propagated[5:].any() == (parts == "none") and propagated[4].any()
    with Project.open(folder) as project:
        assert project.evidence == parts
        with project.open_session(ToyModel()) as session:
            np.testing.assert_array_equal(labels(session), propagated)
            assert (session.evidence is None) == (parts == "none")

    def stop(step: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        replay_project(folder, out, model=ToyModel(), progress=stop)
    file = json.loads((folder / "project.json").read_text())
    for other in {"none", "mask", "all"} - {parts}:
        (folder / "project.json").write_text(json.dumps({**file, "evidence": other}))
        with pytest.raises(PlanError, match="another input, model or setting"):
            replay_project(folder, out, model=ToyModel(), resume=True)
    (folder / "project.json").write_text(json.dumps(file))
    replay_project(folder, out, model=ToyModel(), resume=True)
    np.testing.assert_array_equal(tifffile.imread(out / "labels.ome.tif"), propagated)


def test_a_project_file_without_evidence_is_one_without(tmp_path: Path) -> None:
    create_project(tmp_path, make_drifting_scene()).close()
    path = tmp_path / "project" / "project.json"
    file = json.loads(path.read_text())
    assert file.pop("evidence") == "none"
    path.write_text(json.dumps(file))
    with Project.open(tmp_path / "project") as project, project.open_session(ToyModel()) as session:
        assert project.evidence == "none" and session.evidence is None


@pytest.mark.parametrize("parts", ["eyes", "", "all,none"])
def test_a_project_file_with_unknown_evidence_is_one_clear_error(
    tmp_path: Path, parts: str
) -> None:
    create_project(tmp_path, make_drifting_scene()).close()
    path = tmp_path / "project" / "project.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "evidence": parts}))
    with pytest.raises(FileError, match="evidence"):
        Project.open(tmp_path / "project")
