"""The commands of nodule detection: evaluation by LUNA16's rules, LIDC-IDRI annotations, triage.

Belongs here: their options, a few lines each.
"""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Lung nodules: annotations, triage and LUNA16 evaluation.")


@app.command()
def froc(
    annotations: Annotated[
        Path, typer.Option(help="CSV of findings: seriesuid,coordX,coordY,coordZ,diameter_mm.")
    ],
    series: Annotated[Path, typer.Option(help="The evaluated series, one UID a line.")],
    marks: Annotated[Path, typer.Option(help="CSV of marks: seriesuid,coordX,coordY,coordZ,probability.")],
    output: Annotated[Path, typer.Option(help="The JSON to write.")],
    excluded: Annotated[
        Path | None,
        typer.Option(help="CSV of findings on which marks count neither way; without it CPM is too low."),
    ] = None,
    bootstraps: Annotated[int, typer.Option(min=0, help="Resamples of scans for the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resampling.")] = 0,
) -> None:
    """Evaluate a file of marks by the rules of LUNA16: FROC sensitivities, CPM, counts and intervals."""
    from ct_assets.systems.nodules import froc as evaluation

    result = evaluation.evaluate(annotations, excluded, series, marks, bootstraps=bootstraps, seed=seed)
    evaluation.write(output, result)
    print(evaluation.summary(result))


@app.command()
def triage(
    cases: Annotated[
        Path,
        typer.Argument(help="CSV: malignancy,diameter_mm,spiculation,texture,internal_structure,growing."),
    ],
    output: Annotated[Path, typer.Argument(help="The JSON to write.")],
) -> None:
    """Score nodules from 1 to 10 from their ratings, with the parts of each score."""
    from ct_assets.systems.nodules import triage as scores

    results = scores.of_file(cases)
    scores.write(output, results)
    scored = sum(result["score"] is not None for result in results)
    print(f"{scored} of {len(results)} rows scored: {output}")


@app.command()
def lidc(
    xml_dir: Annotated[Path, typer.Argument(help="A folder of LIDC-IDRI read messages (XML).")],
    output_dir: Annotated[Path, typer.Argument(help="Where the tables go.")],
    images: Annotated[Path, typer.Option(help="A folder of the DICOM images that the messages name.")],
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Worker processes; default: the cores.")
    ] = None,
) -> None:
    """Read LIDC-IDRI annotations: every reader's marks, and the nodules that they agree on."""
    from ct_assets.parallel import default_workers
    from ct_assets.systems.nodules import lidc_folder

    read = lidc_folder.run(xml_dir, output_dir, images, workers=workers or default_workers())
    used = sum(file.disposition == "read" for file in read)
    print(f"{used} of {len(read)} files read; see {output_dir / 'files.jsonl'}")


@app.command()
def demo() -> None:
    """Cross-validate the network on a phantom, beside the classical detector, and predict a scan with the result."""
    from ct_assets.systems.nodules.demo import run_demo

    run_demo()
