"""What active learning gives: `--recipe active` and each of its levels beside `--recipe pvd`, on one teacher.

    .venv/bin/python benchmarks/active.py lego-hashgrid.safetensors --kinds vm,voxels,mlp --seeds 0,1
    .venv/bin/python benchmarks/active.py lego-hashgrid.safetensors --kinds vm --levels

CPU seconds are those of the conversion, all threads together, teacher included. Each run is compared with the teacher
on 8 views of its seed: mean and worst PSNR over the views, depth error in thousandths of a world unit, and the largest
hundredth of the absolute errors of colours, in 255ths. `active, same CPU` has as many steps as fit into the CPU time
that `pvd` took.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import measure
import torch

import fieldcast
from fieldcast.distill.active import Levels, active_training
from fieldcast.distill.convert import RECIPES, Recipe, convert
from fieldcast.distill.fidelity import compare, comparison_views
from fieldcast.fields.field import Field

ABLATION = {
    "no level": Levels(False, False, False),
    "poses alone": Levels(True, False, False),
    "rays alone": Levels(False, True, False),
    "points alone": Levels(False, False, True),
    "all but poses": Levels(False, True, True),
    "all but rays": Levels(True, False, True),
    "all but points": Levels(True, True, False),
}


@dataclass(frozen=True)
class Result:
    """One conversion, and how it came out."""

    name: str
    kind: str
    seed: int
    steps: int
    cpu: float
    psnr: float
    worst: float
    depth: float
    tail: float

    def row(self) -> list[object]:
        return [
            self.kind,
            self.name,
            self.seed,
            self.steps,
            f"{self.cpu:.1f}",
            f"{self.psnr:.2f}",
            f"{self.worst:.2f}",
            f"{1e3 * self.depth:.2f}",
            f"{255 * self.tail:.1f}",
        ]


def converted(teacher: Field, name: str, recipe: str, kind: str, seed: int, steps: int) -> Result:
    start = time.process_time()
    student = convert(teacher, kind, recipe=recipe, steps=steps, seed=seed)
    cpu = time.process_time() - start
    seen = compare(teacher, student, comparison_views(teacher, 8, seed))
    errors = torch.cat([(a.rgb.clamp(0, 1) - b.rgb.clamp(0, 1)).abs().flatten() for a, b in seen.pairs])
    tail = float(errors.kthvalue(round(0.99 * len(errors))).values)
    result = Result(name, kind, seed, steps, cpu, seen.psnr, min(seen.psnr_per_view), seen.depth_error, tail)
    measure.say("  ".join(map(str, result.row())))
    return result


def main() -> None:
    """See the module's own words."""
    fieldcast.prepare()  # as the command line does
    parser = measure.options(__doc__)
    parser.add_argument("teacher")
    parser.add_argument("--kinds", default="vm")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--levels", action="store_true", help="each level alone, and all but it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    teacher = fieldcast.open(options.teacher)
    for name, levels in ABLATION.items():
        RECIPES[name] = Recipe(partial(active_training, levels=levels), RECIPES["active"].steps)
    results = []
    for kind in options.kinds.split(","):
        convert(teacher, kind, recipe="active", steps=6)  # compiles what is not compiled yet
        for seed in map(int, options.seeds.split(",")):
            run = partial(converted, teacher, kind=kind, seed=seed)
            pvd, active = (run(name, name, steps=options.steps) for name in ("pvd", "active"))
            results += [pvd, active]
            if options.levels:
                results += [run(name, name, steps=options.steps) for name in ABLATION]
            else:
                fitting = round(options.steps * pvd.cpu / active.cpu)
                results.append(run("active, same CPU", "active", steps=fitting))
    heads = ["target", "recipe", "seed", "steps", "CPU s", "mean dB", "worst dB", "depth 1e-3", "1 % above"]
    print(f"{measure.table(heads, [result.row() for result in results])}\n\n{measure.machine()}")


if __name__ == "__main__":
    main()
