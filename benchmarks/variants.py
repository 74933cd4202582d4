"""How large and how fast the nets of GFNet's authors are, by name: training and one picture, on one core.

    python benchmarks/variants.py [--sides 96 224] [--rounds 5]

Random weights, grey pictures, 28 classes, float32. The nets are measured in turn, so that what else the machine does
falls on all of them alike: the ratios are more reliable than the rates. Operations are those of the products, by
torch's counter; a multiply-add is two.
"""

import argparse
import statistics

import torch
from measuring import CLASSES, Inference, Step, flops, in_turn, markdown, number, one_thread

from gfnet_pl import GFNet
from gfnet_pl.model.arguments import VARIANTS
from gfnet_pl.run.record import machine

BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[96, 224], help="of the pictures, in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nets", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    values = parser.parse_args()
    torch.manual_seed(0)
    rows = []
    with one_thread():
        for side in values.sides:
            nets = {name: GFNet(image_size=side, num_classes=CLASSES, **VARIANTS[name]) for name in values.nets}
            steps = in_turn(
                {name: Step(net, BATCH, bf16=False, side=side) for name, net in nets.items()}, values.rounds
            )
            single = in_turn(
                {name: Inference(net, 1, bf16=False, side=side) for name, net in nets.items()}, values.rounds
            )
            for name, net in nets.items():
                rows.append(
                    [
                        name,
                        str(side),
                        number(sum(weights.numel() for weights in net.parameters()) / 1e6),
                        number(flops(net.eval(), side) / 1e9),
                        number(BATCH / statistics.median(steps[name])),
                        number(1000 * statistics.median(single[name])),
                    ]
                )
    print(machine())
    head = ["net", "pixels", "million weights", "GFLOP per picture", "training, pictures/s", "one picture, ms"]
    print(markdown(head, rows))


if __name__ == "__main__":
    main()
