"""What float32 matmul precision "medium" does on this CPU: speed and error of a float32 product.

Both settings are measured alternately.

OMP_NUM_THREADS=1 python benchmarks/matmul_precision.py
"""

import statistics
import time

import torch

ROUNDS, WARM_UP = 22, 2


def main() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(9216, 256), torch.randn(256, 1024)
    exact = a.double() @ b.double()
    seconds: dict[str, list[float]] = {"highest": [], "medium": []}
    errors = {}
    for _ in range(ROUNDS):
        for precision, times in seconds.items():
            torch.set_float32_matmul_precision(precision)
            start = time.perf_counter()
            product = a @ b
            times.append(time.perf_counter() - start)
            errors[precision] = ((product - exact).norm() / exact.norm()).item()
    medians = {precision: statistics.median(times[WARM_UP:]) for precision, times in seconds.items()}
    for precision, median in medians.items():
        print(f"{precision}: {1000 * median:.1f} ms, relative error {errors[precision]:.1e}")
    print(f"medium is {medians['highest'] / medians['medium']:.2f} times as fast")


if __name__ == "__main__":
    main()
