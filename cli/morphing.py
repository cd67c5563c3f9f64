"""`morph`: films of one object becoming another, and the prior that they are made with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from fieldcast.cli import options
from fieldcast.cli.arguments import chosen_device, provenance
from fieldcast.cli.groups import Verb
from fieldcast.cli.results import show
from fieldcast.console import Console
from fieldcast.errors import InputError

PRIOR = click.option(
    "--prior",
    default="builtin",
    show_default=True,
    metavar="P",
    help="builtin, a file of its kind, or a Shap-E folder.",
)


@click.group(cls=Verb, own="between", takes="A B OUT", context_settings={"help_option_names": ["-h", "--help"]})
def morph() -> None:
    """A film of one object becoming another, with a 3D prior that makes what is between them.

    A and B are mesh files, field files or captions, in any mix. OUT is a folder: every frame as a field and as GLB, a
    film, a sheet of pictures and a report. Frames are where A is, as large as it.

    \b
    fieldcast morph car.glb dinosaur.glb film
    fieldcast morph chair.glb "red mushroom" film --frames 16
    fieldcast morph lego.safetensors "yellow truck" film --seed 3
    fieldcast convert film/frames/012.safetensors x.safetensors --to hashgrid
    """


@morph.command(hidden=True)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--frames", default=24, show_default=True, help="How many, with both ends.")
@click.option("--recipe", default="default", show_default=True, help="default, or paper, as it was published.")
@click.option("--what", default="both", show_default=True, help="What changes: shape, texture or both.")
@click.option("--caption-a", default=None, help="What A is (default: the words of its file's name that are known).")
@click.option("--caption-b", default=None, help="What B is.")
@PRIOR
@options.SEED
@options.DEVICE
@options.RESUME
@options.FORCE
@options.reporting
def between(console: Console, a: str, b: str, out: Path, resume: bool, force: bool, **asked: Any) -> None:
    """A film of A becoming B."""
    from fieldcast.fields.files.atomic import check_folder_writable
    from fieldcast.fields.files.memory import Memory
    from fieldcast.morph.folder import write_morph
    from fieldcast.morph.inputs import given_by, recipe_of
    from fieldcast.morph.priors import open_prior
    from fieldcast.morph.report import report
    from fieldcast.morph.sequence import morph as make

    start, recipe = time.perf_counter(), recipe_of(asked["recipe"], asked["frames"], asked["what"])
    check_folder_writable(out, force)
    prior = open_prior(asked["prior"], chosen_device(asked["device"]))
    first, second = given_by(prior, a, asked["caption_a"]), given_by(prior, b, asked["caption_b"])
    memory = Memory(out.with_name(f".{out.name}.checkpoint.safetensors"), {"a": a, "b": b, **asked})
    if resume:
        memory.load()
    with console.progress("morph") as progress:
        made = make(prior, first, second, recipe, asked["frames"], asked["seed"], asked["what"], memory, progress)
        facts = report(made, asked["recipe"], time.perf_counter() - start)
        write_morph(made, out, facts, provenance(f"{a} to {b}"), force, progress)
    memory.forget()
    show(console, f"{out}/: morph.mp4, sheet.png, {len(made.alphas)} frames", facts)


@morph.command()
@PRIOR
@options.reporting
def words(console: Console, prior: str) -> None:
    """The words that captions are made of."""
    from fieldcast.morph.priors import open_prior
    from fieldcast.morph.priors.builtin import BuiltinPrior

    opened = open_prior(prior)
    if not isinstance(opened, BuiltinPrior):
        raise InputError(f"--prior {prior}: it takes any words")
    if console.json:
        console.emit_json(opened.words[1:])
    else:
        click.echo(" ".join(opened.words[1:]))


@morph.command("eval")
@click.argument("assets", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--pairs", type=click.Path(path_type=Path), help="A CSV of pairs (default: 20 of held-out assets).")
@click.option("--count", type=click.IntRange(1), help="Only so many of the pairs.")
@click.option("--methods", default=None, metavar="A,B", help="Some of the methods (default: all).")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="How many, from --seed on.")
@click.option("--frames", default=11, show_default=True, type=click.IntRange(4), help="Of a morph, with both ends.")
@click.option("--part", default=1.0, show_default=True, type=click.FloatRange(0.001, 1), help="Of the papers' steps.")
@click.option("--distances", default="3D,FLIP,EffLite", show_default=True, help="By which steps are measured.")
@PRIOR
@options.SEED
@options.DEVICE
@options.reporting
def evaluate(console: Console, assets: Path, out: Path, pairs: Path | None, prior: str, **asked: Any) -> None:
    """Morphs of many pairs of objects by our method and by others, measured alike (docs/morph-evaluation.md).

    ASSETS is the folder of meshes with an index.csv that the prior was trained on: those that it has not learned from
    become the pairs. OUT is a folder for rows.jsonl, a line a morph, which an interrupted run continues, and table.md.

    \b
    fieldcast morph eval meshes/ evaluation/ --count 2 --methods grid,paper,default --seeds 1 --part 0.1
    """
    from fieldcast.fields.files.atomic import atomic_path
    from fieldcast.morph.evaluation.methods import METHODS
    from fieldcast.morph.evaluation.pairs import held_out_pairs, read_pairs
    from fieldcast.morph.evaluation.protocol import Protocol, run_evaluation
    from fieldcast.morph.evaluation.references import references
    from fieldcast.morph.evaluation.tables import table
    from fieldcast.morph.priors import open_prior
    from fieldcast.morph.priors.builtin.assets import gather

    methods = tuple(asked["methods"].split(",")) if asked["methods"] else METHODS
    seeds, distances = range(asked["seed"], asked["seed"] + asked["seeds"]), tuple(asked["distances"].split(","))
    rules = Protocol(methods, tuple(seeds), asked["frames"], asked["part"], distances)
    wanted = (read_pairs(pairs) if pairs else held_out_pairs(assets))[: asked["count"]]
    opened = open_prior(prior, chosen_device(asked["device"]))
    with console.progress("evaluate") as progress:
        known = references(gather(assets, out / "assets", progress), out, distances, progress)
        rows = run_evaluation(opened, wanted, known, out, rules, progress)
    text = table(rows)
    with atomic_path(out / "table.md", force=True) as stump:
        stump.write_text(text + "\n", encoding="utf-8")
    if console.json:
        console.emit_json(
            [{"method": row.job.method, "pair": row.job.pair, "seed": row.job.seed, **row.found} for row in rows]
        )
    else:
        click.echo(text)


@morph.command()
@click.argument("assets", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--work", type=click.Path(path_type=Path), help="A folder for what is made on the way (default: beside OUT)."
)
@click.option("--steps", default=12_000, show_default=True, type=click.IntRange(1), help="Of the network.")
@click.option("--codec-steps", default=5_000, show_default=True, type=click.IntRange(1), help="Of the codec before it.")
@options.SEED
@options.DEVICE
@options.FORCE
@options.reporting
def train_prior(
    console: Console,
    assets: Path,
    out: Path,
    work: Path | None,
    steps: int,
    codec_steps: int,
    seed: int,
    device: str,
    force: bool,
) -> None:
    """A prior from a folder of meshes with an index.csv, as the built-in one was made.

    An interrupted run goes on where it was, when it is started again.

    \b
    fieldcast morph train-prior meshes/ prior.safetensors
    """
    from fieldcast.fields.files.atomic import check_writable
    from fieldcast.morph.priors.builtin.training import Plan, train_prior

    check_writable(out, force)
    start, work = time.perf_counter(), work or out.with_name(f"{out.stem}-work")
    plan = Plan(steps, codec_steps, seed, chosen_device(device))
    with console.progress("train") as progress:
        prior = train_prior(assets, work, plan, progress)
    prior.save(out, force)
    facts = {
        "out": str(out),
        "bytes": out.stat().st_size,
        "seconds": round(time.perf_counter() - start, 1),
        **prior.made,
        "loss": prior.made["loss"][-1],
    }
    show(console, f"{out}: fieldcast morph A B OUT --prior {out}", facts)
