"""The commands of longitudinal nodules: `ct-assets longitudinal …`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="Exams of one patient over time: registration, tables, growth models."
)


class StageName(StrEnum):
    """What a registration may move."""

    rigid = "rigid"
    affine = "affine"
    bspline = "bspline"


@app.command()
def register(
    fixed: Annotated[Path, typer.Argument(help="NIfTI file or folder of one CT series.")],
    moving: Annotated[Path, typer.Argument(help="The image that is brought to FIXED.")],
    output_dir: Annotated[Path, typer.Argument(help="Where transform, image, boxes and report go.")],
    boxes: Annotated[
        Path | None, typer.Option(help="CSV box_id,x0,y0,z0,x1,y1,z1: LPS mm of MOVING.")
    ] = None,
    stage: Annotated[StageName, typer.Option(help="What may move.")] = StageName.rigid,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
) -> None:
    """Register MOVING to FIXED and say whether the result can be used."""
    from ct_assets.progress import Timings
    from ct_assets.reasons import explain
    from ct_assets.systems.longitudinal.register import run

    outcome = run(fixed, moving, output_dir, boxes_csv=boxes, stage=stage.value, seed=seed, timings=Timings())
    print(f"{outcome.status}: {output_dir / 'report.json'}")
    if outcome.reasons:
        print(explain(list(outcome.reasons)))


class PolicyName(StrEnum):
    """What a bad exam takes along."""

    exam = "exam"
    patient = "patient"


@app.command()
def tables(
    exams: Annotated[Path, typer.Argument(help="Exam table: CSV, parquet or pickle.")],
    tracking: Annotated[Path, typer.Argument(help="Nodule tracking table: CSV, parquet, .pt or .p.")],
    output_dir: Annotated[Path, typer.Argument(help="Where the tables go, as parquet.")],
    bad_exams: Annotated[
        Path | None, typer.Option(help="Bad exams: JSON lines with exam_id, or an identifier a line.")
    ] = None,
    policy: Annotated[
        PolicyName, typer.Option(help="Leave out the bad exam, or its patient.")
    ] = PolicyName.exam,
) -> None:
    """Choose exams, pair them and their nodules, and list every row that is left out."""
    from ct_assets.systems.longitudinal import build_tables

    counts = build_tables.run(exams, tracking, output_dir, bad_exams=bad_exams, policy=policy.value)
    for name, rows in sorted(counts.rows.items()):
        print(f"{name:<20} {rows:>8}")
    print(f"written to {output_dir}")


@app.command()
def registrations(
    tables_dir: Annotated[Path, typer.Argument(help="What `longitudinal tables` wrote.")],
    output_dir: Annotated[Path, typer.Argument(help="Where log, table and bad exams go.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder that nifti_path is relative to; else TABLES_DIR.")
    ] = None,
    given: Annotated[
        Path | None, typer.Option(help="Folder of rigid_f<fixed>_m<moving>.mat, .tfm or .txt.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Pairs side by side.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
) -> None:
    """Register every later kept exam to the patient's first one; run again, it goes on where it ended."""
    from ct_assets.systems.longitudinal import registrations as module

    written = module.write(tables_dir, output_dir, images=images, given_dir=given, workers=workers, seed=seed)
    print(f"{'registered now':<20} {written.registered_now:>8}")
    for name, count in sorted(written.statuses.items()):
        print(f"{name:<20} {count:>8}")
    if written.duplicates:
        print(f"not used, their pair is given twice: {', '.join(written.duplicates)}")


@app.command()
def toy(
    output_dir: Annotated[Path, typer.Argument(help="Where samples.npy and toy.json go.")],
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same samples.")] = 0,
) -> None:
    """Train flow matching between two 2-D Gaussians and sample from it: a check with a known answer."""
    from ct_assets.systems.longitudinal import toy as module

    result = module.write(output_dir, seed)
    print(f"{len(result.samples)} samples after {result.steps} steps in {result.seconds:.1f} s: {output_dir}")


@app.command()
def evaluate(
    experiment: Annotated[Path, typer.Argument(help="Folder of a trained paired flow model.")],
    patches: Annotated[
        Path | None, typer.Option(help="Folder of crops; by default `patches` beside the folder of models.")
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Where page and tables go; by default `reports/EXPERIMENT` beside the models."),
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
) -> None:
    """Compare a model's later volumes with the real ones and with every baseline; the page says where it loses."""
    from ct_assets.systems.longitudinal import evaluation, page, patch_store

    root = experiment.resolve().parent.parent
    crops = patches or root / "patches"
    folder = output_dir or root / "reports" / experiment.resolve().name
    done = evaluation.run(crops, experiment.resolve(), split=split)
    evaluation.write(done, folder)
    path = page.write(done, patch_store.read(crops, split), folder)
    for line in page.summary(done.report):
        print(line)
    print(path)


@app.command()
def demo() -> None:
    """Register, pair, train and evaluate invented patients with growing nodules, in a folder of its own."""
    from ct_assets.systems.longitudinal.demo import run

    run()
