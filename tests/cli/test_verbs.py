import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import streamtrans.cli
from streamtrans import __version__
from streamtrans.cli.app import VERBS, load_verb

CLI = Path(streamtrans.cli.__file__).parent


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(run, verb):
    status, out, _ = run(verb, "--help")
    assert status == 0
    assert f"streamtrans {verb}" in " ".join(out.split())


def test_the_program_lists_its_verbs(run):
    status, out, _ = run("--help")
    assert status == 0
    assert all(verb in out for verb in VERBS)
    assert "streamtrans-mic --to de,fr" in out


def test_the_version(run):
    assert run("--version") == (0, f"streamtrans {__version__}\n", "")


def test_an_unknown_verb_is_refused(run):
    status, _, err = run("trnslate")
    assert status == 2
    assert "trnslate" in err


def test_verbs_load_without_torch_and_without_grpc():
    code = (
        "import sys\n"
        "from streamtrans.cli.app import VERBS, load_verb\n"
        "for verb in VERBS: load_verb(verb)\n"
        "print([name for name in ('torch', 'transformers', 'grpc') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("OMP_WAIT_POLICY", "passive", "active"),
        ("LRU_CACHE_CAPACITY", "64", "1024"),
        ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64", "1024"),
    ],
)
def test_torch_is_told_how_to_wait_and_to_remember_unless_somebody_chose_otherwise(
    run, monkeypatch, name, ours, theirs
):
    monkeypatch.delenv(name, raising=False)
    run("--version")
    assert os.environ[name] == ours
    monkeypatch.setenv(name, theirs)
    run("--version")
    assert os.environ[name] == theirs


SHARED = {"--model", "--device", "--dtype", "--drafter", "--top-k", "--vad"}


@pytest.mark.parametrize("verb", ["translate", "serve", "demo"])
def test_decoding_flags_are_the_same_wherever_the_model_runs(verb):
    given = {name for parameter in load_verb(verb).params for name in parameter.opts}
    assert given >= SHARED
    helps = {p.opts[0]: p.help for p in load_verb(verb).params if p.opts[0] in SHARED}
    assert helps == {p.opts[0]: p.help for p in load_verb("translate").params if p.opts[0] in SHARED}


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "nope.toml"],
        ["export", "nope.toml", "st", "x"],
        ["convert", "nope", "x", "--vocabulary", "900"],
        ["corpus", "speak", "nope.toml", "--styles", "x"],
        ["evaluate", "--recordings"],
        ["evaluate", "nope.tsv", "--silence", "100"],
        ["convert", "nope", "x"],
        ["corpus", "prepare", "--massive", "nope.tar.gz", "--out", "tables"],
        ["serve", "--tls-cert", "cert.pem"],
        ["serve", "--drafter", "eco"],
        ["demo", "--to", "ja"],
        ["doctor", "--dtype", "x", "--vad", "x"],
    ],
)
def test_a_user_error_is_short_and_ends_with_2(run, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(*arguments)
    assert status == 2
    assert "Traceback" not in err
    assert "rror" in err


def test_convert_prints_parameters_per_part(run, monkeypatch):
    asked = {}

    def convert(source, destination, **layers):
        asked.update(layers, source=source, destination=str(destination))
        return {"encoder": 307_000_000, "text_encoder": 12_345}

    monkeypatch.setattr("streamtrans.compress.convert", convert)
    status, out, _ = run("convert", "openai/whisper-medium", "made", "--decoder-layers", "8")
    assert status == 0
    assert asked == {
        "source": "openai/whisper-medium",
        "destination": "made",
        "decoder_layers": 8,
        "text_encoder_layers": 6,
        "speculator_blocks": 3,
        "vocabulary": None,
        "texts": (),
        "prompt": "short",
    }
    assert "307,000,000" in out
    assert "307.00" in out
    assert "text encoder" in out


def test_corpus_prepare_hands_on_what_it_was_given(run, monkeypatch):
    asked = []
    monkeypatch.setattr("streamtrans.corpus.prepare", lambda *given, say: asked.append(given) or say("wrote it"))
    status, out, _ = run(
        "corpus", "prepare", "--massive", "m.tgz", "--tatoeba", "a.zip", "--tatoeba", "b.zip", "--out", "t"
    )
    assert (status, out) == (0, "wrote it\n")
    assert asked == [(Path("m.tgz"), [Path("a.zip"), Path("b.zip")], Path("t"))]


def test_corpus_speak_speaks_the_texts_of_a_recipe(run, monkeypatch, tmp_path):
    asked = []

    def speak(rows, voice, out, config, *, say):
        asked.append((len(rows), voice, out, config.weights, config.shard, config.shards))
        return 7

    (tmp_path / "chat.tsv").write_text("en\tde\nYes.\tJa.\n")
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        'name = "r"\nanchored = true\nbase = "b"\nlanguages = ["en", "de"]\n'
        f'[text]\ntables = "{tmp_path}"\nshares = {{ chat = 1.0 }}\n'
        '[[stages]]\nname = "s"\nlesson = "hearing"\nsteps = 1\n'
    )
    monkeypatch.setattr("streamtrans.corpus.ahead.speak_ahead", speak)
    monkeypatch.setattr("streamtrans.corpus.kokoro.Kokoro", lambda folder: folder)
    speak_with = ("corpus", "speak", str(recipe), "--styles", "v", "--out", "o", "--weights")
    assert run(*speak_with, "en=1,it=0.5", "--shard", "1/2")[:2] == (0, "o: 7 utterances spoken\n")
    assert asked == [(1, Path("v"), Path("o"), {"en": 1.0, "it": 0.5}, 1, 2)]
    status, _, err = run(*speak_with, "en")
    assert status == 2
    assert "write --weights as zh=1,it=0.2" in err


def test_export_prints_size_and_checksum(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("r.toml").write_text('name = "r"\n')
    report = {"bytes": 1_234, "sha256": "abc", "parameters": {"decoder": 5}}
    monkeypatch.setattr("streamtrans.train.export.export", lambda *given, runs: report)
    status, out, _ = run("export", "r.toml", "st", "made")
    assert status == 0
    assert "1,234 bytes, sha256 abc" in out
    assert "decoder" in out


def test_one_file_per_verb():
    files = {path.stem for path in CLI.glob("*.py")} | {path.name for path in CLI.iterdir() if path.is_dir()}
    assert {path.split(":")[0].rsplit(".", 1)[1] for path in VERBS.values()} <= files


def test_the_room_imports_heavy_things_only_inside_functions():
    for path in CLI.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith(("torch", "transformers", "grpc")) for name in names), path.name


def test_a_small_model_gets_one_thread_and_a_large_one_all(tmp_path, monkeypatch):
    import torch

    from streamtrans import runtime
    from streamtrans.model.loading import load_model
    from tests.checkpoints import make_whisper_m2m

    make_whisper_m2m(tmp_path)
    model = load_model(tmp_path, device="cpu")
    assert runtime.default_threads(model) == 1
    monkeypatch.setattr(runtime, "SMALL_MODEL", 10)
    assert runtime.default_threads(model) == torch.get_num_threads()
