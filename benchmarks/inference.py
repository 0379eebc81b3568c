"""Whole-volume inference: ours against MONAI's bare `sliding_window_inference`, same windows and network.

python benchmarks/inference.py
"""

import os
import resource
import time
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from monai.inferers.utils import sliding_window_inference

from ct_assets.learning.models import inference
from ct_assets.learning.networks import dual_head
from ct_assets.settings.training import InferenceSettings
from ct_assets_tests.learning import tiny

SHAPE, PATCH = (96, 128, 128), (48, 64, 64)


def main() -> None:
    torch.set_num_threads(1)
    config = tiny.config(network={"kind": "unet", "channels": [8, 16, 32]})
    network = dual_head.build(config, classes=3, spacing_mm=(1.5, 1.5, 2.0), patch_size=PATCH).eval()
    image = torch.randn(1, *SHAPE)
    settings = InferenceSettings(overlap=0.5, windows_at_once=4)

    def ours() -> None:
        inference.run(network, image, patch_size=PATCH, settings=settings, stage_windows=4, outside=0.0)

    @torch.no_grad()
    def monai() -> None:
        sliding_window_inference(
            image[None], PATCH, 4, lambda w: network.backbone(w).mask_logits, overlap=0.5, mode="gaussian"
        )

    times: dict[str, list[float]] = {"MONAI, mask alone": [], "ours, mask and stage": []}
    for _ in range(3):
        for name, run in zip(times, (monai, ours), strict=True):
            started = time.process_time()
            run()
            times[name].append(time.process_time() - started)
    floor = median(times["MONAI, mask alone"])
    print(f"volume {SHAPE}, window {PATCH}, overlap 0.5\n{'':<24}{'CPU s':>8}{'ratio':>8}")
    for name, taken in times.items():
        print(f"{name:<24}{median(taken):>8.2f}{median(taken) / floor:>8.3f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
