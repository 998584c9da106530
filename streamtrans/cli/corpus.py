"""``streamtrans corpus``: the texts and the speech that models are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamtrans.cli.options import languages

corpus = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Make the texts and the speech that models are trained on.",
)


@corpus.callback()
def _corpus() -> None:
    """Make the texts and the speech that models are trained on.

    From the public archives:

        streamtrans corpus prepare --massive amazon-massive-dataset-1.1.tar.gz --tatoeba deu-eng.zip

    Speech of a voice that is too slow to speak while a model learns:

        streamtrans corpus speak recipes/m2m_base.toml --styles kokoro/voices --out data/kokoro --weights zh=1,it=0.2

    What a decoder learns from, heard ahead of its training:

        streamtrans corpus hear recipes/m2m_base.toml --files 200

    Translations for recordings that have none:

        streamtrans corpus pseudo-label talks.tsv --model facebook/nllb-200-distilled-600M --to de,fr --out labelled.tsv
    """


@corpus.command()
def prepare(
    *,
    massive: Annotated[Path, typer.Option(help="amazon-massive-dataset-1.1.tar.gz (CC BY 4.0).", show_default=False)],
    tatoeba: Annotated[
        list[Path] | None,
        typer.Option(
            help="A pair with English of manythings.org/anki, such as fra-eng.zip (CC BY 2.0 FR); "
            "give it once per pair.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the tables.")] = Path("data/text"),
) -> None:
    """Write the tables from the public archives, and print what was read and written with checksums.

    As the embedded model's were made:

        streamtrans corpus prepare --massive amazon-massive-dataset-1.1.tar.gz --tatoeba fra-eng.zip
        --tatoeba deu-eng.zip --tatoeba cmn-eng.zip --out data/text
    """
    from streamtrans.corpus import prepare as run

    run(massive, tatoeba or [], out, say=typer.echo)


@corpus.command("pseudo-label")
def pseudo_label(
    manifest: Annotated[Path, typer.Argument(help="A manifest: TSV or JSON Lines with audio, text and language.")],
    *,
    model: Annotated[str, typer.Option(help="A Hugging Face seq2seq folder or hub name.", show_default=False)],
    to: Annotated[list[str], typer.Option(help="Languages to fill in, such as de,fr.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The manifest to write; .jsonl gives JSON Lines.", show_default=False)],
    codes: Annotated[
        str, typer.Option(help="The model's codes where they differ, such as zh=zho_Hans,de=deu_Latn.")
    ] = "",
    prefix: Annotated[
        str,
        typer.Option(
            help="What the model wants before a text: 'translate {source_name} to {target_name}: ' for T5, "
            "'>>{target}<< ' for Marian models of many languages."
        ),
    ] = "",
    beams: Annotated[int, typer.Option(min=1, help="1 translates greedily.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Texts at once: larger is faster and takes more memory.")] = 32,
    device: Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda, cuda:1, …")] = "auto",
) -> None:
    """Fill in a manifest's missing translations with a machine's, as the paper's pseudo-labels.

    Translations that are there stay. Interrupted, it goes on where it was:

        streamtrans corpus pseudo-label talks.tsv --model facebook/nllb-200-distilled-600M --to de,fr --out labelled.tsv
    """
    from streamtrans.core import BadConfig
    from streamtrans.train.finetune.labelling import label_manifest
    from streamtrans.train.finetune.recipe import PseudoRecipe

    pairs = [pair.partition("=") for pair in codes.split(",") if pair.strip()]
    if wrong := [ours for ours, equals, theirs in pairs if not (ours.strip() and equals and theirs.strip())]:
        raise BadConfig(f"--codes: {wrong[0]!r} must look like zh=zho_Hans")
    recipe = PseudoRecipe(
        model,
        to=languages(to),
        codes={ours.strip(): theirs.strip() for ours, _, theirs in pairs},
        prefix=prefix,
        beams=beams,
        batch=batch,
    )
    made = label_manifest(manifest, out, recipe, device=device, say=typer.echo)
    typer.echo(f"{out}: {made:,} translations filled in")


@corpus.command()
def speak(
    recipe: Annotated[Path, typer.Argument(help="The recipe whose texts are spoken, such as recipes/m2m_base.toml.")],
    *,
    styles: Annotated[Path, typer.Option(help="Folder of Kokoro's style vectors, *.bin (npm: kokoro-js).")],
    out: Annotated[Path, typer.Option(help="Folder for the speech and its manifest.")] = Path("data/kokoro"),
    weights: Annotated[
        str, typer.Option(help="How often each language speaks.")
    ] = "zh=1,it=0.18,fr=0.15,es=0.12,en=0.12",
    count: Annotated[int, typer.Option(min=1, help="Rows to look at; not all can be spoken.")] = 200_000,
    shard: Annotated[str, typer.Option(help="Which of how many processes this is, such as 0/2.")] = "0/1",
) -> None:
    """Speak a recipe's texts with Kokoro, ahead of the training that hears them.

    Training may read the manifest while this goes on. Interrupted, it goes on where it was:

        streamtrans corpus speak recipes/m2m_base.toml --styles kokoro/voices --out data/kokoro
    """
    from streamtrans.core import BadConfig
    from streamtrans.corpus.ahead import AheadConfig, speak_ahead
    from streamtrans.corpus.kokoro import Kokoro
    from streamtrans.train.anchored.recipe import load_anchored
    from streamtrans.train.anchored.sounds import read_texts

    try:
        shares = {code.strip(): float(share) for code, _, share in (each.partition("=") for each in weights.split(","))}
        number, shards = (int(part) for part in shard.split("/"))
    except ValueError:
        raise BadConfig(f"write --weights as zh=1,it=0.2 and --shard as 0/2, not {weights!r} and {shard!r}") from None
    plan = load_anchored(recipe)
    config = AheadConfig(count, shares, plan.seed, number, shards)
    made = speak_ahead(read_texts(plan), Kokoro(styles), out, config, say=typer.echo)
    typer.echo(f"{out}: {made:,} utterances spoken")


@corpus.command()
def hear(
    recipe: Annotated[Path, typer.Argument(help="An anchored recipe, such as recipes/m2m_base.toml.")],
    *,
    stage: Annotated[str, typer.Option(help="The stage that learns from it.")] = "directions",
    files: Annotated[
        int, typer.Option(min=1, help="How many files there shall be, each of eight batches of the stage.")
    ] = 200,
    runs: Annotated[Path, typer.Option(help="Folder that holds a folder per run.")] = Path("runs"),
) -> None:
    """Speak a recipe's texts, and keep what the encoder of a stage hears and the stock decoder says.

    The stage learns from these files alone, and may do so while this goes on. Interrupted, it goes on where it was:

        streamtrans corpus hear recipes/m2m_base.toml --files 200
    """
    from streamtrans.core import BadConfig, needs

    try:
        from streamtrans.train.anchored.listening import hear_ahead
    except ModuleNotFoundError as error:
        raise BadConfig(needs("hearing ahead", str(error.name), "train")) from None
    made = hear_ahead(recipe, stage, runs=runs, files=files, say=typer.echo)
    typer.echo(f"{made:,} utterances heard")
